"""What `define_metric` asks for: over which metric another one goes, and what stands for it in the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ops.registry.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ops.registry.records import Metric as Point
    from ops.registry.records import MetricSummary

__all__ = ["LARGEST_STEP", "Metric", "Rules", "summarized"]

_SUMMARIES = ("min", "max", "mean", "last", "first", "none", "copy", "best")
#: Of 64 bits, less one: the step after it is one too.
LARGEST_STEP = 2**63 - 2


class Metric(NamedTuple):
    """A metric, or with "*" at the end all whose names begin so, as `define_metric` defined it.

    *step_metric* is the metric that it goes over, and *summary* what is computed of it; None leaves it as it was.
    """

    name: str
    step_metric: str | None = None
    summary: tuple[str, ...] | None = None

    def is_about(self, key: str) -> bool:
        """Whether the metric *key* is meant."""
        return key == self.name or (self.name.endswith("*") and key.startswith(self.name[:-1]))


class Rules:
    """All definitions of a run, of which the last about a metric counts, and one of its own name before patterns."""

    def __init__(self) -> None:
        self._metrics: list[Metric] = []

    def add(
        self,
        name: str,
        step_metric: str | Metric | None,
        summary: str | None,
        goal: str | None,
        *,
        overwrite: bool,
    ) -> Metric:
        """Add a definition; with *overwrite* earlier ones of that name go."""
        given: object = name
        if not isinstance(given, str) or not given or "*" in given[:-1]:
            raise InvalidValueError(
                f"A metric is named by a text, with at most one '*' at its end, not {name!r:.80}."
            )
        over = step_metric.name if isinstance(step_metric, Metric) else step_metric
        if over is not None and not isinstance(over, str):
            raise InvalidValueError(f"step_metric is the name of a metric, not {over!r:.80}.")
        metric = Metric(name, over, _operations(summary, goal))
        if overwrite:
            self._metrics = [one for one in self._metrics if one.name != name]
        self._metrics.append(metric)
        return metric

    def summary_of(self, key: str) -> tuple[str, ...] | None:
        """Return what is computed of a metric, None when nothing is defined."""
        return next((m.summary for m in self._about(key) if m.summary is not None), None)

    def step_of(self, key: str, at: int, last: dict[str, float]) -> int:
        """Return the step of a point: the value of the metric that it goes over, when that is a step at all."""
        over = next((m.step_metric for m in self._about(key) if m.step_metric is not None), None)
        value = None if over is None or over == key else last.get(over)
        if value is None or not value.is_integer() or abs(value) > LARGEST_STEP:
            return at
        return int(value)

    def _about(self, key: str) -> list[Metric]:
        found = [metric for metric in reversed(self._metrics) if metric.is_about(key)]
        return sorted(found, key=lambda metric: metric.name != key)


def summarized(
    key: str,
    one: MetricSummary,
    operations: Sequence[str] | None,
    history: Callable[[], Sequence[Point]],
) -> dict[str, float]:
    """Return what stands for a metric: its last value, or with *operations* one value each, named "key.operation"."""
    if operations is None or "copy" in operations:
        return {key: one.last}
    found = {}
    for name in operations:
        if name in {"min", "max"}:
            found[f"{key}.{name}"] = one.minimum if name == "min" else one.maximum
        elif name in {"best.min", "best.max"}:
            found[f"{key}.best"] = one.minimum if name == "best.min" else one.maximum
        elif name == "last":
            found[f"{key}.last"] = one.last
        elif name == "first":
            found[f"{key}.first"] = history()[0].value
        elif name == "mean":
            values = [point.value for point in history()]
            found[f"{key}.mean"] = sum(values) / len(values)
    return found


def _operations(summary: str | None, goal: str | None) -> tuple[str, ...] | None:
    if goal not in {None, "minimize", "maximize"}:
        raise InvalidValueError(f"goal={goal!r:.40} is not 'minimize' or 'maximize'.")
    if summary is None:
        return None
    names = [one.strip().lower() for one in str(summary).split(",")]
    unknown = [one for one in names if one not in _SUMMARIES]
    if unknown:
        raise InvalidValueError(
            f"summary={unknown[0]!r:.40} is not kept; use some of {list(_SUMMARIES)}."
        )
    best = "best.max" if goal == "maximize" else "best.min"
    return tuple(best if one == "best" else one for one in names)
