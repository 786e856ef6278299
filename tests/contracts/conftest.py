"""Wheels of all distributions, built once, and empty environments to install them into."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """The wheel of each distribution of this tree, by name."""
    out = tmp_path_factory.mktemp("wheels")
    command = [
        sys.executable,
        "-m",
        "uv",
        "build",
        "--all-packages",
        "--wheel",
        "-q",
        "-o",
        str(out),
    ]
    subprocess.run(command, check=True, cwd=ROOT)
    return {f.name.split("-")[0].replace("_", "-"): f for f in out.glob("*.whl")}


@pytest.fixture
def fresh_environment(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Make a virtual environment with the given requirements; returns its python."""

    def make(*requirements: object) -> pathlib.Path:
        uv = [sys.executable, "-m", "uv"]
        home = tmp_path / "environment"
        subprocess.run([*uv, "venv", "-q", "-p", sys.executable, str(home)], check=True)
        python = home / "bin" / "python"
        install = [*uv, "pip", "install", "-q", "-p", str(python), *map(str, requirements)]
        subprocess.run(install, check=True, cwd=tmp_path)
        return python

    return make
