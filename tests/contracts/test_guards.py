"""Each guard passes on this tree and catches its fault when it is planted in a copy."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable

import pytest
from tests.contracts import guards

ROOT = pathlib.Path(__file__).parents[2]
Edit = Callable[[pathlib.Path], None]


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of what the guards read."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "packages", tmp_path / "packages", ignore=ignore)
    return tmp_path


def replace(file: str, old: str, new: str) -> Edit:
    def edit(root: pathlib.Path) -> None:
        path = root / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{file} no longer has {old!r}: mend this test"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return edit


def append(file: str, text: str) -> Edit:
    def edit(root: pathlib.Path) -> None:
        with (root / file).open("a", encoding="utf-8") as handle:
            handle.write(text)

    return edit


def remove(file: str) -> Edit:
    return lambda root: (root / file).unlink()


def create(file: str) -> Edit:
    def edit(root: pathlib.Path) -> None:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()

    return edit


SHM = "packages/ops-shm"
CACHE = "packages/ops-cache"
PLANTED = [
    (guards.stray_namespace_files, create(f"{SHM}/src/ops/__init__.py"), "breaks the namespace"),
    (guards.wrong_portions, create(f"{SHM}/src/ops/other/__init__.py"), "not only 'shm'"),
    (guards.wrong_portions, remove(f"{SHM}/src/ops/shm/py.typed"), "no py.typed"),
    (
        guards.wrong_portions,
        replace(f"{SHM}/pyproject.toml", '"ops-shm"', '"ops-log"'),
        "belongs to",
    ),
    (guards.missing_papers, remove(f"{SHM}/LICENSE"), "no LICENSE"),
    (guards.missing_papers, replace(f"{SHM}/pyproject.toml", '"0.1.0"', '"9.9.9"'), "9.9.9"),
    (
        guards.undeclared_siblings,
        append(f"{SHM}/src/ops/shm/__init__.py", "\nimport ops.cache\n"),
        "ops-shm imports ops-cache",
    ),
    (
        guards.undeclared_siblings,
        replace(f"{SHM}/pyproject.toml", '"numpy>', '"ops-observe>=0.1,<0.2", "numpy>'),
        "requires ops-observe and never imports",
    ),
    (
        guards.undeclared_third_parties,
        append(f"{SHM}/src/ops/shm/__init__.py", "\nimport httpx\n"),
        "ops-shm imports httpx",
    ),
    (
        guards.refused_siblings,
        replace(f"{CACHE}/pyproject.toml", "ops-serialize>=0.1,<0.2", "ops-serialize>=7,<8"),
        "the tree has 0.1.0",
    ),
    (
        guards.refused_siblings,
        replace(f"{CACHE}/pyproject.toml", "ops-serialize>=0.1,<0.2", "ops-serialize>=0.1"),
        "without an upper bound",
    ),
    (
        guards.wrong_pins,
        replace("packages/ops-suite/pyproject.toml", "ops-shm==0.1.0", "ops-shm==0.0.9"),
        "ops-suite pins ops-shm ==0.0.9",
    ),
    (
        guards.unforwarded_extras,
        replace("packages/ops-suite/pyproject.toml", "resilience-http", "resilience-hctp"),
        "lacks the extra resilience-http",
    ),
    (
        guards.unlayered_packages,
        replace("pyproject.toml", '"ops.foundation",\n]', "]"),
        "ops.foundation",
    ),
    (
        guards.disagreeing_facades,
        replace(
            "packages/ops-foundation/src/ops/foundation/__init__.py",
            "    from ops.foundation.errors import OpsError as OpsError\n",
            "",
        ),
        "its table of lazy_exports is stale",
    ),
    (
        guards.names_hidden_by_modules,
        create("packages/ops-foundation/src/ops/foundation/OpsError.py"),
        "'OpsError' is both exported and a module",
    ),
    (
        guards.imports_that_no_extra_brings,
        replace(f"{CACHE}/pyproject.toml", 'numpy = ["numpy>=1.26"]\n', ""),
        "an example imports numpy, which no extra brings",
    ),
    (
        guards.unpromised_imports,
        replace("packages/ops-foundation/src/ops/foundation/files.py", '    "atomic_write",\n', ""),
        "imports atomic_write, which ops.foundation.files does not promise",
    ),
]


@pytest.mark.parametrize("guard", guards.ALL, ids=lambda g: g.__name__)
def test_this_tree_has_no_fault(guard: Callable[[pathlib.Path], list[str]]) -> None:
    assert guard(ROOT) == []


@pytest.mark.parametrize(
    ("guard", "plant", "message"), PLANTED, ids=[f"{g.__name__}-{m}" for g, _, m in PLANTED]
)
def test_a_planted_fault_is_caught(
    guard: Callable[[pathlib.Path], list[str]], plant: Edit, message: str, copy: pathlib.Path
) -> None:
    plant(copy)
    assert any(message in fault for fault in guard(copy)), guard(copy)


def test_every_guard_has_a_planted_fault() -> None:
    assert {g for g, _, _ in PLANTED} == set(guards.ALL)
