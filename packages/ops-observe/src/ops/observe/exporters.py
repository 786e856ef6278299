"""Metrics for others to pull: Prometheus text, a prometheus-client collector, OpenTelemetry.

Nothing is pushed and nothing is kept twice: each of these reads the collector when it is asked.
Timers become summaries in seconds with the suffix `_seconds`, counters get `_total`.
Text format: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.foundation.helpers import LazyImport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ops.observe.metrics import MetricsCollector, MetricsSnapshot, Series
    from ops.observe.sketch import Stats

__all__ = ["PrometheusCollector", "observe_with_opentelemetry", "prometheus_text"]

_Labels: TypeAlias = tuple[tuple[str, str], ...]
_QUANTILES = (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"))


def prometheus_text(collector: MetricsCollector) -> str:
    """Return all metrics in Prometheus' text exposition format."""
    lines: list[str] = []
    for name, kind, samples in _families(collector.collect()):
        lines.append(f"# TYPE {name} {kind}")
        lines += [f"{n}{_label_text(labels)} {value!r}" for n, labels, value in samples]
    return "\n".join([*lines, ""])


class PrometheusCollector:
    """Give this to `prometheus_client.REGISTRY.register`; needs the extra `prometheus`."""

    def __init__(self, collector: MetricsCollector) -> None:
        self._collector = collector
        self._core: Any = LazyImport("prometheus_client.core", extra="ops-observe[prometheus]")

    def collect(self) -> Iterator[Any]:
        """Yield the metric families of prometheus-client."""
        for name, kind, samples in _families(self._collector.collect()):
            family = self._core.Metric(name.removesuffix("_total"), name, kind)
            for sample, labels, value in samples:
                family.add_sample(sample, dict(labels), value)
            yield family


def observe_with_opentelemetry(collector: MetricsCollector, meter: Any) -> Callable[[], None]:
    """Register observable instruments on an OpenTelemetry *meter*; needs the extra `otel`.

    OpenTelemetry asks for instruments by name, so call the result again after new names have
    appeared. Timers and histograms are observed as `NAME.count` and `NAME.sum`.
    """
    api: Any = LazyImport("opentelemetry.metrics", extra="ops-observe[otel]")
    known: set[str] = set()

    def observe(pick: Callable[[MetricsSnapshot], Mapping[Series, float]], name: str) -> Any:
        def callback(_: object) -> Iterable[Any]:
            for (series, tags), value in pick(collector.collect()).items():
                if series == name:
                    yield api.Observation(value, dict(tags))

        return [callback]

    def register() -> None:
        snapshot = collector.collect()
        for make, suffix, pick in (
            (meter.create_observable_counter, "", lambda s: s.counters),
            (meter.create_observable_gauge, "", lambda s: s.gauges),
            (meter.create_observable_counter, ".count", lambda s: _part(s.timers, "count")),
            (meter.create_observable_counter, ".sum", lambda s: _part(s.timers, "total")),
            (meter.create_observable_counter, ".count", lambda s: _part(s.histograms, "count")),
            (meter.create_observable_counter, ".sum", lambda s: _part(s.histograms, "total")),
        ):
            for name in {series for series, _ in pick(snapshot)}:
                instrument = _instrument_name(name) + suffix
                if instrument not in known:
                    known.add(instrument)
                    make(instrument, callbacks=observe(pick, name))

    register()
    return register


def _part(stats: Mapping[Series, Stats], field: str) -> dict[Series, float]:
    return {series: value[field] for series, value in stats.items()}


def _families(
    snapshot: MetricsSnapshot,
) -> Iterator[tuple[str, str, list[tuple[str, _Labels, float]]]]:
    """Yield name, kind and samples of each family, every name and every sample once.

    One family that is there twice makes Prometheus refuse the whole page.
    """
    taken: set[str] = set()

    def own(name: str, kind: str) -> str:
        while name in taken:
            name = f"{name}_{kind}"
        taken.add(name)
        return name

    for kind, suffix, plain in (
        ("counter", "_total", snapshot.counters),
        ("gauge", "", snapshot.gauges),
    ):
        for name, group in _grouped(plain):
            full = own(name if name.endswith(suffix) else name + suffix, kind)
            yield full, kind, [(full, labels, value) for labels, value in group]
    for suffix, sketched in (("_seconds", snapshot.timers), ("", snapshot.histograms)):
        for name, found in _grouped(sketched):
            full = own(name if name.endswith(suffix) else name + suffix, "summary")
            yield (
                full,
                "summary",
                [s for labels, stats in found for s in _summary(full, labels, stats)],
            )


def _summary(name: str, labels: _Labels, stats: Stats) -> Iterator[tuple[str, _Labels, float]]:
    for quantile, field in _QUANTILES:
        yield name, (*labels, ("quantile", quantile)), stats[field]
    yield f"{name}_sum", labels, stats.total
    yield f"{name}_count", labels, stats.count


def _grouped(series: Mapping[Series, Any]) -> Iterator[tuple[str, list[tuple[_Labels, Any]]]]:
    groups: dict[str, dict[_Labels, Any]] = {}
    for (name, tags), value in sorted(series.items(), key=lambda item: item[0]):
        group = groups.setdefault(_safe(name), {})
        labels = _labels(tags)
        # Two names may be one once they are safe; both are kept.
        group[labels if labels not in group else (*labels, ("original_name", name))] = value
    for name, members in groups.items():
        yield name, list(members.items())


def _labels(tags: _Labels) -> _Labels:
    """Return *tags* with names that Prometheus takes, each once; "quantile" is the summaries' own."""
    labels: dict[str, str] = {}
    for key, value in tags:
        name = _safe(key)
        while name in labels or name == "quantile":
            name += "_"
        labels[name] = value
    return tuple(labels.items())


def _safe(name: str) -> str:
    name = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return f"_{name}" if name[:1].isdigit() or not name else name


def _instrument_name(name: str) -> str:
    """Return *name* as OpenTelemetry's instrument name syntax allows it."""
    name = re.sub(r"[^a-zA-Z0-9_./-]", "_", name)[:249]
    return name if name[:1].isalpha() else f"n{name}"


def _label_text(labels: _Labels) -> str:
    if not labels:
        return ""
    quoted = (
        (k, v.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for k, v in labels
    )
    return "{" + ",".join(f'{k}="{v}"' for k, v in quoted) + "}"
