"""The command line: doctor, versions and demo.

It has the manner of `ops.foundation.command_line`, but not from there: the doctor imports nothing that it
examines.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ops_suite.doctor import diagnose
from ops_suite.versions import installed_versions, pinned_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_EXAMPLES = """examples:
  ops-suite doctor                 what is installed, pinned and importable, and what to do
  ops-suite versions --json        versions here and versions that were tested together
  ops-suite versions --constraints the path of constraints.txt, for pip install -c
  ops-suite demo                   the end-to-end demo; results land in ./ops-demo
  ops-suite demo --open            the same, and its runs in the browser
  ops-suite demo --kill            writers are killed at random, and what they wrote is counted

exit codes: 0 done, 1 something is wrong or failed, 2 wrong usage"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036 - a sentence instead of a failure somewhere inside
        print(
            f"ops-suite needs Python 3.11 or newer, this is {sys.version.split()[0]}.",
            file=sys.stderr,
        )
        return 1
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(
        prog="ops-suite",
        description="Examine an installation of the ops libraries, and see them work together.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ops-suite {version('ops-suite')}")
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    for each in (parser, shared):  # before the verb or after it
        each.add_argument("--json", action="store_true", help="print JSON")
        each.add_argument("--quiet", action="store_true", help="print answers and errors only")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    verbs.add_parser("doctor", parents=[shared], help="examine this installation")
    versions = verbs.add_parser(
        "versions", parents=[shared], help="versions here and tested together"
    )
    versions.add_argument("--constraints", action="store_true", help="path of constraints.txt")
    demo = verbs.add_parser("demo", parents=[shared], help="the end-to-end demo")
    demo.add_argument("--directory", type=Path, default=Path("ops-demo"), help="where results go")
    demo.add_argument(
        "--trials", type=_at_least(2), default=12, help="models to train (2 or more, default 12)"
    )
    demo.add_argument(
        "--workers", type=_at_least(1), default=2, help="worker processes (default 2)"
    )
    demo.add_argument(
        "--kill", action="store_true", help="kill writers at random, and count what is lost (0)"
    )
    demo.add_argument("--open", action="store_true", help="show the runs in the browser at the end")
    demo.add_argument("--seconds", type=_at_least(1), default=20, help="how long --kill goes on")
    options = parser.parse_args(arguments)
    if options.verb is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return {"doctor": _doctor, "versions": _versions, "demo": _demo}[options.verb](options)
    except KeyboardInterrupt:
        print("ops-suite: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # What is still in the buffer would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return number


def _doctor(options: argparse.Namespace) -> int:
    findings = diagnose()
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            print(f"{'ok ' if finding.well else 'BAD'} {finding.what:20} {finding.message}")
            if finding.pinned is not None:
                found = "importable" if finding.importable else "not importable"
                here = finding.installed or "none"
                print(f"    installed {here}, pinned {finding.pinned}, {found}")
            if finding.remedy:
                print(f"    {finding.remedy}")
    return 0 if all(finding.well for finding in findings) else 1


def _versions(options: argparse.Namespace) -> int:
    if options.constraints:
        print(files("ops_suite").joinpath("constraints.txt"))
        return 0
    here, tested = installed_versions(), pinned_versions()
    if options.json:
        print(json.dumps({"installed": here, "tested": tested}))
    else:
        for name, found in here.items():
            print(f"{name:22} {found or '-':10} tested {tested[name]}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    for finding in diagnose():
        if not finding.well:
            print(
                f"ops-suite: {finding.what}: {finding.message}. {finding.remedy}", file=sys.stderr
            )
            return 1
    # Only now: the demo imports the namespace that was just examined.
    from ops_suite.demo import run

    return run(
        options.directory,
        trials=options.trials,
        workers=options.workers,
        kill_seconds=options.seconds if options.kill else 0,
        show=options.open,
    )


if __name__ == "__main__":
    sys.exit(main())
