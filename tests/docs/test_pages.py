"""The pages of environment variables, formats and guarantees lack nothing that the code has."""

from __future__ import annotations

import importlib.util
import pathlib
import re
from types import ModuleType

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BUILT = ROOT / "docs" / "_build" / "html"
#: Described, and put together in a way that the scan does not follow: by a loop over the ends of names.
BY_A_LOOP = {"DATABRICKS_AZURE_CLIENT_SECRET"}
_CONSTANT = re.compile(
    r"^(_?(?:[A-Z]+_)?(?:MAGIC|FORMAT|VERSION)(?:_BYTES)?)\b[^=\n]*= ", flags=re.MULTILINE
)


def extension(name: str) -> ModuleType:
    """A module of `docs/_ext`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def environment() -> ModuleType:
    return extension("environment_page")


@pytest.fixture(scope="module")
def formats() -> ModuleType:
    return extension("format_page")


def test_every_variable_that_is_read_is_described_and_no_other(environment) -> None:
    described = {name for variable in environment.described() for name in variable.names}
    read = environment.read()
    assert read - described == set()
    assert described - read == BY_A_LOOP


def test_the_scan_sees_variables_however_they_are_read(environment, tmp_path) -> None:
    folder = tmp_path / "packages" / "ops-x" / "src" / "ops" / "x"
    folder.mkdir(parents=True)
    (folder / "reads.py").write_text(
        """
_TABLE = ("HOST", "PORT")
_LIMITS = ("OPS_X_MOST", "OPS_X_LEAST")
def setting(name): return os.environ.get(f"OPS_X_{name}")
plain = os.environ["OPS_X_PLAIN"], "OPS_X_TEST" in os.environ, os.environ.get("PLAIN")
all = {name: environ.get(f"SERVER_{name}") for name in _TABLE}
map(os.environ.get, _LIMITS)
error = failure("no", code="NO_SUCH_THING")
# Environment OPS_X_PLAIN, OPS_X_TEST: what it is,
# on two lines.
value = 1
"""
    )
    (folder / "uses.py").write_text('setting("PATH")')
    assert environment.read(tmp_path) == {
        "OPS_X_PLAIN", "OPS_X_TEST", "PLAIN", "SERVER_HOST", "SERVER_PORT", "OPS_X_MOST",
        "OPS_X_LEAST", "OPS_X_PATH",
    }  # fmt: skip
    text = "what it is, on two lines."
    assert environment.described(tmp_path) == [
        environment.Variable(("OPS_X_PLAIN", "OPS_X_TEST"), text, "ops-x")
    ]


def test_every_mark_of_a_format_in_the_code_is_on_the_page(formats) -> None:
    marks = set()
    for path in sorted(ROOT.glob("packages/*/src/ops/**/*.py")):
        parts = path.with_suffix("").parts
        module = ".".join(parts[parts.index("src") + 1 :])
        marks |= {f"{module}:{name}" for name in _CONSTANT.findall(path.read_text("utf-8"))}
    listed = {constant for entry in formats.FORMATS for constant in formats.constants(entry)}
    assert marks - listed - formats.FOREIGN == set()
    assert listed - marks == set()


def test_every_distribution_has_its_guarantees_and_formats(formats) -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    for package in sorted(path.name for path in ROOT.glob("packages/ops-*")):
        assert f"| {package} |" in text, package
    without = {"ops-foundation", "ops-resilience", "ops-suite"}
    have = {entry.distribution for entry in formats.FORMATS}
    assert have == {path.name for path in ROOT.glob("packages/ops-*")} - without


def test_the_built_pages_have_the_rows(environment, formats) -> None:
    page = (BUILT / "reference" / "environment.html").read_text(encoding="utf-8")
    names = {name for variable in environment.described() for name in variable.names}
    assert [name for name in sorted(names) if name not in page] == []
    page = (BUILT / "reference" / "formats.html").read_text(encoding="utf-8")
    assert page.count("<tr") == len(formats.FORMATS) + 1
