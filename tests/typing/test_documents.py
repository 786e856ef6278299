"""Every ```python block of the READMEs and pages passes mypy and pyright, as a reader's editor shows it."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PATTERNS = (
    "README.md",
    "docs/*.md",
    "docs/howto/*.md",
    "docs/tutorial/*.md",
    "docs/explanation/*.md",
    "packages/*/README.md",
)
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def as_program(text: str) -> str:
    """Return the code blocks of a document, each at the line where it stands there."""
    lines = [""] * (text.count("\n") + 1)
    for block in FENCE.finditer(text):
        start = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[start : start + len(code)] = code
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with one program for each document, named after it."""
    folder = tmp_path_factory.mktemp("documents")
    for pattern in PATTERNS:
        for path in sorted(ROOT.glob(pattern)):
            name = re.sub(r"\W", "_", str(path.relative_to(ROOT).with_suffix("")))
            program = as_program(path.read_text(encoding="utf-8"))
            (folder / f"{name}.py").write_text(program, encoding="utf-8")
    return folder


def test_the_examples_pass_mypy(programs: pathlib.Path) -> None:
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml"]
    # Examples show calls, not annotations; what they define is checked all the same.
    loose = ["--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls"]
    done = subprocess.run(
        [*command, *loose, "--allow-any-generics", str(programs)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_examples_pass_pyright(programs: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, programs],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [
        f"{pathlib.Path(d['file']).name}:{d['range']['start']['line'] + 1}: {d['message']}"
        for d in json.loads(done.stdout)["generalDiagnostics"]
        if d["severity"] == "error"
    ]
    assert not errors, "\n".join(errors)
