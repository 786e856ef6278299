"""The manner of all command lines: options before and after the verb, exit codes, errors, broken pipes."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from ops.foundation.command_line import CommandLine, UsageError, print_json, progress_bar
from ops.foundation.errors import OpsError, ResourceError


@pytest.fixture
def command():
    made = CommandLine(
        "ops-toy", "A toy.", examples=["ops-toy show x"], distribution="ops-foundation"
    )
    made.add_shared("--path", default="here", help="where")
    seen = []
    made.verb("show", seen.append, "show a thing").add_argument("name")
    topic = made.topic("audit", "the audit")
    topic.verb("head", seen.append, "its head")
    runs = made.topic("runs", "list runs", run=seen.append)
    runs.verb("delete", seen.append, "delete one").add_argument("name")
    made.seen = seen
    return made


@pytest.mark.parametrize(
    "words", [["--json", "--path", "p", "show", "x"], ["show", "--json", "x", "--path", "p"]]
)
def test_shared_options_stand_before_or_after_the_verb(command, words) -> None:
    assert command(words) == 0
    (options,) = command.seen
    assert (options.json, options.quiet, options.path, options.name) == (True, False, "p", "x")


def test_defaults_of_shared_options_hold_where_they_are_not_given(command) -> None:
    assert command(["audit", "head"]) == 0
    assert command(["--quiet", "runs"]) == 0
    assert command(["runs", "delete", "r", "--quiet"]) == 0
    head, listed, deleted = command.seen
    assert (head.path, head.json, head.quiet) == ("here", False, False)
    assert (listed.path, listed.quiet) == ("here", True)
    assert (deleted.name, deleted.quiet, deleted.path) == ("r", True, "here")


@pytest.mark.parametrize("words", [[], ["audit"]])
def test_without_a_verb_there_is_help_and_code_2(command, words, capsys) -> None:
    assert command(words) == 2
    assert "usage: ops-toy" in capsys.readouterr().err


def test_the_version_is_that_of_the_distribution(command, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        command(["--version"])
    assert ended.value.code == 0
    name, version = capsys.readouterr().out.split()
    assert name == "ops-toy"
    assert version.split(".")[0].isdecimal()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no"), 2),
        (FileNotFoundError(2, "No such file or directory", "x.log"), 2),
        (KeyError("model"), 2),
        (ResourceError("full"), 1),
        (PermissionError(13, "Permission denied", "/x"), 1),
        (OpsError("odd"), 1),
    ],
)
def test_an_error_is_one_line_and_its_code(command, error, code, capsys) -> None:
    def fail(_) -> None:
        raise error

    command.verb("fail", fail, "fail")
    assert command(["fail"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ops-toy: ")
    assert captured.err.count("\n") == 1
    assert "Errno" not in captured.err
    assert command(["fail", "--json"]) == code
    assert set(json.loads(capsys.readouterr().out)["error"]) == {"code", "message"}


def test_other_errors_are_faults_of_the_program_and_are_not_hidden(command) -> None:
    command.verb("fail", lambda _: 1 // 0, "fail")
    with pytest.raises(ZeroDivisionError):
        command(["fail"])


def test_the_result_of_a_verb_is_the_exit_code(command) -> None:
    command.verb("damaged", lambda _: 1, "find damage")
    assert command(["damaged"]) == 1


def test_an_interrupt_ends_with_130(command, capsys) -> None:
    def interrupted(_) -> None:
        raise KeyboardInterrupt

    command.verb("wait", interrupted, "wait")
    assert command(["wait"]) == 130
    assert capsys.readouterr().err == "ops-toy: interrupted\n"


def test_a_reader_that_goes_away_ends_a_command_quietly() -> None:
    program = (
        "import sys; from ops.foundation.command_line import CommandLine\n"
        "command = CommandLine('ops-toy', 'A toy.', distribution='ops-foundation')\n"
        "command.verb('list', lambda _: [print('x' * 100) for _ in range(100_000)] and None, 'list')\n"
        "sys.exit(command(['list']))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == ""
    child.stderr.close()
    assert child.wait() == 0


def test_json_is_read_by_any_parser(capsys) -> None:
    print_json({"a": math.nan, "b": (math.inf, 1.5), "c": ResourceError})
    read = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert read["a"] == "nan"
    assert read["b"] == ["inf", 1.5]


def test_no_bar_is_drawn_where_no_terminal_is(command) -> None:
    command(["show", "x"])
    assert progress_bar("copied", command.seen[0]) is None


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_the_verbs(command, shell, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        command(["--print-completion", shell])
    assert ended.value.code == 0
    assert "show" in capsys.readouterr().out


def test_a_module_that_is_no_installed_command_gives_no_completion_that_would_be_that_of_python(
    capsys,
) -> None:
    command = CommandLine("python -m ops.toy", "A toy.", distribution="ops-foundation")
    with pytest.raises(SystemExit) as ended:
        command(["--print-completion", "bash"])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert "python -m ops.toy is no installed command" in err
