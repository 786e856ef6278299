"""What must be computed again after which edit: files are really edited, interpreters really start."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass

import pytest

FILES = {
    "work.py": '''
import base64 as coding
import functools
import helpers
import settings as conf
from helpers import HANDLERS, Kind, Model, Settings, cached_part, scale, shape, twice
from ops.cache import cache

RATE = 3
TABLE = {"a": 1}
UNUSED = 1
calls = []
add = functools.partial(helpers.plus, 5)


def unused(x):
    return x


def near(x):
    return x + 10


def factory(n):
    def made(x):
        return x * n
    return made


made = factory(2)


@cache
def result(x, extra=1):
    """What it is."""
    # A comment.
    from inner.deep import depth
    calls.append(x)
    model = Model(x)
    total = scale(x) * RATE + TABLE["a"] + conf.OFFSET + helpers.shift(x) + model.value + Model.make(x)
    if total > 0:
        total += HANDLERS["h"](x) + near(x) + add(x) + made(x) + twice(x) + cached_part(x)
    for kind in Kind:
        total += kind.value
    def local(y):
        return y + 1
    total += sum(local(y) for y in range(3)) + depth(x) + Settings().size + shape(x) + extra
    return total + len(coding.b64encode(b"x"))
''',
    "helpers.py": """
import dataclasses
import enum
import functools
from bases import Base, decorated
from ops.cache import cache

WEIGHT = 2


def scale(x):
    return inner_scale(x) * WEIGHT


def inner_scale(x):
    return x + 1


def shift(x):
    return x - 1


def unrelated(x):
    return x


def plus(a, b):
    return a + b


class Model(Base):
    limit = 7

    def __init__(self, x):
        self.x = x

    @property
    def value(self):
        return self.x + self.limit + self.step()

    @staticmethod
    def make(x):
        return x

    def other(self):
        return 1


class Kind(enum.Enum):
    A = 1
    B = 2


@dataclasses.dataclass
class Settings:
    size: int = 4


@functools.singledispatch
def shape(x):
    return 0


@shape.register
def shape_int(x: int):
    return 1


@decorated
def twice(x):
    return 2 * x


@cache
def cached_part(x):
    return part_of_cached(x)


def part_of_cached(x):
    return x


def handle(x):
    return x


HANDLERS = {"h": handle, "lambda": lambda x: x + 1}
""",
    "bases.py": """
import functools


class Root:
    def step(self):
        return 1


class Base(Root):
    pass


def decorated(func):
    @functools.wraps(func)
    def wrapper(x):
        return func(x) + 1
    return wrapper
""",
    "settings.py": """
OFFSET = 1
OTHER = 2
""",
    "inner/__init__.py": "",
    "inner/deep.py": """
from .deeper import bottom


def depth(x):
    return bottom(x)
""",
    "inner/deeper.py": """
def bottom(x):
    return x
""",
    "run.py": "import work\nwork.result(2)\nprint(len(work.calls))\n",
}


@dataclass(frozen=True)
class Edit:
    file: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}: {self.old.strip()} -> {self.new.strip()}"


COUNTS = [
    Edit("work.py", "total > 0", "total > 1"),
    Edit("work.py", "RATE = 3", "RATE = 4"),
    Edit("work.py", "RATE = 3", "RATE = 3.0"),
    Edit("work.py", 'TABLE = {"a": 1}', 'TABLE = {"a": 2}'),
    Edit("work.py", "extra=1", "extra=2"),
    Edit("work.py", "return x + 10", "return x + 11"),
    Edit("work.py", "factory(2)", "factory(3)"),
    Edit("work.py", "return x * n", "return n * x"),
    Edit("work.py", "partial(helpers.plus, 5)", "partial(helpers.plus, 6)"),
    Edit("work.py", "return y + 1", "return y + 2"),
    Edit("work.py", "local(y) for", "local(y + 1) for"),
    Edit("settings.py", "OFFSET = 1", "OFFSET = 2"),
    Edit("helpers.py", "WEIGHT = 2", "WEIGHT = 3"),
    Edit("helpers.py", "inner_scale(x) * WEIGHT", "inner_scale(x) + WEIGHT"),
    Edit("helpers.py", "    return x + 1\n\n\ndef shift", "    return x + 2\n\n\ndef shift"),
    Edit("helpers.py", "return x - 1", "return x - 2"),
    Edit("helpers.py", "return a + b", "return b + a"),
    Edit("helpers.py", "limit = 7", "limit = 8"),
    Edit("helpers.py", "self.x = x", "self.x = x + 1"),
    Edit("helpers.py", "self.x + self.limit", "self.limit + self.x"),
    Edit("helpers.py", "def make(x):\n        return x", "def make(x):\n        return -x"),
    Edit("helpers.py", "B = 2", "B = 3"),
    Edit("helpers.py", "size: int = 4", "size: int = 5"),
    Edit("helpers.py", "    return 1\n\n\n@decorated", "    return 2\n\n\n@decorated"),
    Edit("helpers.py", "return 2 * x", "return 3 * x"),
    Edit("helpers.py", "part_of_cached(x):\n    return x", "part_of_cached(x):\n    return -x"),
    Edit("helpers.py", "def handle(x):\n    return x", "def handle(x):\n    return -x"),
    Edit("bases.py", "return 1", "return 2"),
    Edit("bases.py", "func(x) + 1", "func(x) + 2"),
    Edit("bases.py", "    pass", "    def step(self):\n        return 5"),
    Edit("inner/deep.py", "return bottom(x)", "return -bottom(x)"),
    Edit("inner/deeper.py", "return x", "return -x"),
]

DOES_NOT_COUNT = [
    Edit("work.py", "# A comment.", "# Another,\n    # longer comment."),
    Edit("work.py", '"""What it is."""', '"""What it is, at length."""'),
    Edit("work.py", '    """What it is."""\n', ""),
    Edit("work.py", "def result(x, extra=1):", "def result(x: int, extra: float = 1) -> float:"),
    Edit("work.py", "def near(x):\n", 'def near(x: "int") -> int:\n    """Near."""\n'),
    Edit("work.py", "def local(y):\n", "def local(y: int) -> dict[str, int]:\n"),
    Edit("work.py", "scale(x) * RATE + TABLE", "(scale(x)\n        * RATE) + TABLE"),
    Edit("work.py", "calls = []", "\n\n\ncalls = []  # moved down"),
    Edit("work.py", "UNUSED = 1", "UNUSED = 2"),
    Edit("work.py", "def unused(x):\n    return x", "def unused(x):\n    return -x"),
    Edit("helpers.py", "def unrelated(x):\n    return x", "def unrelated(x):\n    return -x"),
    Edit("helpers.py", "def scale(x):\n", 'def scale(x: int) -> int:\n    "Doc."\n'),
    Edit("helpers.py", "class Model(Base):\n", 'class Model(Base):\n    """A model."""\n\n'),
    Edit("settings.py", "OTHER = 2", "OTHER = 3"),
    Edit("run.py", "work.result(2)", "work.result(x=2)"),
    Edit("run.py", "work.result(2)", "work.result(2, extra=1)"),
]


class Project:
    """A folder of source files, run by a new interpreter each time."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder / "project"
        (self.folder / "inner").mkdir(parents=True)
        self.environment = os.environ | {
            "DATA_FOLDER": str(folder / "data"),
            "PYTHONDONTWRITEBYTECODE": "1",  # edits within one second
        }

    def run(self, edit: Edit | None = None) -> int:
        """Write all files, one of them edited; return how often the function was computed."""
        files = dict(FILES)
        if edit is not None:
            assert edit.old in files[edit.file]
            files[edit.file] = files[edit.file].replace(edit.old, edit.new)
        for name, text in files.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "run.py"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("edits"))
    assert (project.run(), project.run()) == (1, 0)
    return project


@pytest.mark.parametrize("edit", COUNTS, ids=str)
def test_an_edit_of_what_the_function_reaches_computes_again(project: Project, edit: Edit) -> None:
    assert project.run(edit) == 1


@pytest.mark.parametrize("edit", DOES_NOT_COUNT, ids=str)
def test_an_edit_that_changes_no_result_computes_nothing(project: Project, edit: Edit) -> None:
    assert project.run(edit) == 0
