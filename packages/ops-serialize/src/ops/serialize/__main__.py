"""The command line: look into files without running anything in them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ops.foundation.command_line import CommandLine, UsageError, print_json
from ops.foundation.formatting import format_bytes
from ops.serialize.inspection import inspect, is_harmless, scan
from ops.serialize.smart import dump, load
from ops.serialize.trust import Safe

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ops.serialize.trust import Trust

_DESCRIPTION = """Look into files without running anything in them.

`scan` reads containers of ops.serialize, plain pickles, and files of joblib, torch and NumPy; it exits 1 when
a file would import anything but plain values, and so would be refused."""
_EXAMPLES = (
    "ops-serialize inspect model.opsf             format, codec, sizes, signature",
    "ops-serialize scan model.pkl                 what loading it would import",
    "ops-serialize convert data.opsf out.opsf --compression zstd",
    "ops-serialize convert report.opsf out.opsf --allow my_package.Report",
    "ops-serialize convert old.opsf new.opsf --trust all     a file of format 1 that you trust",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    command = CommandLine(
        "ops-serialize", _DESCRIPTION, examples=_EXAMPLES, failures=(ImportError,)
    )
    command.verb("inspect", _inspect, "what a file holds").add_argument("file", type=Path)
    command.verb("scan", _scan, "what a file would import").add_argument("file", type=Path)
    convert = command.verb("convert", _convert, "write a file again, otherwise compressed")
    convert.add_argument("file", type=Path)
    convert.add_argument("target", type=Path)
    convert.add_argument(
        "--compression", default="auto", choices=["auto", "none", "zlib", "lz4", "zstd"]
    )
    convert.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="NAME",
        help="let the file hold this class, too",
    )
    convert.add_argument(
        "--trust",
        default="safe",
        choices=["safe", "user", "all"],
        help="what FILE may hold; with all, a pickle in it is run",
    )
    return command(arguments)


def _inspect(options: argparse.Namespace) -> None:
    info = inspect(options.file).to_dict()
    if options.json:
        print_json(info)
    else:
        for name, value in info.items():
            print(f"{name:12} {format_bytes(value) if name.endswith('size') else value}")


def _scan(options: argparse.Namespace) -> int:
    names = scan(options.file)
    refused = [name for name in names if not is_harmless(name)]
    if options.json:
        print_json(names)
    else:
        for name in names:
            print(name + ("  (refused unless you allow it)" if name in refused else ""))
    return 1 if refused else 0


def _convert(options: argparse.Namespace) -> None:
    if options.trust != "safe" and options.allow:
        raise UsageError("--allow goes with --trust safe.")
    trust: Trust = Safe(tuple(options.allow)) if options.allow else options.trust
    value = load(options.file, trust=trust)
    dump(value, options.target, compression=options.compression, trust=trust)


if __name__ == "__main__":
    sys.exit(main())
