"""What an identifier costs, beside the standard library's."""

from __future__ import annotations

import secrets
import uuid

from benchmarks.harness import Case, Target

from ops.foundation import generate_id, generate_short_id, generate_uuid, generate_uuid7

LIMIT = (Target(at_most=2e-6),)


def cases():
    yield Case(
        "a random id of twelve letters",
        {
            "ops-foundation": lambda: generate_id("job_", 12),
            "secrets.token_hex": lambda: "job_" + secrets.token_hex(6),
        },
        LIMIT,
    )
    yield Case(
        "a sortable id of sixteen letters",
        {"ops-foundation": lambda: generate_id("job_", 16, sortable=True)},
        LIMIT,
    )
    yield Case("a short id", {"ops-foundation": generate_short_id}, LIMIT)
    yield Case(
        "a random UUID", {"ops-foundation": generate_uuid, "uuid": lambda: str(uuid.uuid4())}, LIMIT
    )
    # Python 3.14 brings its own; before, there is nothing in the standard library to compare with.
    uuid7 = getattr(uuid, "uuid7", None)
    peers = {"uuid": lambda: str(uuid7())} if uuid7 else {}
    yield Case("a UUID ordered by time", {"ops-foundation": generate_uuid7, **peers}, LIMIT)
