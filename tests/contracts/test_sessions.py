"""nox offers the same sessions on every Python, and the commands that the documents name select some."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.contracts import guards
from tests.examples.documented import commands

ROOT = pathlib.Path(__file__).parents[2]
CHECKS = ["coexist", "contracts", "docs", "examples", "lint", "types"]


def interpreters() -> dict[str, str]:
    """The CPythons of this machine that the suite supports, one of each minor version."""
    named = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    found = {f"3.{sys.version_info.minor}": sys.executable}
    switched_off: list[pathlib.Path] = []
    with contextlib.suppress(PermissionError):  # of another user
        switched_off = sorted(pyenv.glob("versions/3.1?.*/bin/python"))
    for candidate in [*filter(None, named), *switched_off]:
        # A shim of pyenv may stand for a version that is not switched on, and then fails.
        ask = [str(candidate), "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
        answer = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip()
        if re.fullmatch(r"3\.1[1-9]", answer):
            found.setdefault(answer, str(candidate))
    return found


def sessions(python: str | pathlib.Path, *selection: str) -> list[dict]:
    """What `nox --list` of that Python selects."""
    command = [str(python), "-m", "nox", "-f", str(ROOT / "noxfile.py"), "--list", "--json"]
    result = subprocess.run(
        [*command, *selection], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert result.returncode == 0, f"{shlex.join(selection)}: {result.stderr}"
    return json.loads(result.stdout)


def listing(python: str | pathlib.Path) -> list[str]:
    """The lines of `nox -l` of that Python: all sessions, those that `nox` alone runs with a star."""
    command = [str(python), "-m", "nox", "-f", str(ROOT / "noxfile.py"), "-l"]
    text = subprocess.check_output(command, text=True, cwd=ROOT)
    return [line for line in text.splitlines() if line.startswith(("* ", "- "))]


def test_every_interpreter_here_offers_and_selects_the_same_sessions(
    fresh_environment: Callable[..., pathlib.Path],
) -> None:
    mine = listing(sys.executable)
    for version, python in interpreters().items():
        assert listing(fresh_environment("nox", "uv", python=python)) == mine, version


def test_no_session_is_tied_to_one_python() -> None:
    """`nox` alone would leave such a session out on the others, without a word."""
    assert {s["python"] for s in sessions(sys.executable, "-k", "session or not session")} == {None}


@pytest.fixture
def copied_noxfile(tmp_path: pathlib.Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs plain `nox` in a copy of what it reads, with some lines of Python at its end."""
    for name in ("noxfile.py", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for metadata in ROOT.glob("packages/*/pyproject.toml"):
        folder = tmp_path / metadata.parent.relative_to(ROOT)
        folder.mkdir(parents=True)
        shutil.copy(metadata, folder)

    def run(lines: str) -> subprocess.CompletedProcess[str]:
        with (tmp_path / "noxfile.py").open("a", encoding="utf-8") as file:
            file.write(lines)
        command = [sys.executable, "-m", "nox"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_nox_alone_runs_every_check(copied_noxfile) -> None:
    said = "print('checks', *sorted(CHECKS), sep='|')\nCHECKS.clear()\n"
    done = copied_noxfile(said)
    libraries = [f"tests({dist.name})" for dist in guards.libraries(ROOT)]
    line = next(line for line in done.stdout.splitlines() if line.startswith("checks|"))
    assert line.split("|")[1:] == sorted([*CHECKS, *libraries])
    assert done.returncode == 0, done.stderr


def test_a_check_that_fails_is_shown_and_fails_the_line(copied_noxfile) -> None:
    done = copied_noxfile(
        "CHECKS[:] = ['good', 'bad']\n"
        "@nox.session(venv_backend='none', default=False)\n"
        "def good(session):\n    print('said by good')\n"
        "@nox.session(venv_backend='none', default=False)\n"
        "def bad(session):\n    print('said by bad')\n    session.error('no')\n"
    )
    assert done.returncode == 1
    assert "said by good" in done.stdout
    assert "said by bad" in done.stdout
    assert "failed: bad" in done.stderr


@pytest.mark.parametrize(
    ("document", "words"), commands(r"(\.venv/bin/)?nox( .*)?"), ids=lambda value: str(value)[:60]
)
def test_a_command_of_the_documents_selects_sessions(document: str, words: tuple[str, ...]) -> None:
    options = list(words[1 : words.index("--") if "--" in words else None])
    assert sessions(sys.executable, *options), document


def test_an_older_python_gets_a_sentence(tmp_path: pathlib.Path) -> None:
    program = (
        "import sys; from nox.__main__ import main\n"
        "sys.version_info = (3, 10, 9, 'final', 0); sys.version = '3.10.9 (main)'\n"
        f"sys.argv = ['nox', '-f', {str(ROOT / 'noxfile.py')!r}, '--list']\n"
        "main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert result.returncode != 0
    assert "ops needs Python 3.11 or newer; this nox runs on 3.10.9." in result.stderr
