"""`python -m ops.cache`: look at what is cached in a folder, and tidy it.

The folder is the data folder of `@cache`, or that of a `DiskCache`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any

from ops.cache.disk.folder import MARKER
from ops.cache.disk.store import DiskCache
from ops.cache.errors import CacheError
from ops.cache.limits import CacheLimits, entries_beyond, entry_at, remove_entry
from ops.foundation.formatting import format_bytes
from ops.serialize.container import open_container
from ops.serialize.errors import SerializeError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["main"]

_FORGOTTEN_SECONDS = 3600
_IMPORT = "import-diskcache"
_EXAMPLES = """examples:
  python -m ops.cache ls data
  python -m ops.cache import-diskcache old-folder new-folder
  python -m ops.cache prune data --older-than-days 30 --max-bytes 1000000000
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 when something is damaged, or 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        "python -m ops.cache",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == [_IMPORT]:
        return _import(arguments[1:])
    commands = ["ls", "info", "clear", "prune", "verify", _IMPORT]
    parser.add_argument("command", choices=commands)
    parser.add_argument(
        "dir", type=pathlib.Path, help="a data folder, which holds cache/, or one of a DiskCache"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--older-than-days", type=_days, default=30.0, help="for prune")
    parser.add_argument("--max-bytes", type=int, help="for prune: what may stay, newest first")
    parser.add_argument("--max-items", type=int, help="for prune: how many results may stay")
    options = parser.parse_args(arguments)
    if (options.dir / MARKER).is_file():
        try:
            return _on_disk_cache(options.command, options.dir, as_json=options.json)
        except CacheError as error:
            print(f"ops-cache: {error}", file=sys.stderr)
            return 2
    root = options.dir / "cache"
    if not root.is_dir():
        print(f"{root} is no folder; nothing was cached there.", file=sys.stderr)
        return 2
    rows = list(_entries(root))
    if options.command == "verify":
        rows = [row for row in rows if not _is_whole(row)]
    elif options.command == "prune":
        oldest = time.time() - options.older_than_days * 86400
        limits = CacheLimits(bytes=options.max_bytes, items=options.max_items)
        young = {row["file"]: row for row in rows if row["modified"] >= oldest}
        kept = [entry for path in young if (entry := entry_at(pathlib.Path(path)))]
        beyond = {str(entry.path) for entry in entries_beyond(kept, limits)}
        rows = [row for row in rows if row["file"] not in young or row["file"] in beyond]
    if options.command in {"clear", "prune"}:
        for row in rows:
            remove_entry(pathlib.Path(row["file"]))
        _remove_unfinished(root)
    _print(options.command, rows, as_json=options.json)
    return 1 if options.command == "verify" and rows else 0


def _import(argv: Sequence[str]) -> int:
    """Import a folder of diskcache; return 0, 1 when rows were skipped, or 2 when there is none."""
    from ops.cache.diskcache.transfer import import_diskcache

    parser = argparse.ArgumentParser(
        f"python -m ops.cache {_IMPORT}",
        description="Copy the entries of a folder of diskcache into a DiskCache. Called again, it goes on.",
    )
    parser.add_argument(
        "dir", type=pathlib.Path, help="the folder of diskcache, which is not changed"
    )
    parser.add_argument("target", type=pathlib.Path, help="the folder of the DiskCache")
    parser.add_argument(
        "--pickles",
        choices=["data", "run", "skip"],
        default="data",
        help="data: read those of plain data (default); run: run all, also code in them; skip: none",
    )
    parser.add_argument("--max-bytes", type=int, default=1 << 40, help="of the DiskCache")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)

    def show(seen: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{seen} of {total} rows", end="", file=sys.stderr, flush=True)

    try:
        with DiskCache(options.target, max_bytes=options.max_bytes) as target:
            report = import_diskcache(options.dir, target, pickles=options.pickles, progress=show)
    except CacheError as error:
        print(f"ops-cache: {error}", file=sys.stderr)
        return 2
    found = dataclasses.asdict(report)
    skipped = "".join(f"\n  {n} skipped: {why}" for why, n in report.skipped.items())
    text = f"{report.imported} imported, {report.expired} expired, {report.done_before} done before{skipped}"
    print(json.dumps(found, indent=1) if options.json else text)
    return 0 if report.is_complete else 1


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < math.inf:
        raise ValueError(text)
    return days


def _on_disk_cache(command: str, folder: pathlib.Path, *, as_json: bool) -> int:
    with DiskCache(folder, max_bytes=sys.maxsize) as cache:  # looking evicts nothing
        if command == "ls":
            keys = [repr(key) for key in cache]
            print(json.dumps(keys, indent=1) if as_json else "\n".join(keys))
            return 0
        if command == "clear":
            cache.clear()
        elif command == "prune":
            removed = {"removed": cache.expire()}
            print(json.dumps(removed) if as_json else f"{removed['removed']} entries removed")
            return 0
        elif command == "verify":
            report = cache.check()
            found = dataclasses.asdict(report)
            lines = "\n".join(f"{name}: {value}" for name, value in found.items())
            print(json.dumps(found, indent=1) if as_json else lines)
            return 0 if report.is_sound else 1
        stats = cache.get_stats()
        summary = {"entries": stats.size, "size": stats.disk_bytes}
        text = f"{stats.size} entries, {format_bytes(stats.disk_bytes)}"
        print(json.dumps(summary, indent=1) if as_json else text)
        return 0


def _entries(root: pathlib.Path) -> Iterator[dict[str, Any]]:
    for path in sorted(root.glob("*/*.pkl")):
        try:
            status = path.stat()
        except FileNotFoundError:  # another process removed it
            continue
        try:
            record = json.loads(path.with_suffix(".yaml").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            record = {}
        yield {
            "file": str(path),
            "size": status.st_size,
            "modified": status.st_mtime,
            "metadata": record if isinstance(record, dict) else {},
        }


def _is_whole(row: dict[str, Any]) -> bool:
    """Check metadata and checksums; nothing is unpickled. Signatures need a key and are skipped."""
    try:
        open_container(row["file"], verify=True)
    except SignatureError:
        return bool(row["metadata"])
    except (SerializeError, OSError):
        return False
    return bool(row["metadata"])


def _remove_unfinished(root: pathlib.Path) -> None:
    """Remove what killed writers left; what was written to lately may belong to a living one."""
    for path in root.glob("*/.*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _FORGOTTEN_SECONDS:
                path.unlink()


def _print(command: str, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    summary = {"entries": len(rows), "size": sum(row["size"] for row in rows)}
    if as_json:
        print(json.dumps(rows if command in {"ls", "verify"} else summary, indent=1))
        return
    if command in {"ls", "verify"}:
        for row in rows:
            print(f"{format_bytes(row['size']):>10}  {row['file']}")
    words = {"clear": " removed", "prune": " removed", "verify": " damaged"}
    size = format_bytes(summary["size"])
    print(f"{summary['entries']} entries{words.get(command, '')}, {size}")


if __name__ == "__main__":
    sys.exit(main())
