"""The language of the repository: words that are refused, with what stands for them.

Names, docstrings, messages and documents use the standard terms of the field. A name is split at its capitals
and underscores first, and a phrase is found across the end of a line. Where a word is right in its usual sense
(a decimal place, `math.floor`), its expression excludes that; `PUBLIC` has the names that users know by now.
"""

from __future__ import annotations

import bisect
import itertools
import pathlib
import re
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
#: What is refused, as a regular expression over whole words, and the standard term.
INSTEAD = {
    r"(?<!in )(?<!into )(?<!decimal )places?": "offset, range, path, index, position or page: the one that is meant",
    r"told|tells?(?!\()|said|says|hears?|heard": "notified, reported, recorded",
    r"asked": "requested",
    r"somebody|nobody|anybody|everybody|whoever": "another process, the holder, the caller, subscribers",
    r"(?:takes?|taking|took|a|its|their|whose|of|the|holds?|has|history) turns?|(?<=self\.)turn|(?<=self\. )turn": "lock",
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
    r"promise[ds]?": "guarantees",
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
    "waiting_place": "known to programs that build damaged stores",
    "beat_at": "a column of tables in Databricks",
    "ops_run_beats": "a table of stores in Databricks",
}
_PUBLIC = re.compile(rf"(?<!\w)(?:{'|'.join(PUBLIC)})(?!\w)")
_REFUSED = re.compile(rf"\b(?:{'|'.join(INSTEAD)})\b", flags=re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|_")
_PATTERNS = (
    "*.md",
    "docs/*.md",
    "docs/[a-z]*/*.md",
    "packages/*/*.md",
    "packages/*/src/**/*.py",
    "packages/*/src/**/*.html",
    "packages/*/src/**/*.js",
)


class Hit(NamedTuple):
    """A refused word in a file, by its line."""

    file: str
    line: int
    word: str

    def __str__(self) -> str:
        terms = (t for pattern, t in INSTEAD.items() if re.fullmatch(pattern, self.word))
        return f"{self.file}:{self.line}: {self.word!r} is refused; write: {next(terms, '')}"


def found(root: pathlib.Path = ROOT) -> list[Hit]:
    """Return the refused words of all files below *root*, in their order."""
    paths = {path for pattern in _PATTERNS for path in root.glob(pattern)}
    return [
        Hit(path.relative_to(root).as_posix(), line, word)
        for path in sorted(paths)
        if not path.name.endswith(".min.js") and root / "docs" / "reference" not in path.parents
        for line, word in refused(path.read_text(encoding="utf-8"))
    ]


def refused(text: str) -> list[tuple[int, str]]:
    """Return the line (from 1) and the small letters of each refused word of *text*."""
    lines = [" ".join(_CAMEL.sub(" ", line).split()) for line in _PUBLIC.sub("", text).split("\n")]
    starts = list(itertools.accumulate((len(line) + 1 for line in lines[:-1]), initial=0))
    return [
        (bisect.bisect(starts, hit.start()), hit[0].lower())
        for hit in _REFUSED.finditer(" ".join(lines))
    ]


def main() -> int:
    """Print each refused word with what stands for it; return 1 if there are any."""
    hits = found()
    print(*hits, sep="\n", end="\n" if hits else "", file=sys.stderr)
    return 1 if hits else 0


if __name__ == "__main__":
    sys.exit(main())
