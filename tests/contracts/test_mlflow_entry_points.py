"""Programs that use MLflow without ops-registry:// pay nothing for ops-registry, and hear nothing."""

from __future__ import annotations

import json
import pathlib
import subprocess
from collections.abc import Callable

import pytest

LOCKS = pathlib.Path(__file__).parent / "locks"

USES_FILES = """
import json, sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
print(json.dumps(sorted(name for name in sys.modules if name.startswith("ops."))))
"""
USES_OURS = """
import mlflow, sys
from ops.foundation import MissingExtraError
mlflow.set_tracking_uri("ops-registry://" + sys.argv[1])
try:
    mlflow.search_experiments()
except MissingExtraError as error:
    print(error)
"""


NOTHING_MORE = ["ops.registry", "ops.registry._mlflow_stores"]


@pytest.mark.parametrize("version", ["2.22", "3.1"])
def test_an_older_mlflow_works_on_files_in_silence_beside_ops_registry(
    version: str,
    wheels: dict[str, pathlib.Path],
    fresh_environment: Callable[..., pathlib.Path],
    tmp_path: pathlib.Path,
) -> None:
    # These versions pin what the lock has newer, so each has hashes of its own.
    lock = LOCKS / f"mlflow-{version}.txt"
    ours = ["--find-links", wheels["ops-registry"].parent, wheels["ops-registry"]]
    python = fresh_environment("-r", lock, *ours, constraints=lock)

    def run(program: str, *options: str) -> str:
        command = [str(python), "-I", *options, "-c", program, str(tmp_path / "runs")]
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "ops-registry" not in result.stderr
        return result.stdout

    imported = json.loads(run(USES_FILES, "-W", "error"))
    assert [name for name in imported if not name.startswith("ops.foundation")] == NOTHING_MORE
    assert 'pip install "ops-registry[mlflow]"' in run(USES_OURS)
