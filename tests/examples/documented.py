"""The commands that the documents show, read from code blocks and from code in their text."""

from __future__ import annotations

import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(\.venv/bin/\S+|python3? -m \S|pip install \S|nox\b|ops-[a-z-]+ [a-z])")


def documents() -> list[pathlib.Path]:
    patterns = (
        "*.md",
        "docs/*.md",
        "docs/howto/*.md",
        "docs/tutorial/*.md",
        "docs/explanation/*.md",
        "packages/*/README.md",
    )
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def commands(program: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the document and the words of each command whose program matches *program*."""
    found = {}
    for path in documents():
        for line in _lines(path.read_text(encoding="utf-8")):
            for part in line.split(" && "):
                words = tuple(shlex.split(part, comments=True))
                if words and re.fullmatch(program, " ".join(words[:3])):
                    found[words] = path.relative_to(ROOT).as_posix()
    return sorted((document, words) for words, document in found.items())


def _lines(text: str) -> list[str]:
    blocks = [body for language, body in _FENCE.findall(text) if language in {"", "sh", "bash"}]
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))
    # A tree of files is no command, nor is a name followed by what it is for.
    return [
        line
        for line in lines
        if _COMMAND.match(line) and not re.search(r"\S\s{3,}[a-z]", line.split("#")[0])
    ]
