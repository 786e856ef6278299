"""The lock covers what the tree requires, names hashes and no host, and refuses what it does not name."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
from tools import lock

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    """A tree with what the lock is made of."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / lock.LOCK, tmp_path)
    for file in ROOT.glob("packages/*/pyproject.toml"):
        target = tmp_path / file.relative_to(ROOT)
        target.parent.mkdir(parents=True)
        shutil.copy(file, target)
    return tmp_path


def test_the_lock_has_what_the_tree_requires() -> None:
    assert lock.unsatisfied() == [], f"run: nox -s lock (or: {sys.executable} tools/lock.py write)"


def test_a_new_requirement_is_missed(copy: pathlib.Path) -> None:
    file = copy / "packages/ops-shm/pyproject.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"numpy>=', '"left-pad>=1", "numpy>='), encoding="utf-8")
    assert lock.unsatisfied(copy) == ["left-pad>=1"]


def test_a_raised_bound_is_missed(copy: pathlib.Path) -> None:
    file = copy / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("pytest>=8.3", "pytest>=999"), encoding="utf-8")
    assert lock.unsatisfied(copy) == ["pytest>=999"]


def test_the_lock_names_hashes_and_no_host() -> None:
    text = (ROOT / lock.LOCK).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, flags=re.MULTILINE)
    entries = re.split(r"\n(?=\S)", text)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)


def test_a_file_with_another_hash_is_refused(
    copy: pathlib.Path, fresh_environment: Callable[..., pathlib.Path]
) -> None:
    file = copy / lock.LOCK
    text = re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", file.read_text(encoding="utf-8"))
    file.write_text(text, encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError):
        fresh_environment("tenacity", constraints=file)


def test_what_the_lock_does_not_name_is_refused(
    copy: pathlib.Path, fresh_environment: Callable[..., pathlib.Path]
) -> None:
    python = fresh_environment("tenacity")
    file = copy / lock.LOCK
    text = file.read_text(encoding="utf-8")
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import json, pathlib; from tools import lock\n"
        "print(json.dumps(lock.strangers(pathlib.Path(sys.argv[1]))))"
    )

    def strangers() -> list[str]:
        command = [str(python), "-I", "-c", program, str(copy)]
        return json.loads(subprocess.check_output(command, text=True))

    assert strangers() == []
    file.write_text(re.sub(r"^tenacity==\S+", "tenacity==0.1", text, flags=re.MULTILINE))
    (found,) = strangers()
    assert found.startswith("tenacity==")
