"""The command line: look at shared arrays, and remove forgotten ones."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ops.foundation.command_line import CommandLine, UsageError, print_json
from ops.foundation.formatting import format_bytes, format_table
from ops.shm import mapping
from ops.shm.array import SharedMemoryArray
from ops.shm.errors import SegmentNotFoundError
from ops.shm.segments import cleanup_stale, list_segments

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ops.shm.segments import SegmentInfo

_EXAMPLES = (
    "ops-shm ls                   all shared arrays, their size and who has them mapped",
    "ops-shm stat camera --json   one of them in full",
    "ops-shm rm camera            remove one by name",
    "ops-shm rm --stale --dry-run what would be removed: those that no process has mapped",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    command = CommandLine(
        "ops-shm", "Look at shared arrays, and remove forgotten ones.", examples=_EXAMPLES
    )
    command.verb("ls", _ls, "list shared arrays")
    command.verb("stat", _stat, "show one in full").add_argument("name")
    rm = command.verb("rm", _rm, "remove some")
    rm.add_argument("names", nargs="*", metavar="name")
    rm.add_argument("--stale", action="store_true", help="those that no process has mapped")
    rm.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    return command(arguments)


def _ls(options: argparse.Namespace) -> None:
    infos = list_segments()
    if options.json:
        print_json([info.to_dict() for info in infos])
    elif infos:
        rows = [[i.name, i.dtype, str(i.shape), format_bytes(i.nbytes), _pids(i)] for i in infos]
        print(format_table(rows, headers=["name", "dtype", "shape", "size", "mapped by"]))
    elif not options.quiet:
        print("There are no shared arrays.")


def _stat(options: argparse.Namespace) -> None:
    info = next((i for i in list_segments() if i.name == options.name), None)
    if info is None:
        raise _not_found(options.name)
    if options.json:
        print_json(info.to_dict())
    else:
        for field, value in info.to_dict().items():
            print(f"{field:12} {value}")


def _rm(options: argparse.Namespace) -> None:
    if not (options.names or options.stale):
        raise UsageError("name an array, or give --stale")
    for name in options.names:
        if not os.path.lexists(mapping.path_of(name)):
            raise _not_found(name)
        if not options.dry_run:
            SharedMemoryArray(name).destroy()  # without attaching, which a damaged one refuses
    removed = [*options.names, *(cleanup_stale(dry_run=options.dry_run) if options.stale else ())]
    if options.json:
        print_json({"removed": removed, "dry_run": options.dry_run})
    elif not options.quiet:
        for name in removed:
            print(f"{'would remove' if options.dry_run else 'removed'} {name}")


def _not_found(name: str) -> SegmentNotFoundError:
    return SegmentNotFoundError(
        f"There is no shared array {name!r}.", suggestions=("`ops-shm ls` lists those that exist.",)
    )


def _pids(info: SegmentInfo) -> str:
    return ", ".join(map(str, info.users)) or "no process"


if __name__ == "__main__":
    sys.exit(main())
