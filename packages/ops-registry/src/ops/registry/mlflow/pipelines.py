# mypy: disable-error-code="no-untyped-call"
"""Pipelines in MLflow: a run for the pipeline, and a nested one for each of its nodes.

Runs are named by their ids throughout; MLflow's current run, which is one per thread, is left alone.
So nodes may run in threads of their own, and a script that uses `mlflow.start_run` is not disturbed.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ops.registry.errors import described
from ops.registry.mlflow.helper import MLflowHelper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["MLflowPipelineTracker", "TrackedRun"]

_LONGEST_TAG = 5000


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run in MLflow that something is logged to, through *helper*; *run_id* is its id, *name* that of the block.

    Made by `MLflowPipelineTracker`.
    """

    helper: MLflowHelper
    run_id: str
    name: str

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, nested ones too."""
        self.helper.log_params(self.run_id, params)

    def log_metrics(self, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Log the numbers of one step."""
        self.helper.log_metrics(self.run_id, metrics, step)

    def log_artifact(self, path: str, artifact_path: str | None = None) -> None:
        """Log a file."""
        self.helper.client.log_artifact(self.run_id, path, artifact_path)

    def set_tag(self, key: str, value: object) -> None:
        """Set a tag."""
        self.helper.client.set_tag(self.run_id, key, str(value))


class MLflowPipelineTracker:
    """Tracks pipelines in one experiment, created when the first pipeline starts.

    *experiment_name* is the experiment; *tracking_uri* is MLflow's address (None: the current one);
    *tags* are set on each run; *clock* counts seconds.

    >>> tracker = MLflowPipelineTracker("nightly", "http://127.0.0.1:5000")  # doctest: +SKIP
    >>> with tracker.pipeline("train", {"rows": 1000}) as run:  # doctest: +SKIP
    ...     with tracker.node("fit", run) as node:
    ...         node.log_metrics({"auc": 0.9})
    """

    def __init__(
        self,
        experiment_name: str,
        tracking_uri: str | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.experiment_name = experiment_name
        self.helper: MLflowHelper = MLflowHelper(tracking_uri)
        self._tags = dict(tags or {})
        self._clock = clock

    def pipeline(
        self, name: str, parameters: Mapping[str, Any] | None = None, **tags: str
    ) -> contextlib.AbstractContextManager[TrackedRun]:
        """Run a block as a pipeline: FINISHED at its end, FAILED with the error when it raises.

        The run has *name*, *parameters* and *tags*.
        """
        return self._block(name, parameters, {"ops.pipeline": name, **tags})

    def node(
        self,
        name: str,
        pipeline: TrackedRun,
        parameters: Mapping[str, Any] | None = None,
        **tags: str,
    ) -> contextlib.AbstractContextManager[TrackedRun]:
        """Run a block as a node of the running *pipeline*, in any thread; its run has *name*, *parameters* and *tags*."""
        above = {"ops.node": name, MLFLOW_PARENT_RUN_ID: pipeline.run_id}
        return self._block(name, parameters, {**above, **tags})

    def start(
        self,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> TrackedRun:
        """Start a run that `end` ends, for those who cannot use a block; it has *name*, *parameters* and *tags*."""
        experiment = self.helper.get_or_create_experiment(self.experiment_name)
        recorded = {**self._tags, **(tags or {})}
        made = self.helper.client.create_run(experiment, tags=recorded, run_name=name)
        run = TrackedRun(self.helper, made.info.run_id, name)
        if parameters:
            run.log_params(parameters)
        return run

    def end(self, run: TrackedRun, error: BaseException | None = None) -> None:
        """End a run, as FAILED with the tag ``ops.error`` when there is an *error*."""
        if error is not None:
            run.set_tag("ops.error", described(error)[:_LONGEST_TAG])
        self.helper.client.set_terminated(run.run_id, "FINISHED" if error is None else "FAILED")

    @contextlib.contextmanager
    def _block(
        self, name: str, parameters: Mapping[str, Any] | None, tags: Mapping[str, str]
    ) -> Iterator[TrackedRun]:
        run = self.start(name, parameters, tags)
        began = self._clock()
        try:
            yield run
        except BaseException as error:
            # KeyboardInterrupt and SystemExit too: the run is over. What the block raised must
            # reach the caller, also when the server is no longer reachable.
            with contextlib.suppress(Exception):
                self.end(run, error)
            raise
        run.log_metrics({"duration_seconds": self._clock() - began})
        self.end(run)
