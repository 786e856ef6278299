"""`explain` says what a key is made of, and what differs from the nearest stored call."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest

PROGRAM = """
import features
print(features.total.explain(3))
features.total(3)
"""
FEATURES = """
from ops.cache import cache

RATE = 2


def scale(x):
    return x * RATE


@cache
def total(x, verbose=False):
    return scale(x) + 1
"""


@pytest.fixture
def explained(tmp_path: pathlib.Path) -> Callable[[str, str], str]:
    """Run the program with the given texts of its two files; return what it printed."""

    def run(features: str, program: str) -> str:
        (tmp_path / "features.py").write_text(features)
        (tmp_path / "run.py").write_text(program)
        done = subprocess.run(
            [sys.executable, "-B", "run.py"],
            cwd=tmp_path,
            env=os.environ | {"DATA_FOLDER": str(tmp_path / "data")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_first_call_of_a_function_has_nothing_to_differ_from(
    explained: Callable[[str, str], str],
) -> None:
    shown = explained(FEATURES, PROGRAM)
    assert shown.startswith("features.total: not stored (")
    assert "changed" not in shown
    for part in ("function `scale` in features.py", "constant `RATE`", "argument `x`"):
        assert part in shown
    assert explained(FEATURES, PROGRAM).startswith("features.total: stored (")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("x * RATE", "x + RATE", "function `scale` in features.py changed"),
        ("RATE = 2", "RATE = 3", "constant `RATE` in features.py changed"),
        ("scale(x) + 1", "scale(x) + 2", "function `total` in features.py changed"),
        ("scale(x) + 1", "x + 1", "function `scale` in features.py is no longer used"),
    ],
)
def test_a_miss_says_what_was_edited(
    explained: Callable[[str, str], str], old: str, new: str, sentence: str
) -> None:
    explained(FEATURES, PROGRAM)
    shown = explained(FEATURES.replace(old, new), PROGRAM)
    assert "not stored" in shown
    assert sentence in shown


def test_a_miss_says_which_argument_differs(explained: Callable[[str, str], str]) -> None:
    explained(FEATURES, PROGRAM)
    shown = explained(FEATURES, PROGRAM.replace("explain(3)", "explain(4)"))
    assert "argument `x` was 3" in shown
    assert "argument `verbose` was" not in shown
