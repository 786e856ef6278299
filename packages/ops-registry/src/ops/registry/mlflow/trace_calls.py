# mypy: disable-error-code="no-untyped-call"
# (MLflow's entities and validators are not annotated throughout)
"""What MLflow asks a tracking store about single traces: log them, change them, link them, get and delete them."""

from __future__ import annotations

import collections
import json
import time
from typing import TYPE_CHECKING, Any

from mlflow.entities import Trace, TraceData
from mlflow.entities.span import LazySpan
from mlflow.entities.trace_info_v2 import TraceInfoV2
from mlflow.exceptions import MlflowTracingException
from mlflow.store.tracking import MAX_TRACE_LINKS_PER_REQUEST
from mlflow.tracing.constant import (
    SpansLocation,
    TraceMetadataKey,
    TraceSizeStatsKey,
    TraceTagKey,
)
from mlflow.tracing.utils import generate_request_id_v2
from mlflow.utils.validation import _validate_trace_tag

from ops.registry.mlflow.entities import to_experiment
from ops.registry.mlflow.errors import invalid, missing
from ops.registry.mlflow.logged_model_calls import LoggedModelCalls
from ops.registry.mlflow.trace_entities import (
    as_texts,
    assessment_fields,
    checked_name,
    checked_session,
    given_sums,
    to_trace_info,
)
from ops.registry.mlflow.trace_spans import batch_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow.entities import Span, TraceInfo
    from mlflow.entities.model_registry import PromptVersion
    from mlflow.entities.trace_status import TraceStatus

    from ops.registry.traces.book import TraceBook
    from ops.registry.traces.state import Trace as KeptTrace

__all__ = ["TraceCalls"]

#: Seconds before a trace is looked at again whose spans have not all come.
WAITS = (1.0, 2.0)


class TraceCalls(LoggedModelCalls):
    """Logs, changes and returns traces."""

    traces: TraceBook

    def start_trace(self, trace_info: TraceInfo) -> TraceInfo:
        """Log what is known of a trace but its spans; one that is there takes it over."""
        checked_name(trace_info.tags.get(TraceTagKey.TRACE_NAME))
        home = self._home(self._active(trace_info.experiment_id).experiment_id)
        trace_id = trace_info.trace_id
        known = self.traces.recent(trace_id)
        if known is not None and known.experiment_id != home:
            self.traces.move(known, home)
        info = {
            "time": trace_info.request_time,
            "duration": trace_info.execution_duration,
            "state": trace_info.state.value,
            "client": trace_info.client_request_id,
            "request": trace_info.request_preview,
            "response": trace_info.response_preview,
            "tags": as_texts(trace_info.tags),
            **_metadata(trace_info.trace_metadata),
            "assessments": [assessment_fields(one) for one in trace_info.assessments],
            "final": True,
        }
        # MLflow's word for it, which its pages and clients may look for.
        info["metadata"][TraceMetadataKey.TRACE_INFO_FINALIZED] = "true"
        self.traces.append(home, {"op": "start", "id": trace_id, "info": info})
        return self._info(self._trace(trace_id, home))

    def log_spans(
        self,
        location: str,
        spans: list[Span],
        tracking_uri: str | None = None,  # noqa: ARG002 - MLflow's signature
    ) -> list[Span]:
        """Log spans, of one trace or several, with one write per experiment; *location* is the id of theirs if they are new."""
        by_trace: dict[str, list[Span]] = collections.defaultdict(list)
        for span in spans:
            by_trace[span.trace_id].append(span)
        frames = {trace_id: batch_frame(trace_id, ours) for trace_id, ours in by_trace.items()}
        homes: dict[str, list[Any]] = collections.defaultdict(list)
        for trace_id, frame in frames.items():
            known = self.traces.recent(trace_id)
            homes[self._home(location) if known is None else known.experiment_id].append(frame)
        for home, ours in homes.items():
            self.traces.append_spans(home, ours)
        return spans

    def get_trace_info(self, trace_id: str) -> TraceInfo:
        """Return what is known of a trace but its spans."""
        return self._info(self._trace(trace_id))

    def batch_get_trace_infos(
        self,
        trace_ids: list[str],
        location: str | None = None,  # noqa: ARG002 - MLflow's signature
        experiment_ids: list[str] | None = None,
    ) -> list[TraceInfo]:
        """Return what is known of traces; those that are not there, or not in *experiment_ids*, are left out."""
        return [self._info(found) for found in self._those(trace_ids, experiment_ids)]

    def get_trace(self, trace_id: str, *, allow_partial: bool = False) -> Trace:
        """Return a trace with its spans; unless *allow_partial* it waits up to three seconds for spans that have not come."""
        for wait in (*WAITS, None):
            found = self._whole(self._trace(trace_id), allow_partial=allow_partial)
            if found is not None:
                return found
            if wait is not None:
                time.sleep(wait)
        raise missing(
            f"Trace with ID {trace_id} is not fully exported yet, please try again later."
        )

    def batch_get_traces(
        self,
        trace_ids: list[str],
        location: str | None = None,  # noqa: ARG002 - MLflow's signature
        experiment_ids: list[str] | None = None,
    ) -> list[Trace]:
        """Return whole traces; those that are not there, or whose spans have not all come, are left out."""
        found = (
            self._whole(one, allow_partial=False) for one in self._those(trace_ids, experiment_ids)
        )
        return [one for one in found if one is not None and one.data.spans]

    def set_trace_tag(self, trace_id: str, key: str, value: str) -> None:
        """Set a tag."""
        sound, text = _validate_trace_tag(key, value)
        if sound == TraceTagKey.TRACE_NAME:
            text = checked_name(text)
        self.traces.change(self._trace(trace_id), "tags", tags={str(sound): str(text)})

    def delete_trace_tag(self, trace_id: str, key: str) -> None:
        """Remove a tag."""
        known = self._trace(trace_id)
        if key not in known.tags:
            raise missing(f"No trace tag with key '{key}' for trace with ID '{trace_id}'")
        self.traces.change(known, "tags", tags={key: None})

    def _delete_traces(
        self,
        experiment_id: str,
        max_timestamp_millis: int | None = None,
        max_traces: int | None = None,
        trace_ids: list[str] | None = None,
    ) -> int:
        """Delete traces by their ids, or the oldest up to a time; return how many."""
        wanted = None if trace_ids is None else set(trace_ids)
        found = [
            one
            for one in self.traces.of([str(experiment_id)])
            if (max_timestamp_millis is None or one.time <= max_timestamp_millis)
            and (not wanted or one.trace_id in wanted)
        ]
        found.sort(key=lambda one: (one.time, one.trace_id))
        gone = found if max_traces is None else found[:max_traces]
        frames = [{"op": "gone", "id": one.trace_id} for one in gone]
        if frames:
            self.traces.append(str(experiment_id), *frames)
        return len(gone)

    def link_traces_to_run(self, trace_ids: list[str], run_id: str) -> None:
        """Link traces to a run, so that a search for the run finds them."""
        if len(trace_ids) > MAX_TRACE_LINKS_PER_REQUEST:
            raise invalid(
                f"Cannot link more than {MAX_TRACE_LINKS_PER_REQUEST} traces to a run in "
                f"a single request. Provided {len(trace_ids)} traces."
            )
        self._link(trace_ids, run_id, "link")

    def unlink_traces_from_run(self, trace_ids: list[str], run_id: str) -> None:
        """Undo `link_traces_to_run`."""
        self._link(trace_ids, run_id, "unlink")

    def link_prompts_to_trace(self, trace_id: str, prompt_versions: list[PromptVersion]) -> None:
        """Link versions of prompts to a trace, so that a search for them finds it."""
        if prompt_versions:
            prompts = [f"{one.name}/{one.version}" for one in prompt_versions]
            self.traces.change(self._trace(trace_id), "prompt", prompts=prompts)

    def deprecated_start_trace_v2(
        self,
        experiment_id: str,
        timestamp_ms: int,
        request_metadata: dict[str, str],
        tags: dict[str, str],
    ) -> TraceInfoV2:
        """Begin a trace of MLflow 2 in *experiment_id*, whose spans its client keeps as an artifact.

        *timestamp_ms* is milliseconds since 1970; *request_metadata* and *tags* are texts by name.
        """
        checked_name(tags.get(TraceTagKey.TRACE_NAME))
        home = self._home(self._active(experiment_id).experiment_id)
        trace_id = generate_request_id_v2()
        info = {
            "time": timestamp_ms,
            "duration": None,
            "state": "IN_PROGRESS",
            "client": None,
            "request": None,
            "response": None,
            "tags": as_texts(tags),
            **_metadata(request_metadata),
            "assessments": [],
            "final": False,
        }
        self.traces.append(home, {"op": "start", "id": trace_id, "info": info})
        return TraceInfoV2.from_v3(self._info(self._trace(trace_id, home)))

    def deprecated_end_trace_v2(
        self,
        request_id: str,
        timestamp_ms: int,
        status: TraceStatus,
        request_metadata: dict[str, str],
        tags: dict[str, str],
    ) -> TraceInfoV2:
        """End the trace *request_id* of MLflow 2 with *status*, at *timestamp_ms* (milliseconds since 1970).

        *request_metadata* and *tags* are added to those it began with.
        """
        checked_name(tags.get(TraceTagKey.TRACE_NAME))
        info = {
            "end": timestamp_ms,
            "state": str(status.to_state().value),
            "tags": as_texts(tags),
            **_metadata(request_metadata),
        }
        self.traces.change(self._trace(request_id), "end", info=info)
        return TraceInfoV2.from_v3(self.get_trace_info(request_id))

    def _home(self, experiment_id: str) -> str:
        """Return the id of an experiment that is written down; raises MLflow's error when there is none."""
        home = self._experiment(experiment_id).experiment_id
        self.book.materialize(home)
        return home

    def _trace(self, trace_id: str, home: str | None = None) -> KeptTrace:
        found = (
            self.traces.find(trace_id) if home is None else self.traces.journal(home).get(trace_id)
        )
        if found is None:
            raise missing(f"Trace with ID '{trace_id}' not found.")
        return found

    def _those(self, trace_ids: Iterable[str], experiment_ids: list[str] | None) -> list[KeptTrace]:
        scope = None if experiment_ids is None else set(map(str, experiment_ids))
        found = map(self.traces.find, dict.fromkeys(trace_ids))
        return [
            one
            for one in found
            if one is not None and (scope is None or one.experiment_id in scope)
        ]

    def _info(self, trace: KeptTrace) -> TraceInfo:
        known = self.book.experiment(trace.experiment_id)
        artifacts = to_experiment(known, self.book.artifacts).artifact_location
        journal = self.traces.journal(trace.experiment_id)
        return to_trace_info(trace, artifacts, lambda: journal.spans(trace, contents=False))

    def _whole(self, trace: KeptTrace, *, allow_partial: bool) -> Trace | None:
        """Return a trace with its spans, None if they have not all come."""
        info = self._info(trace)
        if info.tags.get(TraceTagKey.SPANS_LOCATION) != SpansLocation.TRACKING_STORE.value:
            # MLflow's clients and server then look among the artifacts.
            raise MlflowTracingException("Trace data not stored in tracking store")
        kept = self.traces.journal(trace.experiment_id).spans(trace)
        kept.sort(key=lambda span: (span.parent_id is not None, span.start))
        stats = info.trace_metadata.get(TraceMetadataKey.SIZE_STATS)
        expected = json.loads(stats).get(TraceSizeStatsKey.NUM_SPANS, 0) if stats else 1
        if len(kept) < max(expected, 1) and not allow_partial:
            return None
        return Trace(info, TraceData([LazySpan.from_stored_content(span.content) for span in kept]))

    def _link(self, trace_ids: Iterable[str], run_id: str, operation: str) -> None:
        """Write that traces are linked to a run, or not; one that was not logged yet is noted where the run is."""
        by_home: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
        for trace_id in dict.fromkeys(trace_ids):
            known = self.traces.find(trace_id)
            home = self._row(run_id).experiment_id if known is None else known.experiment_id
            by_home[home].append({"op": operation, "id": trace_id, "run": run_id})
        for home, frames in by_home.items():
            self.traces.append(home, *frames)


def _metadata(given: Mapping[str, str]) -> dict[str, Any]:
    """Return metadata as a frame keeps them: numbers of tokens and costs apart."""
    metadata = as_texts(given)
    sums = given_sums(metadata)
    if TraceMetadataKey.TRACE_SESSION in metadata:
        checked_session(metadata[TraceMetadataKey.TRACE_SESSION])
    return {"metadata": metadata, **sums}
