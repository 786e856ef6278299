"""Make the store that `test_golden_stores` reads: ``python make_store.py`` writes ``store-1.tar.gz``.

It was run once, with ops-registry as it was at commit 60764de. It stays as the record of how that store came
about, and to make one more when a format changes; the old ones stay too.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile

from ops.registry import MLOpsConfig, MLOpsContext, ModelStage, RunStatus

HERE = pathlib.Path(__file__).parent

_KILLED_RUN = """
import os, sys
from ops.registry import MLOpsConfig, MLOpsContext
tracker = MLOpsContext(MLOpsConfig(storage_path=sys.argv[1])).experiment_tracker
run = tracker.start_run(sys.argv[2], "killed")
tracker.log_metric(run.run_id, "loss", 0.5)
print(run.run_id, flush=True)
os.kill(os.getpid(), 9)
"""
_SECOND_WRITER = """
import sys
from ops.registry import MLOpsConfig, MLOpsContext
tracker = MLOpsContext(MLOpsConfig(storage_path=sys.argv[1])).experiment_tracker
tracker.log_metric(sys.argv[2], "rank1", 2.0, 7)
"""
_KILLED_COMMIT = """
import os, sys
from ops.registry import LocalStorageBackend, Transaction
import ops.registry.disk.transactions as transactions
real = transactions._write
def write(path, data):
    if path.name == "committed":
        os.kill(os.getpid(), 9)
    real(path, data)
transactions._write = write
with Transaction(LocalStorageBackend(sys.argv[1])) as changes:
    changes.write_json({"v": "new"}, "settings/a.json")
    changes.write_json({"v": "new"}, "b.json")
"""


def main() -> None:
    top = pathlib.Path(tempfile.mkdtemp())
    store = top / "store"
    told = {}
    (top / "weights.bin").write_bytes(b"weights")
    (top / "folder" / "deep").mkdir(parents=True)
    (top / "folder" / "deep" / "part.txt").write_text("part")
    with MLOpsContext(MLOpsConfig(storage_path=store)) as context:
        tracker, registry, storage = (
            context.experiment_tracker,
            context.model_registry,
            context.storage,
        )
        study = tracker.create_experiment("study", "the first", {"team": "ds"})
        other = tracker.create_experiment("other")
        with tracker.run_context(study.experiment_id, "whole", tags={"a": "1"}) as run:
            tracker.log_parameters(
                run.run_id,
                {"depth": 3, "nested": {"x": [1, None]}, "none": None, "inf": float("inf")},
            )
            for step in range(30):
                tracker.log_metric(run.run_id, "loss", 1 / (step + 1), step)
            tracker.log_metric(run.run_id, "odd", float("nan"))
            tracker.log_artifact(run.run_id, top / "weights.bin", "models")
            tracker.log_artifact(run.run_id, top / "folder")
            run_python(_SECOND_WRITER, str(store), run.run_id)
        told["whole"] = run.run_id
        try:
            with tracker.run_context(study.experiment_id, "failed", run.run_id) as failed:
                raise ValueError("no")  # noqa: TRY301 - the block fails
        except ValueError:
            told["failed"] = failed.run_id
        long = tracker.start_run(other.experiment_id, "long")
        for start in range(0, 12_000, 2_000):
            points = [("m", float(i % 7), i) for i in range(start, start + 2_000)]
            tracker.log_batch(long.run_id, points)
        tracker.end_run(long.run_id, RunStatus.CANCELLED)
        told["long"] = long.run_id
        context.compact()
        late = tracker.start_run(study.experiment_id, "late")
        tracker.end_run(late.run_id)
        tracker.set_tag(late.run_id, "reviewed", "yes")
        told["late"] = late.run_id
        told["killed"] = run_python(_KILLED_RUN, str(store), study.experiment_id).strip()
        for number in (1, 2, 3, 4):
            (top / "weights.bin").write_bytes(b"weights%d" % number)
            registry.register_model(
                "credit",
                top / "weights.bin",
                "binary",
                "mine",
                metrics={"auc": 0.9 + number / 100},
                tags={"n": str(number)},
                hyperparameters={"depth": number},
                dependencies=["numpy"],
                experiment_run_id=run.run_id,
            )
        registry.register_model("Net Größe", top / "folder", "folder", "mine")
        registry.promote_model("credit", 1, ModelStage.PRODUCTION)
        registry.promote_model("credit", 2, ModelStage.PRODUCTION)
        registry.promote_model("credit", 3, ModelStage.STAGING)
        registry.rollback("credit")
        registry.set_alias("credit", "champion", 3)
        registry.set_tag("credit", 3, "team", "ds")
        registry.annotate("credit", 3, "the good one")
        registry.delete_model_version("credit", 4)
        storage.write_json({"v": "old"}, "settings/a.json")
    run_python(_KILLED_COMMIT, str(store / "storage"))
    (HERE / "store-1.json").write_text(json.dumps(told, indent=1) + "\n")
    with tarfile.open(HERE / "store-1.tar.gz", "w:gz") as archive:
        archive.add(store, "store")


def run_python(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode in {0, -signal.SIGKILL}, done
    return done.stdout


if __name__ == "__main__":
    os.umask(0o022)
    main()
