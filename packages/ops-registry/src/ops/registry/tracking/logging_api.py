"""Logging to runs: metrics, parameters and tags, each a frame in the journal of this process.

This is the path that training loops are on. It formats, appends and notifies; it never reads.
"""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.registry.errors import InvalidValueError
from ops.registry.events import EventType, HookType
from ops.registry.instants import is_kept, to_ns
from ops.registry.operations import reported
from ops.registry.plain_values import plain_parameters
from ops.registry.run_frames import ParametersLogged, TagsSet
from ops.registry.tracking.metric_encoding import encoded_point, plain_point, points_body
from ops.registry.tracking.run_access import RunAccess
from ops.registry.validators import check_key, check_mapping, text_tags

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

    from ops.registry.tracking.system_metrics import SystemMetrics

__all__ = ["RunLogger"]


#: What hooks of a metric may not change: another run is another call.
_FIXED = ("run_id",)


class RunLogger(RunAccess):
    """Appends to runs; when a call returns, a kill of the process cannot take it back."""

    def log_metric(
        self,
        run_id: str,
        key: str,
        value: float,
        step: int = 0,
        timestamp: dt.datetime | None = None,
    ) -> None:
        """Log *value* (NaN and infinities too) as the metric *key* of *run_id* at *step*.

        When this returns, a kill cannot lose it. A *timestamp* (default: now) must be aware: which
        time zone one without was meant in cannot be known later. Raises `RunNotFoundError`, and
        `InvalidValueError` for a key or step that is none and for a naive timestamp.
        """
        operations = self._operations
        data: dict[str, Any] = {"run_id": run_id, "key": key, "value": value, "step": step}
        try:
            data = operations.before(HookType.PRE_METRIC_LOG, data, fixed=_FIXED)
            when = self._runs.now(run_id) if timestamp is None else _nanoseconds(timestamp)
            name = data["key"]
            plain, step = plain_point(name, data["value"], data["step"])
            body = points_body((encoded_point(name, plain, step, when),))
            self._runs.append_points(run_id, ((name, plain, step, when),), body)
        except Exception as error:
            operations.failed("log_metric", error)  # not `reported`: training loops wait for this
            raise
        operations.after(EventType.METRIC_LOGGED, data, hook=HookType.POST_METRIC_LOG)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log *metrics*, values by key, of *run_id* at one *step* in one frame: all of them are kept, or none."""
        found = check_mapping("metrics", metrics).items()
        self.log_batch(run_id, metrics=[(key, value, step) for key, value in found])

    @reported
    def log_batch(
        self,
        run_id: str,
        metrics: Iterable[tuple[str, float, int]] = (),
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log *metrics*, as ``(key, value, step)`` triples, in one frame, and parameters and tags in one each.

        *run_id* is the run; *parameters* are JSON values and *tags* texts, by key. All of it is checked
        before any of it is written: raises `InvalidValueError` for what cannot be kept.
        """
        when = self._runs.now(run_id)
        requested = [
            {"run_id": run_id, "key": k, "value": v, "step": s} for k, v, s in _triples(metrics)
        ]
        points = self._operations.before_each(HookType.PRE_METRIC_LOG, requested, fixed=_FIXED)
        plain = [(p["key"], *plain_point(p["key"], p["value"], p["step"])) for p in points]
        parameters, tags = plain_parameters("parameters", parameters), text_tags(tags)
        if points:
            text = str(when)  # the same for all, so written out once
            body = points_body(encoded_point(*one, text) for one in plain)
            self._runs.append_points(run_id, [(*one, when) for one in plain], body)
            after = HookType.POST_METRIC_LOG
            self._operations.after_each(EventType.METRIC_LOGGED, points, hook=after)
        if parameters:
            self.log_parameters(run_id, parameters)
        if tags:
            self.set_tags(run_id, tags)

    def log_parameter(self, run_id: str, key: str, value: Any) -> None:
        """Log *value*, any JSON value (see `ops.registry.plain_values`), as the parameter *key* of *run_id*.

        Logged again, the later one counts.
        """
        self.log_parameters(run_id, {key: value})

    @reported
    def log_parameters(self, run_id: str, parameters: Mapping[str, Any]) -> None:
        """Log parameters in one frame."""
        given = plain_parameters("parameters", parameters)
        self._runs.append(run_id, ParametersLogged(given, time_ns()))
        data = {"run_id": run_id, "parameters": given}
        self._done(EventType.PARAMETER_LOGGED, data)

    def set_tag(self, run_id: str, key: str, value: object) -> None:
        """Set the tag *key* of *run_id* to the text of *value*, also of a run that has ended."""
        self.set_tags(run_id, {key: value})

    @reported
    def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
        """Set tags in one frame."""
        texts = text_tags(tags)
        self._runs.append(run_id, TagsSet(texts, time_ns()))
        self._done(EventType.TAG_SET, {"run_id": run_id, "tags": texts})

    @reported
    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove one tag of a run, also of one that has ended; one that is not there is no error."""
        self._runs.append(run_id, TagsSet({check_key(key): None}, time_ns()))
        self._done(EventType.TAG_DELETED, {"run_id": run_id, "key": key})

    def log_system_metrics(self, run_id: str, *, interval_seconds: float = 10.0) -> SystemMetrics:
        """Return what logs CPU and memory of *run_id* in the background while its ``with`` block runs.

        A sample is taken every *interval_seconds*. Raises `RunNotFoundError`, and `InvalidValueError` for an interval
        that is not positive.
        """
        self._runs.home(run_id)  # or an unknown run would be noticed by the thread alone
        from ops.registry.tracking.system_metrics import SystemMetrics

        return SystemMetrics(self, run_id, interval_seconds=interval_seconds)


def _triples(metrics: Iterable[tuple[str, float, int]]) -> list[tuple[str, float, int]]:
    """Return the metrics of a batch, or refuse those that have another shape."""
    try:
        return [(key, value, step) for key, value, step in metrics]
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"metrics of a batch are (key, value, step) triples, not {metrics!r:.120}.",
            suggestions=("log_metrics takes values by key, all at one step.",),
        ) from error


def _nanoseconds(timestamp: dt.datetime) -> int:
    try:
        found = to_ns(timestamp)
    except TypeError as error:
        raise InvalidValueError(
            f"timestamp must be a datetime with a time zone, not {timestamp!r:.80}.",
            suggestions=("datetime.now(UTC) has one.",),
        ) from error
    if not is_kept(found):
        raise InvalidValueError(
            f"timestamp is between 1677 and 2262, as 64 bits of nanoseconds are, not {timestamp!r:.80}."
        )
    return found
