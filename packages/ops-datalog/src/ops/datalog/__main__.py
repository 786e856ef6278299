"""`python -m ops.datalog info|verify|recover|export|tail`: look into a log, check it, take it elsewhere.

Examples::

  python -m ops.datalog info DIR             sources and numbers of messages
  python -m ops.datalog verify DIR --json    what is torn, damaged or missing; exit code 1 if anything is
  python -m ops.datalog recover DIR          tidy up after a crash
  python -m ops.datalog export DIR --to log.parquet      or .arrow, .csv, .npz, .mat, .mcap, FOLDER/
  python -m ops.datalog export DIR --remove-sources      one .npz per source, in the place of what was there
  python -m ops.datalog tail DIR --follow    the last messages, then new ones as they come
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from ops.datalog.archive import compress_npy_logs
from ops.datalog.reader import holds_segments, open_log
from ops.foundation.errors import OpsError
from ops.foundation.formatting import create_progress_bar, format_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ops.datalog.messages import Message
    from ops.datalog.reader import LogReader


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 for a failure, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    commands = {
        "info": _info,
        "verify": _verify,
        "recover": _recover,
        "export": _export,
        "tail": _tail,
    }
    try:
        code = commands[options.command](options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # `tail | head` has seen enough
        # What is still in the buffer would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except _UsageError as error:
        print(f"ops-datalog: {error}", file=sys.stderr)
        return 2
    except (OpsError, OSError) as error:
        print(f"ops-datalog: {error}", file=sys.stderr)
        return 1
    return code


class _UsageError(Exception):
    """What was asked for makes no sense, or would remove what nobody allowed to be removed."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ops-datalog",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("info", "sources and numbers of messages"),
        ("verify", "what is torn, damaged or missing"),
        ("recover", "tidy a log after a crash; nobody may be writing"),
        ("export", "a file elsewhere, or one .npz per source; the latter while nobody is writing"),
        ("tail", "the last messages"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("directory", type=Path)
        command.add_argument("--json", action="store_true", help="print JSON")
        if name == "export":
            command.add_argument(
                "--to",
                help="leave the log as it is and write this: NAME.parquet, NAME.arrow, NAME.csv, NAME.npz "
                "(of one source), NAME.mat, NAME.mcap, or FOLDER/ for a .npy per message",
            )
            command.add_argument("--source", type=int, help="only of this source")
            command.add_argument(
                "--remove-sources",
                action="store_true",
                help="remove segments and .npy files when the archives are written",
            )
            command.add_argument(
                "--columnar", action="store_true", help="archives of two arrays per source"
            )
        if name == "tail":
            command.add_argument("-n", type=_number, default=10, help="how many, 10 if left out")
            command.add_argument("--source", type=int, help="only of this source")
            command.add_argument("--follow", action="store_true", help="go on until it is stopped")
    return parser


def _number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _info(options: argparse.Namespace) -> int:
    counts = open_log(options.directory).counts()
    if options.json:
        print(json.dumps({str(source): count for source, count in counts.items()}))
    else:
        rows = [[source, count] for source, count in counts.items()]
        print(format_table(rows, headers=["source", "messages"]))
    return 0


def _verify(options: argparse.Namespace) -> int:
    report = open_log(options.directory).verify(_show)
    _print_fields(dataclasses.asdict(report), as_json=options.json)
    return 0 if report.is_whole else 1


def _recover(options: argparse.Namespace) -> int:
    recovery = open_log(options.directory).recover()
    _print_fields(dataclasses.asdict(recovery), as_json=options.json)
    return 1 if recovery.damaged else 0


def _export(options: argparse.Namespace) -> int:
    made = _archives(options) if options.to is None else [_exported(options)]
    paths = list(map(str, made))
    print(json.dumps(paths) if options.json else "\n".join(paths))
    return 0


def _exported(options: argparse.Namespace) -> Path:
    """Write what the name of the target says."""
    if options.remove_sources or options.columnar:
        raise _UsageError("--remove-sources and --columnar are for archives, without --to.")
    log, target = open_log(options.directory), Path(options.to)
    if options.to.endswith("/") or target.is_dir() or not target.suffix:
        return log.to_npy(target, options.source, _show)
    if target.suffix == ".npz":
        return log.to_npz(target, _only_source(log, options.source), _show)
    writers: dict[str, Callable[..., Path]] = {
        ".parquet": log.to_parquet,
        ".arrow": log.to_arrow_file,
        ".csv": log.to_csv,
        ".mat": lambda *given: log.to_mat(*given[:2]),
        ".mcap": lambda *given: log.to_mcap(*given[:2]),
    }
    if target.suffix not in writers:
        raise _UsageError(
            f"{options.to!r} names no format that is known: .parquet, .arrow, .csv, .npz, .mat, .mcap, or a folder."
        )
    return writers[target.suffix](target, options.source, _show)


def _only_source(log: LogReader, source: int | None) -> int:
    if source is not None:
        return source
    sources = log.sources()
    if len(sources) != 1:
        raise _UsageError(f"An .npz holds one source; the log has {sources}: choose with --source.")
    return sources[0]


def _archives(options: argparse.Namespace) -> list[Path]:
    if options.source is not None:
        raise _UsageError("--source needs --to; archives are made of all sources.")
    if not options.remove_sources and (options.columnar or holds_segments(options.directory)):
        raise _UsageError(
            "The archives would take the place of what is there: pass --remove-sources, "
            "or --to to write elsewhere and leave the log as it is."
        )
    return compress_npy_logs(
        options.directory,
        remove_sources=options.remove_sources,
        layout="columnar" if options.columnar else "entries",
        progress=_show,
    )


def _tail(options: argparse.Namespace) -> int:
    log = open_log(options.directory)
    last = deque(log.iter(options.source), maxlen=options.n)
    if not options.follow:
        for message in last:
            _print_message(message, as_json=options.json)
        return 0
    # What is logged between the two looks must not be missed, so following begins at the start.
    skip = sum(log.counts(options.source).values()) - len(last)
    for number, message in enumerate(log.follow(options.source)):
        if number >= skip:
            _print_message(message, as_json=options.json)
    return 0


def _print_message(message: Message, *, as_json: bool) -> None:
    data = bytes(message.data).hex()
    if as_json:
        fields = {"source": message.source_id, "time": message.timestamp, "data": data}
        print(json.dumps(fields), flush=True)
    else:
        shown = data if len(data) <= 64 else f"{data[:64]}… ({len(message.data)} bytes)"
        print(f"{message.source_id:3d} {message.timestamp:20d} {shown}", flush=True)


def _print_fields(fields: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(fields))
    else:
        for name, value in fields.items():
            print(f"{name:17} {value}")


def _show(done: int, total: int) -> None:
    if sys.stderr.isatty():
        line = create_progress_bar(done, total, prefix="messages ")
        print(f"\r{line}", end="\n" if done == total else "", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
