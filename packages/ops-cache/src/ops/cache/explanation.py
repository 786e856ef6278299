"""What the key of a cached call is made of, and what differs from the nearest stored one.

With each result lies the digest of what its function reached; a file `.code/<32 hex digits>.json`
beside the results holds the parts of that digest by name, once for all results that share it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.cache.own_files import read_own_text, refuse_link
from ops.foundation.errors import OpsError
from ops.foundation.files import atomic_write

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Mapping

__all__ = ["Explanation", "explain", "save_parts"]

_NEWEST = 1000  # entries that are looked at


@dataclass(frozen=True, slots=True)
class Explanation:
    """What makes up the key of a call. `str()` of it is for people.

    Attributes:
        name: module and name of the function.
        key: the 32 hex digits that stand for the call.
        path: where its result lies, or would lie.
        is_stored: whether there is a result that can be read.
        arguments: a digest of each argument that counts.
        parts: a digest, or version, of each thing that the code reaches, by a label.
        changes: for a call that is not stored, how it differs from the nearest stored one, in
            sentences; empty when nothing is stored for this function.
    """

    name: str
    key: str
    path: pathlib.Path
    is_stored: bool
    arguments: Mapping[str, str]
    parts: Mapping[str, str]
    changes: tuple[str, ...]

    def __str__(self) -> str:
        state = "stored" if self.is_stored else "not stored"
        lines = [f"{self.name}: {state} ({self.key})"]
        lines += [f"  {change}" for change in self.changes]
        lines += [f"  argument `{name}`: {digest[:12]}" for name, digest in self.arguments.items()]
        lines += [f"  {label}: {digest[:12]}" for label, digest in sorted(self.parts.items())]
        return "\n".join(lines)


def explain(
    *,
    key: str,
    path: pathlib.Path,
    is_stored: bool,
    name: str,
    arguments: Mapping[str, str],
    parts: Mapping[str, str],
    entries: Iterable[pathlib.Path],
) -> Explanation:
    """Compare a call with the newest *entries* of its function; see `Explanation`."""
    changes: tuple[str, ...] = ()
    if not is_stored:
        found = [_differences(entry, arguments, parts) for entry in _newest(entries)]
        known = [difference for difference in found if difference is not None]
        known.sort(key=len)
        changes = tuple(known[0]) if known else ()
    return Explanation(name, key, path, is_stored, dict(arguments), dict(parts), changes)


def save_parts(folder: pathlib.Path, parts: Mapping[str, str]) -> str:
    """Write *parts* below *folder* unless they are there; return the name of the set."""
    text = json.dumps(dict(parts), sort_keys=True, indent=1)
    name = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    path = folder / ".code" / f"{name}.json"
    refuse_link(path.parent)
    if not path.exists():
        path.parent.mkdir(exist_ok=True, mode=0o700)
        with atomic_write(path) as file:
            file.write(text)
    return name


def _newest(entries: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    ages = []
    for entry in entries:
        try:
            ages.append((entry.stat().st_mtime_ns, entry))
        except OSError:  # it is being removed
            continue
    return [entry for _, entry in sorted(ages, reverse=True)[:_NEWEST]]


def _differences(
    entry: pathlib.Path, arguments: Mapping[str, str], parts: Mapping[str, str]
) -> list[str] | None:
    """Return the sentences that say how *entry* differs; None when it cannot be compared."""
    try:
        record: dict[str, Any] = json.loads(read_own_text(entry))
        code = str(record["code"])
        if len(code) != 32 or not code.isalnum():
            return None
        stored = dict(json.loads(read_own_text(entry.parent / ".code" / f"{code}.json")))
        before: dict[str, str] = dict(record["argument_digests"])
        shown = dict(record.get("arguments", {}))
    except (OpsError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    sentences = [
        f"argument `{name}` was {shown.get(name, '?')}"
        for name in sorted(arguments.keys() | before.keys())
        if arguments.get(name, "")[:16] != before.get(name)
    ]
    for label in sorted(parts.keys() | stored.keys()):
        if label not in stored:
            sentences.append(f"{label} is new")
        elif label not in parts:
            sentences.append(f"{label} is no longer used")
        elif parts[label] != stored[label]:
            is_version = label.startswith(("distribution", "Python"))
            versions = f" from {stored[label]} to {parts[label]}" if is_version else ""
            sentences.append(f"{label} changed{versions}")
    return sentences or ["its result was removed, has expired or cannot be read"]
