"""Wheels of all distributions, built once, and empty environments to install them into."""

from __future__ import annotations

import itertools
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest

ROOT = pathlib.Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
BUILT_WITH_THE_LOCK = ["--build-constraint", str(LOCK)]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """The wheel of each distribution of this tree, by name."""
    out = tmp_path_factory.mktemp("wheels")
    uv = [sys.executable, "-m", "uv", "build", "--all-packages", "--wheel", "-q"]
    subprocess.run([*uv, *BUILT_WITH_THE_LOCK, "-o", str(out)], check=True, cwd=ROOT)
    return {f.name.split("-")[0].replace("_", "-"): f for f in out.glob("*.whl")}


@pytest.fixture
def fresh_environment(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Make a virtual environment with the given requirements; returns its python.

    What the lock names is installed in the version of the lock, unless other constraints are given.
    """
    made = itertools.count()

    def make(
        *requirements: object, python: str = sys.executable, constraints: pathlib.Path = LOCK
    ) -> pathlib.Path:
        uv = [sys.executable, "-m", "uv"]
        home = tmp_path / f"environment-{next(made)}"
        subprocess.run([*uv, "venv", "-q", "-p", python, str(home)], check=True)
        inside = home / "bin" / "python"
        install = [*uv, "pip", "install", "-q", "-p", str(inside), "-c", str(constraints)]
        subprocess.run([*install, *map(str, requirements)], check=True, cwd=tmp_path)
        return inside

    return make
