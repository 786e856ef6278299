"""The command line: `python -m ops.observe audit verify|query|head FILE`."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ops.observe.audit import AuditLogger
from ops.observe.errors import AuditChainError

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = """examples:
  python -m ops.observe audit head audit.jsonl > head.json      keep this elsewhere
  python -m ops.observe audit verify audit.jsonl --head head.json --key-file key
  python -m ops.observe audit query audit.jsonl --user ann --since 2026-11-01 --limit 20

exit codes: 0 done, 1 the chain is broken, 2 wrong usage or an unreadable file"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    path = Path(options.file)
    try:
        key = Path(options.key_file).read_bytes().rstrip(b"\r\n") if options.key_file else None
        if not path.parent.is_dir() or not (path.exists() or _has_segments(path)):
            print(f"There is no {path}.", file=sys.stderr)
            return 2
        done: int = options.run(AuditLogger(path, key=key), options)
    except AuditChainError as error:
        print(error.message, file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return done


def _verify(log: AuditLogger, options: argparse.Namespace) -> int:
    head = None
    if options.head:
        number, seal = json.loads(Path(options.head).read_text("utf-8"))
        head = (int(number), str(seal))
    count = log.verify(head=head, complete=options.complete or None)
    if options.json:
        print(json.dumps({"entries": count}))
    else:
        print(f"{count} entries, unaltered.")
    return 0


def _query(log: AuditLogger, options: argparse.Namespace) -> int:
    found = log.query(
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
            print(json.dumps(entry.to_dict(), default=str))
        else:
            print(
                f"{entry.timestamp.isoformat(timespec='seconds')}  {entry.user or '-'}  "
                f"{entry.action}  {entry.resource or '-'}  {entry.status}"
            )
    return 0


def _head(log: AuditLogger, _: argparse.Namespace) -> int:
    print(json.dumps(log.head()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops.observe",
        description="Tools of ops-observe.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    topics = parser.add_subparsers(dest="topic", required=True)
    audit = topics.add_parser(
        "audit",
        help="read and check audit logs",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = audit.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="check the hash chain")
    verify.add_argument("--head", help="a file with an earlier output of `head`")
    verify.add_argument("--complete", action="store_true", help="insist on entry 1")
    verify.set_defaults(run=_verify)
    query = commands.add_parser("query", help="print the entries that match")
    for name in ("user", "action", "resource", "status"):
        query.add_argument(f"--{name}")
    for name in ("since", "until"):
        query.add_argument(f"--{name}", type=_time, help="ISO 8601; UTC unless it names a zone")
    query.add_argument("--limit", type=int, help="only the newest so many")
    query.set_defaults(run=_query)
    head = commands.add_parser("head", help="print number and hash of the last entry")
    head.set_defaults(run=_head)
    for command in (verify, query, head):
        command.add_argument("file")
        command.add_argument("--key-file", help="the key of the chain, if it has one")
        command.add_argument("--json", action="store_true", help="print JSON lines")
    return parser


def _time(text: str) -> dt.datetime:
    found = dt.datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _has_segments(path: Path) -> bool:
    return any(path.parent.glob(f"{path.name}.[0-9]*"))


if __name__ == "__main__":
    sys.exit(main())
