"""All command lines have one manner: versions, help, exit codes, shared options, quiet ends."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from tests.contracts import guards

ROOT = pathlib.Path(__file__).parents[2]
PROGRAMS = sorted(
    program
    for dist in guards.distributions(ROOT).values()
    for program in dist.project.get("scripts", {})
)
#: A target that does not exist, for a verb of each program that takes one.
MISSING = {
    "ops-cache": ["info", "no-such-folder"],
    "ops-datalog": ["info", "no-such-folder"],
    "ops-metrics-collect": ["status", "--state", "no-such-folder"],
    "ops-observe": ["audit", "head", "no-such-file"],
    "ops-registry": ["runs", "--path", "no-such-folder"],
    "ops-serialize": ["inspect", "no-such-file"],
    "ops-shm": ["stat", "no-such-array"],
}


def run(program: str, *words: str, **options) -> subprocess.CompletedProcess[str]:
    command = [str(pathlib.Path(sys.executable).parent / program), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@functools.cache
def help_of(program: str, *words: str) -> str:
    shown = run(program, *words, "--help")
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def verbs(program: str) -> list[str]:
    """The verbs that the help of *program* lists."""
    return re.findall(r"^    ([a-z][a-z-]*)(?=\s|$)", help_of(program), flags=re.MULTILINE)


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_prints_its_version(program: str) -> None:
    shown = run(program, "--version")
    assert (shown.returncode, shown.stdout) == (0, f"{program} {version(program)}\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_shows_examples_of_it_and_the_exit_codes(program: str) -> None:
    shown = help_of(program)
    assert shown.startswith(f"usage: {program} ")
    assert f"examples:\n  {program} " in shown
    assert "exit codes: 0 " in shown
    assert "::" not in shown
    assert "python -m" not in shown
    assert verbs(program)


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_verb_takes_the_shared_options(program: str) -> None:
    for words in [(), *((verb,) for verb in verbs(program))]:
        assert {"--json", "--quiet"} <= set(re.findall(r"--[a-z-]+", help_of(program, *words))), (
            words
        )


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("words", [[], ["no-such-verb"], ["--no-such-option"]])
def test_wrong_usage_ends_with_2_and_says_how(program: str, words: list[str]) -> None:
    shown = run(program, *words)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert f"usage: {program}" in shown.stderr


def test_every_program_with_targets_is_tried() -> None:
    assert sorted(MISSING) == sorted(set(PROGRAMS) - {"ops-suite"})


@pytest.mark.parametrize("program", sorted(MISSING))
def test_a_target_that_is_missing_ends_with_2_and_one_line(
    program: str, tmp_path: pathlib.Path
) -> None:
    shown = run(program, *MISSING[program], cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert re.fullmatch(rf"{program}: .*no-such.*\n", shown.stderr)
    assert "Errno" not in shown.stderr
    for words in (["--json", *MISSING[program]], [*MISSING[program], "--json"]):
        shown = run(program, *words, cwd=tmp_path)
        assert shown.returncode == 2
        assert set(json.loads(shown.stdout)["error"]) == {"code", "message"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_reader_that_goes_away_is_no_error(program: str) -> None:
    child = subprocess.Popen(
        ["/bin/sh", "-c", f"{pathlib.Path(sys.executable).parent / program} --help | head -n 1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = child.communicate()
    assert out.startswith("usage:")
    assert err == ""


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_name_that_the_terminal_cannot_show_is_no_error(program: str) -> None:
    """In a C locale, and as a name that is no UTF-8 at all."""
    code = (
        "import sys, importlib.metadata as m\n"
        f"(point,) = [e for e in m.entry_points(group='console_scripts') if e.name == {program!r}]\n"
        "main = point.load()\n"
        "try:\n    main(['--version'])\nexcept SystemExit:\n    pass\n"
        "print('Zo\\xeb \\udcff')"
    )
    for encoding, shown in (("ascii", r"Zo\xeb \udcff"), ("utf-8", r"Zoë \udcff")):
        done = subprocess.run(
            [sys.executable, "-X", "utf8=0", "-c", code],
            capture_output=True,
            encoding="utf-8",
            check=False,
            env=os.environ | {"PYTHONIOENCODING": encoding},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == shown


def test_every_module_that_is_run_is_a_command_line_of_that_manner() -> None:
    """Those without a script too, such as ``python -m ops.registry.mlflow``; the meta-package stays light of its parts."""
    mains = {path.parent.name: path for path in ROOT.glob("packages/*/src/**/__main__.py")}
    own = {name for name, path in mains.items() if "CommandLine(" not in path.read_text()}
    assert own == {"ops_suite"}
