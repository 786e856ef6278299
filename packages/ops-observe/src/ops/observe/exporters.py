"""Metrics for others to pull: Prometheus and OpenMetrics text, a prometheus-client collector.

Nothing is pushed and nothing is kept twice: each of these reads the collector on each request.
Timers become summaries in seconds with the suffix `_seconds`, counters get `_total`, timers and histograms
with declared buckets become histograms. Names, labels and values are made what parsers accept: one
family, label or sample that is there twice makes Prometheus refuse the whole page.
Text formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4) and
https://github.com/prometheus/OpenMetrics (version 1.0.0).

OpenTelemetry is in `ops.observe.otel`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ops.foundation.helpers import LazyImport
from ops.observe.metrics import MetricDescription
from ops.observe.otel import observe_with_opentelemetry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ops.observe.metrics import MetricsSnapshot
    from ops.observe.shards import Series
    from ops.observe.sketch import Stats

__all__ = [
    "PrometheusCollector",
    "Source",
    "observe_with_opentelemetry",
    "openmetrics_text",
    "prometheus_text",
]

_Labels: TypeAlias = tuple[tuple[str, str], ...]
_Sample: TypeAlias = tuple[str, _Labels, float]
_QUANTILES = (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"))
#: What the samples of a family may be called, beside the family itself.
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "gauge": (),
    "summary": ("_sum", "_count", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
}
#: Labels that the formats use themselves.
_RESERVED = frozenset({"quantile", "le"})


class Source(Protocol):
    """What can be exported, such as a `MetricsCollector`."""

    def collect(self) -> MetricsSnapshot:
        """Return all series."""
        ...


@dataclass(slots=True)
class _Family:
    """Samples of one name; *name* is without the suffix of counters."""

    name: str
    kind: str
    description: MetricDescription
    samples: list[_Sample] = field(default_factory=list)


def prometheus_text(collector: Source) -> str:
    """Return all metrics of *collector* in Prometheus' text exposition format, version 0.0.4.

    >>> from ops.observe import MetricsCollector
    >>> metrics = MetricsCollector()
    >>> metrics.increment("requests", tags={"path": "/"})
    >>> print(prometheus_text(metrics), end="")
    # TYPE requests_total counter
    requests_total{path="/"} 1
    """
    lines: list[str] = []
    for family in _families(collector.collect()):
        name = family.name + ("_total" if family.kind == "counter" else "")
        if family.description.help:
            lines.append(f"# HELP {name} {_help_text(family.description.help)}")
        lines.append(f"# TYPE {name} {family.kind}")
        lines += map(_line, family.samples)
    return "\n".join([*lines, ""])


def openmetrics_text(collector: Source) -> str:
    """Return all metrics in the OpenMetrics text format."""
    lines: list[str] = []
    for family in _families(collector.collect()):
        lines.append(f"# TYPE {family.name} {family.kind}")
        unit = _safe(family.description.unit)
        if family.description.unit and family.name.endswith(f"_{unit}"):
            lines.append(f"# UNIT {family.name} {unit}")
        if family.description.help:
            text = _help_text(family.description.help).replace('"', r"\"")
            lines.append(f"# HELP {family.name} {text}")
        lines += [_line(sample) for sample in family.samples if _is_open(family, sample)]
    return "\n".join([*lines, "# EOF", ""])


class PrometheusCollector:
    """Give this to `prometheus_client.REGISTRY.register`; needs the extra `prometheus`."""

    def __init__(self, collector: Source) -> None:
        self._collector = collector
        self._core: Any = LazyImport("prometheus_client.core", extra="ops-observe[prometheus]")

    def collect(self) -> Iterator[Any]:
        """Yield the metric families of prometheus-client."""
        for family in _families(self._collector.collect()):
            found = self._core.Metric(family.name, family.description.help, family.kind)
            for sample, labels, value in family.samples:
                found.add_sample(sample, dict(labels), value)
            yield found


def _families(snapshot: MetricsSnapshot) -> Iterator[_Family]:
    """Yield the families, every name and every sample once."""
    taken: set[str] = set()
    sources: tuple[tuple[str, str, Mapping[Series, Any]], ...] = (
        ("counter", "", snapshot.counters),
        ("gauge", "", snapshot.gauges),
        ("timer", "seconds", snapshot.timers),
        ("histogram", "", snapshot.histograms),
    )
    for source, unit, series in sources:
        for name, original, members in _grouped(series):
            given = snapshot.descriptions.get(original, MetricDescription())
            description = MetricDescription(_clean(given.help), given.unit or unit)
            kind = source if source in {"counter", "gauge"} else "summary"
            if kind == "summary" and any(stats.buckets for _, stats in members):
                kind = "histogram"
            family = _Family(_claimed(name, kind, description.unit, taken), kind, description)
            for labels, value in members:
                family.samples += _samples(family.name, kind, labels, value)
            yield family


def _claimed(name: str, kind: str, unit: str, taken: set[str]) -> str:
    """Return a name whose samples no other family has, and take it."""
    if kind == "counter":
        name = name.removesuffix("_total") or name
    suffix = f"_{_safe(unit)}" if unit else ""
    name = name if name.endswith(suffix) else name + suffix
    original = name
    while taken.intersection(claims := {name, *(name + s for s in _SUFFIXES[kind])}):
        name = f"{name}_{kind}" if name == original else f"{name}_"
    taken.update(claims)
    return name


def _samples(name: str, kind: str, labels: _Labels, value: Any) -> Iterator[_Sample]:
    if kind == "counter":
        yield f"{name}_total", labels, value
    elif kind == "gauge":
        yield name, labels, value
    else:
        stats: Stats = value
        if kind == "histogram":
            # A series that came before the buckets were declared has only the last one.
            for bound, count in stats.buckets or ((math.inf, stats.count),):
                yield f"{name}_bucket", (*labels, ("le", _number(bound))), count
        else:
            for quantile, part in _QUANTILES:
                yield name, (*labels, ("quantile", quantile)), stats[part]
        yield f"{name}_sum", labels, stats.total
        yield f"{name}_count", labels, stats.count


def _is_open(family: _Family, sample: _Sample) -> bool:
    """Return whether OpenMetrics has a form for *sample*: it knows no negative observations.

    Where there are some, the sum may fall and is left out; with it, in a histogram, the count, which its
    last bucket repeats.
    """
    name, _, value = sample
    if family.kind not in {"summary", "histogram"}:
        return True
    if name == family.name:
        return value >= 0
    suffix = name.removeprefix(family.name)
    if suffix == "_bucket" or (suffix == "_count" and family.kind == "summary"):
        return True
    return not any(
        (n.endswith("_sum") and v < 0) or any(k == "le" and float(b) < 0 for k, b in marks)
        for n, marks, v in family.samples
    )


def _grouped(series: Mapping[Series, Any]) -> Iterator[tuple[str, str, list[tuple[_Labels, Any]]]]:
    """Yield each name as Prometheus takes it, one of the names that it was, and its samples."""
    groups: dict[str, tuple[str, dict[_Labels, Any]]] = {}
    for (name, tags), value in sorted(series.items(), key=lambda item: item[0]):
        _, group = groups.setdefault(_safe(name), (name, {}))
        labels = _labels(tags)
        while labels in group:
            # Two names, or two tags, may be one once they are safe; both are kept.
            labels = _apart(labels, name)
        group[labels] = value
    for safe, (original, members) in groups.items():
        yield safe, original, list(members.items())


def _apart(labels: _Labels, name: str) -> _Labels:
    known = dict(labels)
    if "original_name" not in known:
        return (*labels, ("original_name", _clean(name)))
    number = 2
    while known.get("duplicate") == str(number):
        number += 1
    return tuple(({**known, "duplicate": str(number)}).items())


def _labels(tags: tuple[tuple[str, str], ...]) -> _Labels:
    """Return *tags* with names that Prometheus takes, each once."""
    labels: dict[str, str] = {}
    for key, value in tags:
        name = _safe(key)
        while name in labels or name in _RESERVED or name.startswith("__"):
            # A name with two underscores in front is Prometheus' own.
            name = f"tag{name}" if name.startswith("__") else f"{name}_"
        labels[name] = _clean(value)
    return tuple(labels.items())


def _safe(name: object) -> str:
    text = re.sub(r"[^a-zA-Z0-9_]", "_", str(name))
    return f"_{text}" if text[:1].isdigit() or not text else text


def _clean(text: str) -> str:
    """Return *text* without what UTF-8 cannot hold (parts of names that are none), and without NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", r"\x00")


def _line(sample: _Sample) -> str:
    name, labels, value = sample
    return f"{name}{_label_text(labels)} {_number(value)}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def _help_text(text: str) -> str:
    return _one_line(text.replace("\\", r"\\"))


def _label_text(labels: _Labels) -> str:
    if not labels:
        return ""
    quoted = ((k, _one_line(v.replace("\\", r"\\").replace('"', r"\""))) for k, v in labels)
    return "{" + ",".join(f'{k}="{v}"' for k, v in quoted) + "}"


def _one_line(text: str) -> str:
    # Parsers split lines at \n only, and some readers at the others too.
    return text.replace("\n", r"\n")
