"""The command line: read and check audit logs."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ops.foundation.command_line import CommandLine, print_json
from ops.observe.audit import AuditLogger

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = (
    "ops-observe audit head audit.jsonl > head.json      keep this elsewhere",
    "ops-observe audit verify audit.jsonl --head head.json --key-file key",
    "ops-observe audit query audit.jsonl --user ann --since 2026-11-01 --limit 20",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    command = CommandLine(
        "ops-observe",
        "Read and check audit logs.",
        examples=_EXAMPLES,
        failures=(ValueError,),
    )
    actions = command.topic("audit", "read and check audit logs")
    verify = actions.verb("verify", _verify, "check the hash chain")
    verify.add_argument("--head", help="a file with an earlier output of `head`")
    verify.add_argument(
        "--complete",
        action=argparse.BooleanOptionalAction,
        help="insist on entry 1, or accept that old segments were moved elsewhere",
    )
    query = actions.verb("query", _query, "print the entries that match")
    for name in ("user", "action", "resource", "status"):
        query.add_argument(f"--{name}")
    for name in ("since", "until"):
        query.add_argument(f"--{name}", type=_time, help="ISO 8601; UTC unless it names a zone")
    query.add_argument("--limit", type=int, help="only the newest so many")
    head = actions.verb("head", _head, "print number and hash of the last entry")
    for each in (verify, query, head):
        each.add_argument("file")
        each.add_argument("--key-file", help="the key of the chain, if it has one")
    return command(arguments)


def _opened(options: argparse.Namespace) -> AuditLogger:
    path = Path(options.file)
    key = Path(options.key_file).read_bytes().rstrip(b"\r\n") if options.key_file else None
    if not path.parent.is_dir() or not (path.exists() or _has_segments(path)):
        raise FileNotFoundError(f"There is no {path}.")
    return AuditLogger(path, key=key)


def _verify(options: argparse.Namespace) -> None:
    log = _opened(options)
    head = None
    if options.head:
        number, seal = json.loads(Path(options.head).read_text("utf-8"))
        head = (int(number), str(seal))
    count = log.verify(head=head, complete=options.complete)
    if options.json:
        print_json({"entries": count})
    else:
        print(f"{count} entries, unaltered.")


def _query(options: argparse.Namespace) -> None:
    found = _opened(options).query(
        user=options.user,
        action=options.action,
        resource=options.resource,
        status=options.status,
        since=options.since,
        until=options.until,
        limit=options.limit,
    )
    for entry in found:
        if options.json:
            print_json(entry.to_dict())
        else:
            print(
                f"{entry.timestamp.isoformat(timespec='seconds')}  {entry.user or '-'}  "
                f"{entry.action}  {entry.resource or '-'}  {entry.status}"
            )


def _head(options: argparse.Namespace) -> None:
    print_json(_opened(options).head())


def _time(text: str) -> dt.datetime:
    found = dt.datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _has_segments(path: Path) -> bool:
    return any(path.parent.glob(f"{path.name}.[0-9]*"))


if __name__ == "__main__":
    sys.exit(main())
