"""The language of the repository: words that are refused, with what stands for them.

Names, docstrings, messages and documents use the standard terms of the field. What stands from before
is counted by file in `words.json`, which only shrinks: `nox -s lint` fails when the words of a file and
of its package have become more, and `nox -s lint -- --fix` writes down that they have become fewer.
Both are wanted, so that a file may be split or renamed while its words are on their way out.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from collections import Counter

ROOT = pathlib.Path(__file__).parents[1]
LIST = "tools/words.json"
#: What is refused, as a regular expression over whole words, and the standard term.
INSTEAD = {
    r"(?<!in )(?<!into )(?<!decimal )(?<!waiting )places?": "offset, range, path, index, position or page: the one that is meant",
    r"told|said|says|heard": "notified, reported, recorded",
    r"asked": "requested",
    r"somebody|nobody|whoever": "another process, the holder, the caller, subscribers",
    r"(?:takes?|taking|took|a|its|their|whose|of|the) turns?": "lock",
    r"begins? anew|began anew|forget other threads": "reset after fork",
    r"rooms?|floors?(?!\(| temporal)|house": "module, layer, repository",
    r"figures": "metrics, measurements",
    r"moments?|(?:an|the|this|that) instant": "timestamp",
    r"is well|falls silent|beats?|heart": "healthy, stops responding, heartbeat",
    r"puts? aside": "moved to the failed queue",
    r"gives a stage back": "rolls back to the previous version",
    r"times to live": "TTL",
    r"raise a version": "bump",
    r"text for people": "human-readable",
    r"foreign errors?": "third-party errors",
    r"la(?:y|id|ys) out ahead": "pre-materialize",
    r"what is the same call": "cache key equality",
    r"started again, it goes on": "resumable",
    r"takes? off its name": "removes, unlinks",
    r"promises": "guarantees",
}
#: `place` as a column, in SQL and as the key of a row.
_COLUMN = (
    r'"place"|\b[eps]\.place|place (?:BIGINT|STRING|IS NOT NULL)|place:string|updates="place'
    r"|(?:AND|AS|SELECT|SET) place|(?:parent|logged_at), place|path, place(?=, size)|writer, place(?= FROM)"
)
#: Public names that stay, though a word in them is refused.
PUBLIC = {
    "lay_out_ahead": "a parameter of DataLogger",
    '"beat"': "a key of stored runs",
    "PlaceOptions": "a class of ops.registry",
    _COLUMN: "a column of tables in Databricks",
    "beat_at": "a column of tables in Databricks",
    "ops_run_beats": "a table of stores in Databricks",
}
_PUBLIC = re.compile(rf"(?<!\w)(?:{'|'.join(PUBLIC)})(?!\w)")
_REFUSED = re.compile(rf"\b(?:{'|'.join(INSTEAD)})\b", flags=re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|_")


def found(root: pathlib.Path = ROOT) -> dict[str, list[str]]:
    """Return the refused words of each file that has some, in their order."""
    patterns = (
        "*.md",
        "docs/*.md",
        "docs/[a-z]*/*.md",
        "packages/*/*.md",
        "packages/*/src/**/*.py",
        "packages/*/src/**/*.html",
        "packages/*/src/**/*.js",
    )
    paths = {path for pattern in patterns for path in root.glob(pattern)}
    files = sorted(path for path in paths if not path.name.endswith(".min.js"))
    words = {}
    for path in files:
        text = " ".join(_CAMEL.sub(" ", _PUBLIC.sub("", path.read_text(encoding="utf-8"))).split())
        if path.name == "AGENTS.md":
            text = re.sub(r"\bhouse\b", "", text)
        hits = [hit.lower() for hit in _REFUSED.findall(text)]
        if hits:
            words[path.relative_to(root).as_posix()] = hits
    return words


def increases(words: dict[str, list[str]], listed: dict[str, int]) -> list[str]:
    """Return a sentence for each file with more refused words than listed, where its package has more."""
    now, before = Counter(), Counter(listed)
    allowed: Counter[str] = Counter()
    for file, hits in words.items():
        now[_package(file)] += len(hits)
    for file, count in before.items():
        allowed[_package(file)] += count
    return [
        f"{file}: {len(hits)} refused words, {before[file]} are listed: {_most(hits)}"
        for file, hits in words.items()
        if len(hits) > before[file] and now[_package(file)] > allowed[_package(file)]
    ]


def _package(file: str) -> str:
    return "/".join(file.split("/")[:2]) if file.startswith("packages/") else "documents"


def _most(hits: list[str]) -> str:
    return ", ".join(f"{word!r} ({count})" for word, count in Counter(hits).most_common(5))


def main() -> int:
    """Compare with the list; `--fix` writes it, and takes nothing into it that is new."""
    words = found()
    file = ROOT / LIST
    listed = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    faults = [] if listed is None else increases(words, listed)
    if faults:
        print(*faults, "tools/words.py has the standard terms.", sep="\n", file=sys.stderr)
        return 1
    if listed is None or "--fix" in sys.argv:
        counts = {name: len(hits) for name, hits in words.items()}
        file.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
