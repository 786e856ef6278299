"""What CI runs works without root's rights, or names in one sentence what to install."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def bare() -> Iterator[pathlib.Path]:
    """A folder that everyone may read, with the script and a PATH without services and sudo."""
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        home.chmod(0o755)
        (home / ".ci").mkdir()
        shutil.copy(ROOT / ".ci/run", home / ".ci")
        (home / "bin").mkdir()
        for program in ("bash", "dirname", "env"):
            (home / "bin" / program).symlink_to(shutil.which(program) or program)
        yield home


def run(home: pathlib.Path) -> subprocess.CompletedProcess[str]:
    user = {"user": NOBODY, "group": NOBODY} if os.geteuid() == 0 else {}
    return subprocess.run(
        [str(home / "bin/bash"), str(home / ".ci/run")],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(home / "bin")},
        **user,
    )


def test_without_rights_the_missing_packages_are_named_in_one_sentence(bare: pathlib.Path) -> None:
    result = run(bare)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "apt-get install --no-install-recommends redis-server chromium" in line


def test_sudo_installs_them_where_it_may(bare: pathlib.Path) -> None:
    sudo = bare / "bin/sudo"
    sudo.write_text(
        '#!/bin/sh\n[ "$2" = true ] || { echo "sudo $*" >&2; exit 3; }\n', encoding="utf-8"
    )
    sudo.chmod(0o755)
    (bare / "bin/sh").symlink_to("/bin/sh")
    result = run(bare)
    assert result.returncode == 3
    assert result.stderr == "sudo -n apt-get update -qq\n"
