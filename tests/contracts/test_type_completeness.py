"""Checkers infer little for users: nearly every public name has a type that is written down."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
from tests.contracts import guards

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = sorted(f"ops.{dist.module}" for dist in guards.libraries(ROOT))
#: Percent of the public names.
LEAST = dict.fromkeys(PACKAGES, 97.0)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_types_of_public_names_are_written_down(package: str, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "pyright", "--verifytypes", package, "--ignoreexternal"]
    # pyright asks the first python of the PATH where packages are; the folder has no configuration.
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        [*command, "--outputjson"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
    )
    report = json.loads(result.stdout)["typeCompleteness"]
    assert sum(report["exportedSymbolCounts"].values()) > 50, "pyright did not find the package"
    unknown = [s["name"] for s in report["symbols"] if s["isExported"] and not s["isTypeKnown"]]
    assert 100 * report["completenessScore"] >= LEAST[package], unknown
