"""import-linter guards the floors: green on this tree, red when a package imports upwards."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def lint(config: pathlib.Path, sources: list[pathlib.Path]) -> subprocess.CompletedProcess[str]:
    """Run import-linter in a fresh interpreter whose path starts with *sources*."""
    paths = [str(path) for path in sources]
    program = (
        f"import sys; sys.path[:0] = {paths!r}\n"
        "from importlinter import cli\n"
        f"sys.exit(cli.lint_imports(config_filename={str(config)!r}, no_cache=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=config.parent,
    )


def test_packages_import_only_from_floors_below() -> None:
    result = lint(ROOT / "pyproject.toml", sorted(ROOT.glob("packages/*/src")))
    assert result.returncode == 0, result.stdout + result.stderr


#: What no module there may import: a distribution beside it, an adapter from a rule, one adapter from another.
_PLANTED = {
    "ops-shm/src/ops/shm": "ops.cache",
    "ops-registry/src/ops/registry/tracking": "ops.registry.local.run_store",
    "ops-registry/src/ops/registry/models": "ops.registry.databricks.models",
    "ops-registry/src/ops/registry/local": "ops.registry.databricks.tracking",
    "ops-registry/src/ops/registry/databricks": "ops.registry.local.liveness",
    "ops-registry/src/ops/registry/search": "ops.registry.tracking.run_state",
}


def test_an_import_upwards_is_caught(tmp_path: pathlib.Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "packages", tmp_path / "packages", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder, imported in _PLANTED.items():
        planted = tmp_path / "packages" / folder / "planted.py"
        planted.write_text(f"import {imported}\n", encoding="utf-8")
    result = lint(tmp_path / "pyproject.toml", sorted(tmp_path.glob("packages/*/src")))
    assert result.returncode == 1, result.stdout + result.stderr
    for folder, imported in _PLANTED.items():
        module = folder.partition("/src/")[2].replace("/", ".")
        assert f"{module}.planted -> {imported}" in result.stdout
