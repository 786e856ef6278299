"""The doctor tells a healthy installation from one whose namespace somebody else owns."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

import pytest

from ops_suite import diagnose, installed_versions, pinned_versions
from ops_suite.__main__ import main

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments: str, path: pathlib.Path | None = None) -> subprocess.CompletedProcess[str]:
    program = "import sys\n"
    if path is not None:
        program += f"sys.path.insert(0, {str(path)!r})\n"
    program += f"from ops_suite.__main__ import main\nsys.exit(main({list(arguments)!r}))"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_this_installation_is_well() -> None:
    assert [f for f in diagnose() if not f.well] == []
    result = run("doctor")
    assert result.returncode == 0, result.stdout
    assert "shared, as it should be" in result.stdout


def test_a_regular_package_ops_is_named_with_its_remedy(tmp_path) -> None:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops/__init__.py").write_text("")
    result = run("doctor", "--json", path=tmp_path)
    assert result.returncode == 1
    bad = [f for f in json.loads(result.stdout) if not f["well"]]
    (namespace,) = [f for f in bad if f["what"] == "namespace ops"]
    assert "ops/__init__.py" in namespace["message"]
    assert "extend_path" in namespace["remedy"]


def test_the_demo_refuses_a_stolen_namespace_in_one_sentence(tmp_path) -> None:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops/__init__.py").write_text("")
    result = run("demo", path=tmp_path)
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "namespace ops" in result.stderr


def test_the_remedy_works(tmp_path) -> None:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops/__init__.py").write_text("")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        'import ops, pkgutil; ops.__path__ = pkgutil.extend_path(ops.__path__, "ops")\n'
        "import ops.foundation, ops.cache; print('found')"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "found\n"


def test_versions_here_are_those_tested_together(capsys) -> None:
    assert installed_versions() == pinned_versions()
    assert main(["versions", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tested"] == pinned_versions()
    assert main(["versions", "--constraints"]) == 0
    assert pathlib.Path(capsys.readouterr().out.strip()).is_file()


def test_pins_and_extras_are_what_the_tree_says() -> None:
    """Running pin.py again changes nothing."""
    suite = ROOT / "packages/ops-suite/pyproject.toml"
    before = suite.read_text(encoding="utf-8")
    try:
        subprocess.run([sys.executable, str(suite.with_name("pin.py")), "--offline"], check=True)
        assert suite.read_text(encoding="utf-8") == before
    finally:
        suite.write_text(before, encoding="utf-8")


def test_constraints_name_versions_and_no_index() -> None:
    text = (ROOT / "packages/ops-suite/src/ops_suite/constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.match(r"[A-Za-z0-9._-]+==\S+", line) for line in lines)
    assert "://" not in text


@pytest.mark.parametrize("arguments", [[], ["cure"]])
def test_wrong_usage_exits_with_two(arguments) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
