"""`python -m ops.serialize inspect|scan|convert`: look into files without running anything in them.

`scan` reads containers of ops.serialize, plain pickles, and files of joblib, torch and NumPy; it exits 1 when
a file would import anything but plain values, and so would be refused.

Examples::

  python -m ops.serialize inspect model.opsf             format, codec, sizes, signature
  python -m ops.serialize scan model.pkl                 what loading it would import
  python -m ops.serialize convert data.opsf out.opsf --compression zstd
  python -m ops.serialize convert report.opsf out.opsf --allow my_package.Report
  python -m ops.serialize convert old.opsf new.opsf --trust all     a file of format 1 that you trust
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ops.foundation.errors import OpsError
from ops.foundation.formatting import format_bytes
from ops.serialize.inspection import inspect, is_harmless, scan
from ops.serialize.smart import dump, load
from ops.serialize.trust import Safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.serialize.trust import Trust


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 for a failure, 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="ops-serialize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("inspect", "what a file holds"), ("scan", "what it would import")):
        command = commands.add_parser(name, help=text)
        command.add_argument("file", type=Path)
        command.add_argument("--json", action="store_true", help="print JSON")
    convert = commands.add_parser("convert", help="write it again, otherwise compressed")
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
    options = parser.parse_args(arguments)
    try:
        return {"inspect": _inspect, "scan": _scan, "convert": _convert}[options.command](options)
    except (OpsError, OSError, ImportError) as error:
        print(f"ops-serialize: {error}", file=sys.stderr)
        return 1


def _inspect(options: argparse.Namespace) -> int:
    info = inspect(options.file).to_dict()
    if options.json:
        print(json.dumps(info))
    else:
        for name, value in info.items():
            print(f"{name:12} {format_bytes(value) if name.endswith('size') else value}")
    return 0


def _scan(options: argparse.Namespace) -> int:
    names = scan(options.file)
    refused = [name for name in names if not is_harmless(name)]
    if options.json:
        print(json.dumps(names))
    else:
        for name in names:
            print(name + ("  (refused unless you allow it)" if name in refused else ""))
    return 1 if refused else 0


def _convert(options: argparse.Namespace) -> int:
    if options.trust != "safe" and options.allow:
        print("ops-serialize: --allow goes with --trust safe.", file=sys.stderr)
        return 2
    trust: Trust = Safe(tuple(options.allow)) if options.allow else options.trust
    value = load(options.file, trust=trust)
    dump(value, options.target, compression=options.compression, trust=trust)
    return 0


if __name__ == "__main__":
    sys.exit(main())
