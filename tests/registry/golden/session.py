"""What fixed sessions write, as text in which ids, times and processes have names: ``python session.py`` records it.

``session-own.txt`` and ``session-mlflow.txt`` were recorded with ops-registry as it was at commit 17b374a. Tests
compare what the code of today writes: every key, its order and every form of a value on disk are in it, in journals,
views and indexes. Recording again is right only when a format was changed on purpose.
"""

from __future__ import annotations

import hashlib
import math
import pathlib
import re
import tempfile
from typing import TYPE_CHECKING

from ops.registry import MLOpsConfig, MLOpsContext, ModelStage, RunStatus
from ops.registry.transfer import copy_store

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = pathlib.Path(__file__).parent
_LONGEST_LINE = 1200
_TIME = re.compile(r"(?<=[:,\[])1[5-9]\d{17}(?=[,\]}\n])")
_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?:\+00:00|Z)")
_OWNER = re.compile(r'\["[0-9a-f-]{36}",(?:\d+|null|"[^"]*"),\d+\]')
_WRITER = re.compile(r"\b\d+-[0-9a-f]{8}\b")
_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
#: Sizes of journals depend on how many digits a process id has.
_SIZES = re.compile(r'(?<="through":)\{[^}]*\}')
_GIVEN = re.compile(r"(?<=credit-)[0-9a-z]{8}(?=[\"/])|(?<=run-)[0-9a-f]{8}(?=\")")


def write_own(top: pathlib.Path) -> None:
    """Write two stores, of which the second is a copy of the first one."""
    (top / "model.bin").write_bytes(b"weights")
    (top / "plots").mkdir()
    (top / "plots" / "a.txt").write_text("a")
    with (
        MLOpsContext(MLOpsConfig(storage_path=top / "store")) as context,
        MLOpsContext(MLOpsConfig(storage_path=top / "store")) as rank,
        MLOpsContext(MLOpsConfig(storage_path=top / "copy")) as copy,
    ):
        _track(context, rank, top)
        _register(context, top)
        context.experiment_tracker.compact()
        context.model_registry.compact()
        copy_store(context, copy)


def _track(context: MLOpsContext, rank: MLOpsContext, top: pathlib.Path) -> None:
    tracker = context.experiment_tracker
    study = tracker.create_experiment("study", "the first", {"team": "ds"}).experiment_id
    other = tracker.create_experiment("other").experiment_id
    tracker.set_experiment_tag(other, "kind", "test")
    tracker.rename_experiment(other, "another")
    parameters = {"depth": 3, "deep": {"x": [1, None]}, "none": None, "odd": {"$float": "mine"}}
    whole = tracker.start_run(study, "whole", tags={"team": "ds"}, parameters=parameters).run_id
    for step in range(3):
        tracker.log_metric(whole, "loss", 1 / (step + 1), step)
    tracker.log_metrics(whole, {"auc": 0.5, "odd": math.nan, "far": -math.inf}, step=7)
    tracker.log_batch(whole, [("loss", 0.125, 9)], {"later": "ü"}, {"a": "1", "b": "2"})
    tracker.delete_tag(whole, "b")
    rank.experiment_tracker.log_metric(whole, "loss", 2.0, 10)
    rank.experiment_tracker.set_tag(whole, "rank", 1)
    tracker.log_artifact(whole, top / "model.bin", "models")
    tracker.log_artifact(whole, top / "plots")
    tracker.log_dict(whole, {"k": [1.5, None]}, "config.json")
    tracker.end_run(whole)
    tracker.set_tag(whole, "reviewed", "yes")
    child = tracker.start_run(study, parent_run_id=whole).run_id
    tracker.end_run(child, RunStatus.FAILED, "ValueError: no")
    tracker.reopen_run(child)
    tracker.end_run(child, RunStatus.CANCELLED)
    tracker.delete_run(child)
    gone = tracker.start_run(other, "gone").run_id
    tracker.delete_run(gone)
    tracker.restore_run(gone)
    tracker.erase_run(tracker.start_run(other, "erased").run_id)
    long = tracker.start_run(other, "long").run_id
    tracker.log_batch(long, [("m", float(step % 7), step) for step in range(1100)])
    tracker.end_run(long)


def _register(context: MLOpsContext, top: pathlib.Path) -> None:
    registry = context.model_registry
    for number in range(3):
        registry.register_model(
            "credit",
            top / "model.bin",
            "binary",
            "mine",
            description=f"number {number}",
            hyperparameters={"depth": number},
            metrics={"auc": 0.5 + number},
            tags={"team": "ds"},
            dependencies=("numpy",),
        )
    registry.promote_model("credit", 1, ModelStage.PRODUCTION)
    registry.promote_model("credit", 2, ModelStage.PRODUCTION)
    registry.rollback("credit")
    registry.set_alias("credit", "best", 2)
    registry.set_tag("credit", 2, "a", "b")
    registry.annotate("credit", 2, "the good one")
    registry.delete_model_version("credit", 3)


def write_mlflow(top: pathlib.Path) -> None:
    """Write a store through MLflow's client."""
    import mlflow
    from mlflow.entities import Dataset, DatasetInput, LoggedModelInput, Metric, Param, RunTag

    address = f"ops-registry://{top / 'store'}"
    client = mlflow.MlflowClient(address, address)
    store = client._tracking_client.store
    home = client.create_experiment("study", tags={"team": "ds"})
    parent = client.create_run(home, 1_700_000_000_123, {"mlflow.user": "me"}, "first")
    run_id = parent.info.run_id
    client.log_metric(run_id, "loss", 1.0, timestamp=1_700_000_000_200, step=0)
    points = [Metric("loss", 0.5, 1_700_000_000_300, 1), Metric("nan", math.nan, 1, 2)]
    client.log_batch(run_id, points, [Param("depth", "3")], [RunTag("a", "b")])
    client.log_param(run_id, "wide", "1")
    client.set_tag(run_id, "c", "d")
    client.delete_tag(run_id, "a")
    dataset = DatasetInput(Dataset("rows", "digest", "local", "here"))
    store.log_inputs(run_id, [dataset], [LoggedModelInput("m-1")])
    client.update_run(run_id, name="renamed")
    child = store.create_run(
        home, "somebody", 1_700_000_000_400, [RunTag("mlflow.parentRunId", run_id)], "child"
    ).info.run_id
    client.set_terminated(child, "FAILED", 1_700_000_000_500)
    client.delete_run(child)
    client.restore_run(child)
    client.set_terminated(run_id, "FINISHED", 1_700_000_000_600)
    gone = client.create_run(home, 1_700_000_000_700, run_name="gone").info.run_id
    client.delete_run(gone)
    with MLOpsContext(MLOpsConfig(storage_path=top / "store")) as context:
        context.experiment_tracker.compact()


def told(top: pathlib.Path) -> str:
    """Return all that was written below *top* as text, without what differs from one time to the next."""
    names = _Names()
    parts = []
    for path in sorted(_files(top), key=lambda path: _order(path, top)):
        lines = [names.instead(line.replace(str(top), "TOP")) for line in _lines(path)]
        name = names.instead(path.relative_to(top).as_posix())
        parts.append("\n".join([f"== {name}", *map(_short, lines)]))
    return "\n".join(parts) + "\n"


def _short(line: str) -> str:
    """Return a long line as its beginning and the digest of all of it."""
    if len(line) <= _LONGEST_LINE:
        return line
    return f"{line[:200]}... {len(line)} {hashlib.sha256(line.encode()).hexdigest()}"


_NAMES = (
    (_TIME, "TIME"),
    (_SECONDS, "WHEN"),
    (_WRITER, "WRITER"),
    (_SIZES, "SIZES"),
    (_GIVEN, "GIVEN"),
)


class _Names:
    """Gives each id, in the order in which they are met, a name of its own."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def instead(self, text: str) -> str:
        text = _OWNER.sub('"OWNER"', text)
        for pattern, name in _NAMES:
            text = pattern.sub(name, text)
        return _ID.sub(self._named, text)

    def _named(self, found: re.Match[str]) -> str:
        return self._known.setdefault(found[0], f"ID{len(self._known)}")


def _order(path: pathlib.Path, top: pathlib.Path) -> tuple[str, int, str, str]:
    """Order by store, depth and name; what two writers of a run wrote is ordered by what it is."""
    relative = path.relative_to(top).as_posix()
    name = _WRITER.sub("WRITER", relative)
    content = "" if name == relative else "".join(_lines(path))
    return relative.partition("/")[0], relative.count("/"), name, content


def _files(top: pathlib.Path) -> Iterator[pathlib.Path]:
    for path in top.rglob("*"):
        is_kept = "artifacts" in path.relative_to(top).parts
        if path.is_file() and path.suffix in {".log", ".json", ".parquet"} and not is_kept:
            yield path


def _lines(path: pathlib.Path) -> Iterator[str]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"ARROW:schema"}
        yield repr(sorted(metadata.items()))
        yield repr([(field.name, str(field.type)) for field in table.schema])
        yield from table.to_pydict().get("row_json", ())
    elif path.suffix == ".json":
        yield path.read_text(encoding="utf-8")
    else:
        for line in path.read_text(encoding="utf-8").splitlines():
            yield line[9:]  # without its checksum


if __name__ == "__main__":
    for kind, write in (("own", write_own), ("mlflow", write_mlflow)):
        with tempfile.TemporaryDirectory() as folder:
            write(pathlib.Path(folder))
            text = told(pathlib.Path(folder))
            (FOLDER / f"session-{kind}.txt").write_text(text, encoding="utf-8")
