"""The manner that all command lines of ops share: `ops-x VERB TARGET`, their options, errors and exit codes.

Options that every verb takes (`--json`, `--quiet`, and those of `add_shared`) may stand before or after the
verb. The exit code is 0 when it is done, 1 when something is wrong with what was looked at or the work
failed, 2 for wrong usage and for a target that does not exist, and 130 after Ctrl-C. Errors are one line on
standard error, with `--json` also `{"error": {"code": ..., "message": ...}}` on standard output. A reader
that goes away, as `| head` does, ends a command quietly.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

from ops.foundation.errors import ErrorCode, OpsError
from ops.foundation.imports import LazyImport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    Run: TypeAlias = Callable[[argparse.Namespace], int | None]

shtab: Any = LazyImport("shtab", extra="ops-foundation[completion]")

__all__ = ["CommandLine", "UsageError", "Verbs", "print_json", "progress_bar"]

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
_LONGEST_ERROR = 2000  # characters: a message may quote a value of any length


class UsageError(OpsError, ValueError):
    """A command line that makes no sense, such as options that exclude each other: exit code 2."""

    default_code = ErrorCode.USAGE


#: Whether the command line that is being parsed asks for JSON.
_as_json: ContextVar[bool] = ContextVar("_as_json", default=False)


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage as JSON, too, where `--json` is given."""

    def error(self, message: str) -> NoReturn:
        if _as_json.get():
            print_json({"error": {"code": ErrorCode.USAGE, "message": message}})
        super().error(message)


class Verbs:
    """The verbs of a program, or of one of its topics; each takes the shared options."""

    def __init__(self, parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
        self.parser = parser
        self.parsers: dict[str, argparse.ArgumentParser] = {}
        self._shared = shared
        self._added = parser.add_subparsers(metavar="VERB")
        parser.set_defaults(run=self._show_help)

    def verb(
        self,
        name: str,
        run: Run,
        summary: str,
        *parents: argparse.ArgumentParser,
        description: str | None = None,
    ) -> argparse.ArgumentParser:
        """Add a verb and return its parser."""
        made = self._added.add_parser(
            name,
            parents=[self._shared, *parents],
            help=summary,
            description=description or f"{summary[:1].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run)
        self.parsers[name] = made
        return made

    def topic(
        self, name: str, summary: str, *parents: argparse.ArgumentParser, run: Run | None = None
    ) -> Verbs:
        """Add a verb with verbs of its own, such as ``audit verify``; alone it does *run*."""
        made = self.verb(name, self._show_help, summary, *parents)
        verbs = Verbs(made, self._shared)
        if run is not None:
            made.set_defaults(run=run)
        return verbs

    def _show_help(self, _: argparse.Namespace) -> int:
        self.parser.print_help(sys.stderr)
        return MISUSED


class CommandLine(Verbs):
    """A program of verbs; call it with the arguments to get the exit code.

    A verb's function gets the parsed options, with `json`, `quiet` and what its parser adds, prints
    its answer, and returns the exit code (None for 0). What it raises is reported: `UsageError`,
    `FileNotFoundError` and `LookupError` end with 2, other `OpsError` and `OSError` with 1.

    Args:
        program: The name as it is installed, such as "ops-cache".
        description: One or two sentences.
        examples: Lines for the help, each a command and perhaps what it does.
        distribution: Whose version `--version` prints; by default *program*.
        failures: Further exceptions that end with 1.
        misuses: Further exceptions that end with 2.

    `parser` is that of the program, `parsers` are those of the verbs by name.
    """

    def __init__(
        self,
        program: str,
        description: str,
        *,
        examples: Sequence[str] = (),
        distribution: str | None = None,
        failures: tuple[type[Exception], ...] = (),
        misuses: tuple[type[Exception], ...] = (),
    ) -> None:
        self.program = program
        self.distribution = distribution or program
        self._misuses: tuple[type[Exception], ...] = (
            UsageError,
            FileNotFoundError,
            LookupError,
            *misuses,
        )
        self._failures: tuple[type[Exception], ...] = (OpsError, OSError, *self._misuses, *failures)
        parser = _Parser(
            prog=program,
            description=description,
            epilog="\n".join(("examples:", *(f"  {line}" for line in examples))) + _CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--version", action=_Version, command=self)
        parser.add_argument(
            "--print-completion",
            action=_Completion,
            metavar="SHELL",
            help="print completion for bash, zsh or tcsh (needs ops-foundation[completion])",
        )
        # After the verb a default is left out, so that it does not overwrite what stands before.
        shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
        super().__init__(parser, shared)
        self.add_shared("--json", action="store_true", help="print JSON")
        self.add_shared("--quiet", action="store_true", help="print answers and errors only")

    def add_shared(self, *names: str, **options: Any) -> None:
        """Add an option that may stand before and after each verb that is added from now on."""
        self.parser.add_argument(*names, **options)
        options.pop("default", None)
        self._shared.add_argument(*names, **options)

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """Run the verb that *arguments* (by default those of the process) name."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A name that the terminal's encoding lacks is shown with escapes, as on standard error.
            sys.stdout.reconfigure(errors="backslashreplace")
        given = sys.argv[1:] if arguments is None else arguments
        before = _as_json.set("--json" in given)
        try:
            options = self.parser.parse_args(given)
        finally:
            _as_json.reset(before)
        try:
            code = options.run(options)
            sys.stdout.flush()
        except KeyboardInterrupt:
            print(f"{self.program}: interrupted", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:
            # What is still in the buffer would fail again when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        except self._failures as error:
            return self._report(error, as_json=options.json)
        return DONE if code is None else int(code)

    def _report(self, error: Exception, *, as_json: bool) -> int:
        text = _sentence(error)
        if as_json:
            code = str(getattr(error, "code", None) or type(error).__name__)
            print_json({"error": {"code": code, "message": text}})
        print(f"{self.program}: {text}", file=sys.stderr)
        return MISUSED if isinstance(error, self._misuses) else FAILED


_CODES = "\n\nexit codes: 0 done, 1 something is wrong or failed, 2 wrong usage or no such target"


def _sentence(error: Exception) -> str:
    """Return the text of *error* without numbers of the system."""
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, OpsError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]}…"


class _Version(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str, command: CommandLine) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")
        self._command = command

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"{self._command.program} {version(self._command.distribution)}")
        parser.exit(DONE)


class _Completion(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, _: Any, shell: Any, __: str | None = None
    ) -> None:
        if shell not in {"bash", "zsh", "tcsh"}:
            parser.error(f"--print-completion takes bash, zsh or tcsh, not {shell!r}")
        if " " in parser.prog:  # a shell would take it for the completion of python
            parser.error(f"{parser.prog} is no installed command, and shells complete only such")
        try:
            print(shtab.complete(parser, shell))
        except OpsError as error:
            parser.exit(FAILED, f"{parser.prog}: {error}\n")
        parser.exit(DONE)


def print_json(value: Any) -> None:
    """Print *value* as JSON that any parser reads: NaN and infinities become texts, as do unknown types."""
    print(json.dumps(_finite(value), default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def progress_bar(label: str, options: argparse.Namespace) -> Callable[[int, int], None] | None:
    """Return what draws ``done`` of ``total`` on standard error; None when quiet or not a terminal."""
    if options.quiet or not sys.stderr.isatty():
        return None
    from ops.foundation.formatting import create_progress_bar

    def show(done: int, total: int) -> None:
        line = create_progress_bar(done, total, prefix=f"{label} ")
        print(f"\r{line}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show
