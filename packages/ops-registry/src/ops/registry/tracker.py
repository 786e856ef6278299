"""Experiment tracking: every call is on disk when it returns, and reading needs no running writer.

The tracker itself keeps almost nothing: which journal this process appends to for which run. What a
run comes to is always read back from its journals (`runlog`), which runs there are from the index
(`runindex`). pandas and pyarrow are loaded by `compare_runs` and `compact`, never by logging.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import secrets
import time
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.ids import generate_uuid7
from ops.registry import artifacts
from ops.registry.errors import (
    AlreadyExistsError,
    ArtifactNotFoundError,
    ExperimentNotFoundError,
    InvalidValueError,
)
from ops.registry.events import EventType, HookType
from ops.registry.experiments import ExperimentLedger, check_key, check_name
from ops.registry.following import follow
from ops.registry.journal import JournalWriter, encode
from ops.registry.operations import Operations
from ops.registry.records import RunStatus
from ops.registry.runlog import FORMAT, MAIN, RunReader, journal_path, load_state, point, to_run
from ops.registry.runsearch import select, to_table
from ops.registry.runstore import RunStore, owner, with_liveness

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas as pd

    from ops.foundation.files import StrPath
    from ops.registry.records import Artifact, Experiment, Metric, Run

__all__ = ["ExperimentTracker"]

logger = logging.getLogger("ops.registry")


class ExperimentTracker:
    """Experiments and runs below one folder; threads and processes may share the folder.

    With ``durability="commit"`` each call also waits for the disk; the default, "process", survives
    the death of the process but not of the machine.
    """

    def __init__(
        self,
        root: StrPath,
        *,
        operations: Operations | None = None,
        durability: str = "process",
    ) -> None:
        if durability not in {"process", "commit"}:
            raise InvalidValueError(f"durability={durability!r} is unknown; use process or commit.")
        self.root = pathlib.Path(root).absolute()
        self._durable = durability == "commit"
        self._operations = operations or Operations()
        self._experiments = ExperimentLedger(self.root / "experiments", durable=self._durable)
        self._artifacts = self.root / "artifacts"
        self._store = RunStore(self.root, self._experiments, durable=self._durable)

    # Experiments

    def create_experiment(
        self, name: str, description: str = "", tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """Create an experiment; a name that is taken is an `AlreadyExistsError`."""
        made = self._experiments.create(name, description, tags or {})
        data = {"experiment_id": made.experiment_id, "name": name}
        self._operations.after(
            EventType.EXPERIMENT_CREATED, data, resource=f"experiment:{made.experiment_id}"
        )
        return made

    def get_or_create_experiment(self, name: str, description: str = "") -> Experiment:
        """Return the experiment *name*, created now if need be, also when others try the same."""
        try:
            return self._experiments.named(name)
        except ExperimentNotFoundError:
            with contextlib.suppress(AlreadyExistsError):
                return self.create_experiment(name, description)
            return self._experiments.named(name)

    def get_experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment by its id."""
        return self._experiments.get(experiment_id)

    def get_experiment_by_name(self, name: str) -> Experiment:
        """Return an experiment by its name."""
        return self._experiments.named(name)

    def list_experiments(self) -> list[Experiment]:
        """Return all experiments, oldest first."""
        return self._experiments.all()

    # The life of a run

    def start_run(
        self,
        experiment_id: str,
        name: str | None = None,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a run, which others see at once; end it with `end_run`, or use `run_context`."""
        self.get_experiment(experiment_id)
        if parent_run_id is not None:
            self._store.home(parent_run_id)
        asked: dict[str, Any] = {
            "experiment_id": experiment_id,
            "name": name,
            "parent_run_id": parent_run_id,
            "tags": dict(tags or {}),
        }
        asked = self._operations.before(HookType.PRE_RUN_START, asked)
        run_id = generate_uuid7().replace("-", "")
        title = f"run-{run_id[-8:]}" if asked["name"] is None else asked["name"]
        check_name("a run", title)
        folder = self._store.folder(experiment_id)
        texts = {check_key(k): str(v) for k, v in asked["tags"].items()}
        given = {check_key(k): v for k, v in (parameters or {}).items()}
        encode(given)  # refuse now what JSON cannot hold
        folder.mkdir(parents=True, exist_ok=True)
        journal = JournalWriter(journal_path(folder, run_id, MAIN), durable=self._durable)
        start = {
            "e": "start",
            "v": FORMAT,
            "run": run_id,
            "exp": experiment_id,
            "name": title,
            "t": time_ns(),
            "parent": parent_run_id,
            "o": owner(),
            "tags": texts,
        }
        journal.append(start)
        if given:
            journal.append({"p": given, "t": time_ns()})
        row = RunReader(folder, run_id).poll().row
        self._store.index(experiment_id).put(row)
        self._store.started(run_id, experiment_id, journal)
        data = {"run_id": run_id, "experiment_id": experiment_id, "name": title}
        self._done(EventType.RUN_STARTED, data, HookType.POST_RUN_START)
        return to_run(row, self._artifacts)

    def end_run(
        self, run_id: str, status: RunStatus = RunStatus.COMPLETED, error: str | None = None
    ) -> Run:
        """End a run with a final status and write its JSON view."""
        status = RunStatus(status)
        if not status.is_final:
            raise InvalidValueError(f"A run cannot end as {status}.")
        home = self._store.home(run_id)
        asked = {
            "run_id": run_id,
            "experiment_id": home,
            "status": str(status),
            "error": error,
        }
        asked = self._operations.before(HookType.PRE_RUN_END, asked)
        end = {"e": "end", "status": str(status), "t": time_ns(), "error": error}
        self._store.append(run_id, end)
        reader = RunReader(self._store.folder(home), run_id)
        row = reader.poll().row
        reader.write_view()
        self._store.index(home).put(row)
        self._store.release(run_id)
        failed = status is RunStatus.FAILED
        self._done(EventType.RUN_ENDED, asked, HookType.POST_RUN_END)
        self._done(EventType.RUN_FAILED if failed else EventType.RUN_COMPLETED, asked)
        return to_run(row, self._artifacts)

    @contextlib.contextmanager
    def run_context(
        self,
        experiment_id: str,
        name: str | None = None,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Iterator[Run]:
        """Start a run for a block: COMPLETED at its end, FAILED with the error when it raises."""
        run = self.start_run(experiment_id, name, parent_run_id, tags, parameters)
        try:
            yield run
        except BaseException as error:
            # KeyboardInterrupt and SystemExit too: the run is over, and its record should say so.
            try:
                self.end_run(run.run_id, RunStatus.FAILED, f"{type(error).__name__}: {error}")
            except Exception:
                logger.exception("run %s failed, and its end could not be written", run.run_id)
            raise
        self.end_run(run.run_id)

    # Logging

    def log_metric(
        self,
        run_id: str,
        key: str,
        value: float,
        step: int = 0,
        timestamp: dt.datetime | None = None,
    ) -> None:
        """Log one value (NaN and infinities too); when this returns, a kill cannot lose it."""
        data = self._operations.before(
            HookType.PRE_METRIC_LOG, {"run_id": run_id, "key": key, "value": value, "step": step}
        )
        when = time_ns() if timestamp is None else int(timestamp.timestamp() * 1e6) * 1000
        self._store.append(run_id, {"m": [point(data["key"], data["value"], data["step"], when)]})
        self._done(EventType.METRIC_LOGGED, data, HookType.POST_METRIC_LOG)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log several values of one step in one frame: all of them are kept, or none."""
        self.log_batch(run_id, metrics=[(key, value, step) for key, value in metrics.items()])

    def log_batch(
        self,
        run_id: str,
        metrics: Iterable[tuple[str, float, int]] = (),
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log ``(key, value, step)`` triples in one frame, and parameters and tags in one each."""
        when = time_ns()
        asked = [{"run_id": run_id, "key": k, "value": v, "step": s} for k, v, s in metrics]
        points = [self._operations.before(HookType.PRE_METRIC_LOG, one) for one in asked]
        if points:
            frame = [point(p["key"], p["value"], p["step"], when) for p in points]
            self._store.append(run_id, {"m": frame})
        for data in points:
            self._done(EventType.METRIC_LOGGED, data, HookType.POST_METRIC_LOG)
        if parameters:
            self.log_parameters(run_id, parameters)
        if tags:
            self.set_tags(run_id, tags)

    def log_parameter(self, run_id: str, key: str, value: Any) -> None:
        """Log one parameter, any JSON value; logged again, the later one counts."""
        self.log_parameters(run_id, {key: value})

    def log_parameters(self, run_id: str, parameters: Mapping[str, Any]) -> None:
        """Log parameters in one frame."""
        self._store.append(
            run_id, {"p": {check_key(k): v for k, v in parameters.items()}, "t": time_ns()}
        )
        data = {"run_id": run_id, "parameters": dict(parameters)}
        self._done(EventType.PARAMETER_LOGGED, data)

    def set_tag(self, run_id: str, key: str, value: object) -> None:
        """Set one tag, also of a run that has ended."""
        self.set_tags(run_id, {key: value})

    def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
        """Set tags in one frame."""
        texts = {check_key(k): str(v) for k, v in tags.items()}
        self._store.append(run_id, {"g": texts, "t": time_ns()})
        self._done(EventType.TAG_SET, {"run_id": run_id, "tags": texts})

    def log_artifact(
        self,
        run_id: str,
        path: StrPath,
        artifact_path: str | None = None,
        *,
        overwrite: bool = False,
    ) -> Artifact:
        """Copy a file or folder into the run, below *artifact_path* if that is given.

        The same content under the same name again changes nothing; other content is an
        `AlreadyExistsError` unless *overwrite*.
        """
        name = pathlib.Path(path).name
        name = name if artifact_path is None else f"{artifact_path.rstrip('/')}/{name}"
        staging = self._folder_of(run_id)
        return self._keep(run_id, name, artifacts.stage(path, staging), overwrite=overwrite)

    def log_artifacts(
        self,
        run_id: str,
        folder: StrPath,
        artifact_path: str | None = None,
        *,
        overwrite: bool = False,
    ) -> list[Artifact]:
        """Copy each file and folder in *folder* into the run, as `log_artifact` does, by name."""
        source = pathlib.Path(folder)
        if not source.is_dir():
            raise ArtifactNotFoundError(f"{str(source)!r} is no folder.")
        return [
            self.log_artifact(run_id, path, artifact_path, overwrite=overwrite)
            for path in sorted(source.iterdir())
        ]

    def log_text(
        self, run_id: str, text: str, artifact_path: str, *, overwrite: bool = False
    ) -> Artifact:
        """Keep *text* as the artifact *artifact_path*, in UTF-8."""
        folder = self._folder_of(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / f".{secrets.token_hex(8)}.text"
        try:
            source.write_bytes(text.encode())
            staged = artifacts.stage(source, folder)
        finally:
            source.unlink(missing_ok=True)
        return self._keep(run_id, artifact_path, staged, overwrite=overwrite)

    def log_dict(
        self, run_id: str, data: Any, artifact_path: str, *, overwrite: bool = False
    ) -> Artifact:
        """Keep *data* as a JSON artifact."""
        return self.log_text(run_id, encode(data).decode(), artifact_path, overwrite=overwrite)

    def log_figure(
        self, run_id: str, figure: Any, artifact_path: str, *, overwrite: bool = False
    ) -> Artifact:
        """Keep a figure of matplotlib (`savefig`) or plotly (`write_html`); the suffix is the format."""
        with artifacts.written(self._folder_of(run_id), figure, artifact_path) as source:
            staged = artifacts.stage(source, source.parent)
        return self._keep(run_id, artifact_path, staged, overwrite=overwrite)

    # Reading

    def get_run(self, run_id: str) -> Run:
        """Return the run as it is on disk now."""
        state = load_state(self._store.folder(self._store.home(run_id)), run_id)
        return to_run(with_liveness(state.row), self._artifacts)

    def follow(
        self,
        run_id: str,
        *,
        interval_seconds: float = 0.5,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Iterator[Metric]:
        """Yield the metrics of a run as they arrive, also from other processes, until it is over.

        It starts with those that are there. A run whose processes have died (STALE) is over too.
        """
        reader = RunReader(self._store.folder(self._store.home(run_id)), run_id)
        return follow(reader, interval_seconds, sleep)

    def list_runs(self, experiment_id: str, status: RunStatus | None = None) -> list[Run]:
        """Return the runs of an experiment, oldest first."""
        runs = [to_run(row, self._artifacts) for row in self._store.rows(experiment_id)]
        return [r for r in runs if status is None or r.status == status]

    def list_child_runs(self, run_id: str) -> list[Run]:
        """Return the runs that were started with this one as their parent."""
        rows = self._store.rows(self._store.home(run_id))
        return [to_run(row, self._artifacts) for row in rows if row["parent"] == run_id]

    def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
        """Return all points of one metric by step, then time."""
        state = load_state(self._store.folder(self._store.home(run_id)), run_id, history=True)
        return state.metric_history(key)

    def search_runs(
        self,
        experiment_id: str | Sequence[str],
        metric_filter: Mapping[str, tuple[str, float]] | None = None,
        filter: str | None = None,  # noqa: A002 - the published name
        order_by: str | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """Return the runs for which both filters hold.

        *metric_filter* is ``{"auc": (">", 0.9)}``; *filter* is in the language of
        `ops.registry.filters`; *order_by* is a field and ASC or DESC; runs without it come last.
        """
        wanted = [experiment_id] if isinstance(experiment_id, str) else list(experiment_id)
        rows = [row for one in wanted for row in self._store.rows(one)]
        found = select(rows, metric_filter or {}, filter, order_by, limit)
        return [to_run(row, self._artifacts) for row in found]

    def compare_runs(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """Return a table with one row per run: name, status, duration, params.*, metrics.*."""
        return to_table([self.get_run(run_id) for run_id in run_ids])

    def compact(self) -> int:
        """Fold the journals of all indexes into Parquet and return the number of runs."""
        total = 0
        for experiment in self.list_experiments():
            total += self._store.index(experiment.experiment_id).compact()
        if self._experiments.write_view():
            self._done(EventType.INDEX_COMPACTED, {"runs": total})
        return total

    def index_rows(self, experiment_id: str) -> list[dict[str, Any]]:
        """Return what the index says of an experiment's runs, for `fsck`."""
        return self._store.index(experiment_id).rows()

    def rebuild(self) -> int:
        """Make all indexes again from the runs' journals and return the number of runs."""
        found = self.list_experiments()
        return sum(self._store.index(e.experiment_id).rebuild() for e in found)

    def close(self) -> None:
        """Close the files that are open; runs that were not ended stay RUNNING."""
        self._store.close()

    def health_check(self) -> bool:
        """Whether the experiments can be read."""
        self.list_experiments()
        return True

    # Inside

    def _done(self, event: EventType, data: dict[str, Any], hook: HookType | None = None) -> None:
        per_point = event in {EventType.METRIC_LOGGED, EventType.PARAMETER_LOGGED}
        run = None if per_point else data.get("run_id")  # too many of those to audit
        self._operations.after(event, data, hook=hook, resource=run and f"run:{run}")

    def _folder_of(self, run_id: str) -> pathlib.Path:
        self._store.home(run_id)  # raises for an unknown run
        return self._artifacts / run_id

    def _keep(
        self,
        run_id: str,
        name: str,
        staged: tuple[pathlib.Path, int, str],
        *,
        overwrite: bool,
    ) -> Artifact:
        kept, changed = artifacts.keep(self._artifacts / run_id, name, staged, overwrite=overwrite)
        if not changed:
            return kept
        size, digest = kept.size, kept.checksum
        self._store.append(run_id, {"a": [kept.path, size, digest]})
        self._done(EventType.ARTIFACT_LOGGED, {"run_id": run_id, "path": kept.path, "size": size})
        return kept
