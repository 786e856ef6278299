"""The command line: look at what is cached in a folder, and tidy it.

The folder is the data folder of `@cache`, or that of a `DiskCache`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any

from ops.cache.disk.cache_directory import MARKER
from ops.cache.disk.store import DiskCache
from ops.cache.errors import UnsuitableFolderError
from ops.cache.limits import CacheLimits, entries_below, entries_beyond, entry_at, remove_entry
from ops.cache.own_files import read_own_text
from ops.foundation.command_line import CommandLine, print_json, progress_bar
from ops.foundation.errors import OpsError
from ops.foundation.formatting import format_bytes
from ops.serialize.container import open_container
from ops.serialize.errors import SerializeError, SignatureError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

__all__ = ["main"]

_FORGOTTEN_SECONDS = 3600
_EXAMPLES = (
    "ops-cache ls data",
    "ops-cache import-diskcache old-folder new-folder",
    "ops-cache prune data --older-than-days 30 --max-bytes 1000000000 --dry-run",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    command = CommandLine(
        "ops-cache",
        "Look at what is cached in a folder, and tidy it.\n\n"
        "The folder is the data folder of @cache, which holds cache/, or that of a DiskCache.",
        examples=_EXAMPLES,
        misuses=(UnsuitableFolderError,),
    )
    for name, run, text in (
        ("ls", _ls, "list keys or results"),
        ("info", _info, "number and size of entries"),
        ("clear", _clear, "remove all entries"),
        ("prune", _prune, "remove old entries, of a DiskCache those whose time is over"),
        ("verify", _verify, "list damaged entries; exit code 1 if there are any"),
    ):
        command.verb(name, run, text).add_argument("dir", type=pathlib.Path)
    clear, prune = command.parsers["clear"], command.parsers["prune"]
    for each in (clear, prune):
        each.add_argument("--dry-run", action="store_true", help="only count what would be removed")
    prune.add_argument("--older-than-days", type=_days, default=30.0, help="of @cache (default 30)")
    prune.add_argument("--max-bytes", type=int, help="of @cache: what may stay, newest first")
    prune.add_argument("--max-items", type=int, help="of @cache: how many results may stay")
    imported = command.verb(
        "import-diskcache",
        _import,
        "copy the entries of a folder of diskcache into a DiskCache; resumable",
    )
    imported.add_argument(
        "dir", type=pathlib.Path, help="the folder of diskcache, which is not changed"
    )
    imported.add_argument("target", type=pathlib.Path, help="the folder of the DiskCache")
    imported.add_argument(
        "--pickles",
        choices=["data", "run", "skip"],
        default="data",
        help="data: read those of plain data (default); run: run all, also code in them; skip: none",
    )
    imported.add_argument("--max-bytes", type=int, default=1 << 40, help="of the DiskCache")
    return command(argv)


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < math.inf:
        raise ValueError(text)
    return days


def _ls(options: argparse.Namespace) -> None:
    if _is_disk_cache(options.dir):
        with _opened(options.dir) as cache:
            keys = [repr(key) for key in cache]
        if options.json:
            print_json(keys)
        else:
            print("\n".join(keys))
        return
    _print_rows(list(_entries(options.dir)), options)


def _info(options: argparse.Namespace) -> None:
    if _is_disk_cache(options.dir):
        with _opened(options.dir) as cache:
            stats = cache.get_stats()
            _print_summary(stats.size, stats.disk_bytes, options)
    else:
        _print_sizes(list(_entries(options.dir)), options)


def _clear(options: argparse.Namespace) -> None:
    if not _is_disk_cache(options.dir):
        rows = list(_entries(options.dir))
        _remove(rows, options)
        _print_sizes(rows, options, _removed(options))
        return
    with _opened(options.dir) as cache:
        stats = cache.get_stats()
        if not options.dry_run:
            cache.clear()
            stats = cache.get_stats()
        _print_summary(stats.size, stats.disk_bytes, options, _removed(options))


def _prune(options: argparse.Namespace) -> None:
    if not _is_disk_cache(options.dir):
        rows = _beyond(list(_entries(options.dir)), options)
        _remove(rows, options)
        _print_sizes(rows, options, _removed(options))
        return
    with _opened(options.dir) as cache:
        removed = cache.expire(dry_run=options.dry_run)
    if options.json:
        print_json({"removed": removed, "dry_run": options.dry_run})
    elif not options.quiet:
        print(f"{removed} entries{_removed(options)}")


def _verify(options: argparse.Namespace) -> int:
    if not _is_disk_cache(options.dir):
        damaged = [row for row in _entries(options.dir) if not _is_whole(row)]
        _print_rows(damaged, options, " damaged")
        return 1 if damaged else 0
    with _opened(options.dir) as cache:
        report = cache.check()
    found = dataclasses.asdict(report)
    if options.json:
        print_json(found)
    else:
        print("\n".join(f"{name}: {value}" for name, value in found.items()))
    return 0 if report.is_sound else 1


def _import(options: argparse.Namespace) -> int:
    from ops.cache.diskcache.folders import refuse_folder_of_diskcache
    from ops.cache.diskcache.transfer import import_diskcache

    refuse_folder_of_diskcache(options.target)  # before a cache is made there
    with DiskCache(options.target, max_bytes=options.max_bytes) as target:
        report = import_diskcache(
            options.dir, target, pickles=options.pickles, progress=progress_bar("rows", options)
        )
    if options.json:
        print_json(dataclasses.asdict(report))
    elif not options.quiet:
        print(
            f"{report.imported} imported, {report.expired} expired, {report.done_before} done before"
        )
        for reason, number in report.skipped.items():
            print(f"  {number} skipped: {reason}")
    return 0 if report.is_complete else 1


def _is_disk_cache(folder: pathlib.Path) -> bool:
    return (folder / MARKER).is_file()


def _opened(folder: pathlib.Path) -> DiskCache:
    return DiskCache(folder, max_bytes=sys.maxsize)  # looking evicts nothing


def _entries(folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    root = folder / "cache"
    if not root.is_dir():
        raise FileNotFoundError(f"{str(folder)!r} holds no cache.")
    for path in sorted(entry.path for entry in entries_below(root)):
        try:
            status = path.lstat()
        except FileNotFoundError:  # another process removed it
            continue
        try:
            record = json.loads(read_own_text(path.with_suffix(".yaml")))
        except (OpsError, OSError, ValueError, RecursionError):
            record = {}
        yield {
            "file": str(path),
            "size": status.st_size,
            "modified": status.st_mtime,
            "metadata": record if isinstance(record, dict) else {},
        }


def _beyond(rows: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the results of @cache that are too old, or more than may stay."""
    oldest = time.time() - options.older_than_days * 86400
    limits = CacheLimits(bytes=options.max_bytes, items=options.max_items)
    young = {row["file"]: row for row in rows if row["modified"] >= oldest}
    kept = [entry for path in young if (entry := entry_at(pathlib.Path(path)))]
    beyond = {str(entry.path) for entry in entries_beyond(kept, limits)}
    return [row for row in rows if row["file"] not in young or row["file"] in beyond]


def _remove(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    if options.dry_run:
        return
    for row in rows:
        remove_entry(pathlib.Path(row["file"]))
    # What killed writers left; what was written to lately may belong to a living one.
    folders = [each for each in (options.dir / "cache").iterdir() if not each.is_symlink()]
    for path in [path for folder in folders for path in folder.glob(".*.tmp")]:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _FORGOTTEN_SECONDS:
                path.unlink()


def _removed(options: argparse.Namespace) -> str:
    return " would be removed" if options.dry_run else " removed"


def _is_whole(row: dict[str, Any]) -> bool:
    """Check metadata and checksums; nothing is unpickled. Signatures need a key and are skipped."""
    try:
        open_container(row["file"], verify=True)
    except SignatureError:
        return bool(row["metadata"])
    except (SerializeError, FileNotFoundError) as error:
        if isinstance(error.__cause__, (MemoryError, OSError)):
            raise  # it was not looked at
        return False
    return bool(row["metadata"])


def _print_rows(rows: list[dict[str, Any]], options: argparse.Namespace, what: str = "") -> None:
    if options.json:
        print_json(rows)
        return
    for row in rows:
        print(f"{format_bytes(row['size']):>10}  {row['file']}")
    _print_sizes(rows, options, what)


def _print_sizes(rows: list[dict[str, Any]], options: argparse.Namespace, what: str = "") -> None:
    _print_summary(len(rows), sum(row["size"] for row in rows), options, what)


def _print_summary(number: int, size: int, options: argparse.Namespace, what: str = "") -> None:
    if options.json:
        print_json({"entries": number, "size": size})
    elif not (what and options.quiet):
        print(f"{number} entries{what}, {format_bytes(size)}")


if __name__ == "__main__":
    sys.exit(main())
