"""Type checkers know the names of each façade and refuse every other one."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
from tests.contracts import facades

ROOT = pathlib.Path(__file__).parents[2]
FACADES = {
    ".".join(parts[parts.index("src") + 1 :]): facades.exported(file.read_text(encoding="utf-8"))
    for file in facades.facades(ROOT)
    for parts in [file.parent.parts]
}
#: One name of each façade, and the same without its last letter.
MISSPELT = {
    package: (right, right[:-1])
    for package, names in FACADES.items()
    for right in [max(names, key=len)]
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A program that imports one misspelt name, and one right one, from each façade."""
    lines = [
        line
        for package, (right, wrong) in MISSPELT.items()
        for line in (f"from {package} import {wrong}", f"from {package} import {right}")
    ]
    file = tmp_path_factory.mktemp("typing") / "program.py"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_mypy_refuses_a_misspelt_name_and_names_the_right_one(program: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    for package, (right, wrong) in MISSPELT.items():
        lines = [line for line in done.stdout.splitlines() if f'"{wrong}"' in line]
        assert any(f'Module "{package}" has no attribute "{wrong}"' in line for line in lines)
        assert any(f'"{right}"' in line for line in lines), (package, lines)
    assert done.stdout.count("error:") == len(MISSPELT), done.stdout


def test_pyright_refuses_a_misspelt_name(program: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [d["message"] for d in json.loads(done.stdout)["generalDiagnostics"]]
    for _, wrong in MISSPELT.values():
        assert f'"{wrong}" is unknown import symbol' in found
    assert len([m for m in found if "unknown import symbol" in m]) == len(MISSPELT)
