"""What is built is what is promised: content, metadata, and life alone in an empty environment."""

from __future__ import annotations

import pathlib
import subprocess
import zipfile
from collections.abc import Callable

import pytest
from tests.contracts import guards

ROOT = pathlib.Path(__file__).parents[2]
TREE = guards.distributions(ROOT)
LIBRARIES = sorted(set(TREE) - {guards.SUITE})

#: Every public name loads, or says which extra of this very distribution it wants.
TOUCH_EVERYTHING = """
import importlib, sys
from ops.foundation import MissingExtraError
package = importlib.import_module(sys.argv[1])
assert package.__all__, "exports nothing"
for name in package.__all__:
    try:
        getattr(package, name)
    except MissingExtraError as error:
        assert error.extra.startswith(sys.argv[2] + "["), (name, error.extra)
"""


@pytest.mark.parametrize("dist", sorted(TREE))
def test_a_wheel_holds_one_package_and_its_papers(
    dist: str, wheels: dict[str, pathlib.Path]
) -> None:
    home = "ops_suite/" if dist == guards.SUITE else f"ops/{TREE[dist].module}/"
    with zipfile.ZipFile(wheels[dist]) as wheel:
        files = [name for name in wheel.namelist() if not name.endswith("/")]
    info = f"{dist.replace('-', '_')}-{TREE[dist].project['version']}.dist-info/"
    assert [n for n in files if not n.startswith((home, info))] == []
    assert f"{home}py.typed" in files
    assert f"{info}licenses/LICENSE" in files
    assert not [n for n in files if n.endswith((".pyc", ".so")) or "/tests/" in n]


@pytest.mark.parametrize("dist", LIBRARIES)
def test_a_package_lives_alone_from_its_wheel(
    dist: str,
    wheels: dict[str, pathlib.Path],
    fresh_environment: Callable[..., pathlib.Path],
    tmp_path: pathlib.Path,
) -> None:
    python = fresh_environment("--find-links", wheels[dist].parent, wheels[dist])
    command = [
        str(python),
        "-I",
        "-W",
        "error",
        "-c",
        TOUCH_EVERYTHING,
        f"ops.{TREE[dist].module}",
        dist,
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_an_editable_beside_a_namespace_file_is_refused_by_the_build_backend(
    tmp_path: pathlib.Path,
) -> None:
    """uv_build refuses to build a distribution that ships ops/__init__.py."""
    import shutil
    import sys

    package = tmp_path / "ops-shm"
    shutil.copytree(ROOT / "packages/ops-shm", package)
    (package / "src/ops/__init__.py").touch()
    command = [
        sys.executable,
        "-m",
        "uv",
        "build",
        "--wheel",
        "-q",
        str(package),
        "-o",
        str(tmp_path),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "__init__.py" in result.stderr
