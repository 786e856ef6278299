"""Every ```python block of the READMEs and pages runs, top to bottom, one namespace a document."""

from __future__ import annotations

import doctest
import importlib
import pathlib
import pkgutil
import subprocess
import sys
import tempfile

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "README.md",
        "docs/*.md",
        "docs/howto/*.md",
        "docs/tutorial/*.md",
        "docs/explanation/*.md",
        "packages/*/README.md",
    )
    for path in ROOT.glob(pattern)
)
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/src/ops/*/__init__.py"))


def run_document(path: str) -> None:
    """Run all examples of a document; called in a process of its own."""
    document = Sybil([PythonCodeBlockParser()]).parse(pathlib.Path(path))
    document.namespace["__name__"] = "__main__"  # as in the script that a reader would write
    for example in document.examples():
        example.evaluate()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_runs(name: str, tmp_path: pathlib.Path) -> None:
    # A process and a folder for each: documents fork, write files and set global state.
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.examples.test_documents import run_document\n"
        f"run_document({str(ROOT / name)!r})"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_front_page_of_each_package_has_an_example() -> None:
    for path in ROOT.glob("packages/*/README.md"):
        assert "```python" in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("package", PACKAGES)
def test_doctests_pass(
    package: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # examples leave their files there
    parent = importlib.import_module(f"ops.{package}")
    names = [
        info.name
        for info in pkgutil.walk_packages(parent.__path__, f"{parent.__name__}.")
        if not info.name.endswith("__main__")
    ]
    failed = sum(doctest.testmod(importlib.import_module(name)).failed for name in names)
    assert failed == 0
