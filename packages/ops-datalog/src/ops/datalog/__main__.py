"""`python -m ops.datalog info|verify|export`: look into a log, check it, archive it.

Examples::

  python -m ops.datalog info DIR             sources and numbers of messages
  python -m ops.datalog verify DIR --json    what is torn, damaged or missing; exit code 1 if anything is
  python -m ops.datalog export DIR           one .npz per source
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ops.datalog.archive import compress_npy_logs, lay_out_npy
from ops.datalog.reader import open_log
from ops.foundation.errors import OpsError
from ops.foundation.formatting import create_progress_bar, format_table

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 for a failure, 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="ops-datalog",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("info", "sources and numbers of messages"),
        ("verify", "what is torn, damaged or missing"),
        ("export", "one .npz per source; nobody may be writing"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("directory", type=Path)
        command.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        return {"info": _info, "verify": _verify, "export": _export}[options.command](options)
    except (OpsError, OSError) as error:
        print(f"ops-datalog: {error}", file=sys.stderr)
        return 1


def _info(options: argparse.Namespace) -> int:
    counts = Counter(message.source_id for message in open_log(options.directory))
    if options.json:
        print(json.dumps({str(source): count for source, count in sorted(counts.items())}))
    else:
        print(
            format_table(
                [[s, n] for s, n in sorted(counts.items())], headers=["source", "messages"]
            )
        )
    return 0


def _verify(options: argparse.Namespace) -> int:
    report = open_log(options.directory).verify()
    if options.json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        for name, value in dataclasses.asdict(report).items():
            print(f"{name:12} {value}")
    return 0 if report.is_whole else 1


def _export(options: argparse.Namespace) -> int:
    open_log(options.directory)
    lay_out_npy(options.directory)

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(
                "\r" + create_progress_bar(done, total, prefix="export "), end="", file=sys.stderr
            )

    archives = compress_npy_logs(options.directory, remove_sources=True, progress=show)
    print(json.dumps([str(a) for a in archives]) if options.json else "\n".join(map(str, archives)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
