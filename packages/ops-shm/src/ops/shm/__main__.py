"""`python -m ops.shm ls|stat|rm`: look at shared arrays, and remove forgotten ones.

Examples::

  python -m ops.shm ls                 all shared arrays, their size and who has them mapped
  python -m ops.shm stat camera --json one of them in full
  python -m ops.shm rm camera          remove one by name
  python -m ops.shm rm --stale         remove those that no process has mapped
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from ops.foundation.errors import OpsError
from ops.foundation.formatting import format_bytes, format_table
from ops.shm import mapping
from ops.shm.array import SharedMemoryArray
from ops.shm.errors import SegmentNotFoundError
from ops.shm.segments import cleanup_stale, list_segments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.shm.segments import SegmentInfo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 for a failure, 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="ops-shm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    ls = commands.add_parser("ls", help="list shared arrays")
    stat = commands.add_parser("stat", help="show one in full")
    rm = commands.add_parser("rm", help="remove some")
    for command in (ls, stat):
        command.add_argument("--json", action="store_true", help="print JSON")
    stat.add_argument("name")
    rm.add_argument("names", nargs="*", metavar="name")
    rm.add_argument("--stale", action="store_true", help="those that no process has mapped")
    options = parser.parse_args(arguments)
    if options.command == "rm" and not (options.names or options.stale):
        rm.error("name an array, or give --stale")
    try:
        return {"ls": _ls, "stat": _stat, "rm": _rm}[options.command](options)
    except OpsError as error:
        print(f"ops-shm: {error}", file=sys.stderr)
        return 1


def _ls(options: argparse.Namespace) -> int:
    infos = list_segments()
    if options.json:
        print(json.dumps([info.to_dict() for info in infos]))
    elif infos:
        rows = [[i.name, i.dtype, str(i.shape), format_bytes(i.nbytes), _pids(i)] for i in infos]
        print(format_table(rows, headers=["name", "dtype", "shape", "size", "mapped by"]))
    else:
        print("There are no shared arrays.")
    return 0


def _stat(options: argparse.Namespace) -> int:
    info = next((i for i in list_segments() if i.name == options.name), None)
    if info is None:
        raise SegmentNotFoundError(f"There is no shared array {options.name!r}.")
    if options.json:
        print(json.dumps(info.to_dict()))
    else:
        for field, value in info.to_dict().items():
            print(f"{field:12} {value}")
    return 0


def _rm(options: argparse.Namespace) -> int:
    for name in options.names:
        if not os.path.lexists(mapping.path_of(name)):
            raise SegmentNotFoundError(
                f"There is no shared array {name!r}.",
                suggestions=("`python -m ops.shm ls` lists those that exist.",),
            )
        SharedMemoryArray(name).destroy()  # without attaching, which a damaged one refuses
        print(f"removed {name}")
    if options.stale:
        for name in cleanup_stale():
            print(f"removed {name}")
    return 0


def _pids(info: SegmentInfo) -> str:
    return ", ".join(map(str, info.users)) or "nobody"


if __name__ == "__main__":
    sys.exit(main())
