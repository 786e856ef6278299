"""The doctor tells a healthy installation from one whose namespace somebody else owns."""

from __future__ import annotations

import importlib.metadata
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


def without(monkeypatch, missing: str) -> None:
    """Hide the distribution *missing* from importlib.metadata, as `pip uninstall` would."""
    version = importlib.metadata.version

    def asked(name: str) -> str:
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", asked)


def test_a_missing_required_dependency_is_named_with_who_requires_it(monkeypatch, capsys) -> None:
    without(monkeypatch, "pyarrow")
    (finding,) = [f for f in diagnose() if not f.well]
    assert finding.what == "pyarrow"
    assert "required by ops-metrics-collect" in finding.message
    assert finding.remedy.startswith('pip install "pyarrow')
    assert main(["doctor"]) == 1
    assert "BAD pyarrow" in capsys.readouterr().out


def test_extras_that_are_not_installed_are_no_fault(monkeypatch) -> None:
    without(monkeypatch, "redis")
    assert [f for f in diagnose() if not f.well] == []


def test_a_sibling_that_is_not_installed_is_not_called_hidden(tmp_path, monkeypatch) -> None:
    (tmp_path / "ops").mkdir()
    code = 'import pkgutil\n__path__ = pkgutil.extend_path(__path__, "ops")\n'
    (tmp_path / "ops/__init__.py").write_text(code)
    program = f"""
import importlib.metadata, importlib.util, sys
sys.path.insert(0, {str(tmp_path)!r})
version, find = importlib.metadata.version, importlib.util.find_spec
def asked(name):
    if name == "ops-shm":
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = asked
importlib.util.find_spec = lambda name: None if name == "ops.shm" else find(name)
from ops_suite.__main__ import main
sys.exit(main(["doctor", "--json"]))
"""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stderr
    (bad,) = [f for f in json.loads(result.stdout) if not f["well"]]
    assert (bad["what"], bad["message"]) == ("ops-shm", "not installed")
    assert bad["remedy"] == f"pip install ops-shm=={pinned_versions()['ops-shm']}"


def test_each_library_is_reported_as_installed_pinned_and_importable(capsys) -> None:
    assert main(["doctor", "--json"]) == 0
    found = {f["what"]: f for f in json.loads(capsys.readouterr().out)}
    for name, pinned in pinned_versions().items():
        assert found[name]["installed"] == found[name]["pinned"] == pinned
        assert found[name]["importable"] is True
    assert main(["doctor"]) == 0
    assert "installed 0.1.0, pinned 0.1.0, importable" in capsys.readouterr().out


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


def test_wrong_usage_exits_with_two(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["cure"])
    assert main([]) == 2
    assert "usage: ops-suite" in capsys.readouterr().err
