"""The command line: look into a log, check it, take it elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from ops.datalog.archive import compress_npy_logs
from ops.datalog.reader import holds_segments, open_log
from ops.foundation.command_line import CommandLine, UsageError, print_json, progress_bar
from ops.foundation.formatting import format_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from ops.datalog.messages import Message
    from ops.datalog.reader import LogReader

_EXAMPLES = (
    "ops-datalog info DIR             sources and numbers of messages",
    "ops-datalog verify DIR --json    what is torn, damaged or missing; exit code 1 if anything is",
    "ops-datalog recover DIR          tidy up after a crash",
    "ops-datalog export DIR --to log.parquet      or .arrow, .csv, .npz, .mat, .mcap, FOLDER/",
    "ops-datalog export DIR --remove-sources      one .npz per source, replacing the segments",
    "ops-datalog tail DIR --follow    the last messages, then new ones as they come",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    command = CommandLine(
        "ops-datalog", "Look into a log, check it, take it elsewhere.", examples=_EXAMPLES
    )
    for name, run, text in (
        ("info", _info, "sources and numbers of messages"),
        ("verify", _verify, "what is torn, damaged or missing"),
        ("recover", _recover, "tidy a log after a crash; no process may be writing"),
        ("export", _export, "a file elsewhere, or one .npz per source"),
        ("tail", _tail, "the last messages"),
    ):
        command.verb(name, run, text).add_argument("directory", type=Path)
    export, tail = command.parsers["export"], command.parsers["tail"]
    export.add_argument(
        "--to",
        help="leave the log as it is and write this: NAME.parquet, NAME.arrow, NAME.csv, NAME.npz "
        "(of one source), NAME.mat, NAME.mcap, or FOLDER/ for a .npy per message",
    )
    export.add_argument(
        "--remove-sources",
        action="store_true",
        help="remove segments and .npy files when the archives are written",
    )
    export.add_argument("--columnar", action="store_true", help="archives of two arrays per source")
    for each in (export, tail):
        each.add_argument("--source", type=int, help="only of this source")
    tail.add_argument("-n", type=_number, default=10, help="how many, 10 if left out")
    tail.add_argument("--follow", action="store_true", help="go on until it is stopped")
    return command(arguments)


def _number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _info(options: argparse.Namespace) -> None:
    counts = open_log(options.directory).counts()
    if options.json:
        print_json({str(source): count for source, count in counts.items()})
    else:
        rows = [[source, count] for source, count in counts.items()]
        print(format_table(rows, headers=["source", "messages"]))


def _verify(options: argparse.Namespace) -> int:
    report = open_log(options.directory).verify(progress_bar("messages", options))
    _print_fields(dataclasses.asdict(report), as_json=options.json)
    return 0 if report.is_whole else 1


def _recover(options: argparse.Namespace) -> int:
    recovery = open_log(options.directory).recover()
    _print_fields(dataclasses.asdict(recovery), as_json=options.json)
    return 1 if recovery.damaged else 0


def _export(options: argparse.Namespace) -> int:
    made = _archives(options) if options.to is None else [_exported(options)]
    paths = list(map(str, made))
    if options.json:
        print_json(paths)
    elif not options.quiet:
        print("\n".join(paths))
    return 0


def _exported(options: argparse.Namespace) -> Path:
    """Write the format that the target's suffix selects."""
    if options.remove_sources or options.columnar:
        raise UsageError("--remove-sources and --columnar are for archives, without --to.")
    log, target = open_log(options.directory), Path(options.to)
    progress = progress_bar("messages", options)
    if options.to.endswith("/") or target.is_dir() or not target.suffix:
        return log.to_npy(target, options.source, progress)
    if target.suffix == ".npz":
        return log.to_npz(target, _only_source(log, options.source), progress)
    writers: dict[str, Callable[..., Path]] = {
        ".parquet": log.to_parquet,
        ".arrow": log.to_arrow_file,
        ".csv": log.to_csv,
        ".mat": lambda *given: log.to_mat(*given[:2]),
        ".mcap": lambda *given: log.to_mcap(*given[:2]),
    }
    if target.suffix not in writers:
        raise UsageError(
            f"{options.to!r} names no format that is known: .parquet, .arrow, .csv, .npz, .mat, .mcap, or a folder."
        )
    return writers[target.suffix](target, options.source, progress)


def _only_source(log: LogReader, source: int | None) -> int:
    if source is not None:
        return source
    sources = log.sources()
    if len(sources) != 1:
        raise UsageError(f"An .npz holds one source; the log has {sources}: choose with --source.")
    return sources[0]


def _archives(options: argparse.Namespace) -> list[Path]:
    if options.source is not None:
        raise UsageError("--source needs --to; archives are made of all sources.")
    if not options.remove_sources and (options.columnar or holds_segments(options.directory)):
        raise UsageError(
            "The archives would replace the files of the log: pass --remove-sources, "
            "or --to to write elsewhere and leave the log as it is."
        )
    return compress_npy_logs(
        options.directory,
        remove_sources=options.remove_sources,
        layout="columnar" if options.columnar else "entries",
        progress=progress_bar("messages", options),
    )


def _tail(options: argparse.Namespace) -> None:
    log = open_log(options.directory)
    last = deque(log.iter(options.source), maxlen=options.n)
    if not options.follow:
        for message in last:
            _print_message(message, as_json=options.json)
        return
    # What is logged between the two looks must not be missed, so following begins at the start.
    skip = sum(log.counts(options.source).values()) - len(last)
    with contextlib.suppress(KeyboardInterrupt):  # how following is meant to end
        for number, message in enumerate(log.follow(options.source)):
            if number >= skip:
                _print_message(message, as_json=options.json)


def _print_message(message: Message, *, as_json: bool) -> None:
    data = bytes(message.data).hex()
    if as_json:
        fields = {"source": message.source_id, "time": message.timestamp, "data": data}
        print_json(fields)
        sys.stdout.flush()
    else:
        shown = data if len(data) <= 64 else f"{data[:64]}… ({len(message.data)} bytes)"
        print(f"{message.source_id:3d} {message.timestamp:20d} {shown}", flush=True)


def _print_fields(fields: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(fields)
    else:
        for name, value in fields.items():
            print(f"{name:17} {value}")


if __name__ == "__main__":
    sys.exit(main())
