r"""LIKE: whether a text matches a pattern with ``%`` (anything) and ``_`` (one character), in linear time.

A pattern comes from outside, so no text may make it expensive. What stands between two ``%`` is looked for once, from
left to right: the first offset where it is found is as good as any later one, so nothing is ever tried again. That is
one pass over the text for all parts together; a part with ``_`` in it costs at most its own length for each
character, and a pattern has `MOST_CHARACTERS` at most.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ops.registry.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MOST_CHARACTERS", "matcher", "pattern_parts"]

#: Longer patterns are refused.
MOST_CHARACTERS = 1_000


def matcher(
    pattern: str, *, ignores_case: bool = False, escapes: bool = True
) -> Callable[[str], bool]:
    r"""Return what decides whether a whole text matches *pattern*.

    With *escapes* ``\%``, ``\_`` and ``\\`` are these characters themselves. Raises InvalidValueError for a
    pattern that is longer than `MOST_CHARACTERS`.
    """
    if len(pattern) > MOST_CHARACTERS:
        raise InvalidValueError(
            f"A pattern has {MOST_CHARACTERS} characters at most, not {len(pattern)}: {pattern!r:.60}."
        )
    chunks: list[list[str]] = [[]]
    for part in pattern_parts(pattern, escapes=escapes):
        if part is None:
            chunks.append([])
        else:
            chunks[-1].append(part)
    if all(part for chunk in chunks for part in chunk):  # no _
        return _of_literals(["".join(chunk) for chunk in chunks], ignores_case=ignores_case)
    return _of_expression(chunks, ignores_case=ignores_case)


def pattern_parts(pattern: str, *, escapes: bool = True) -> list[str | None]:
    r"""Return the literal texts of a pattern, None for each ``%``, and "" for each ``_``."""
    found: list[str | None] = []
    tokens = r"\\([%_\\])|([%_])|(\\|[^%_\\]+)" if escapes else r"(?!)()|([%_])|([^%_]+)"
    for escaped, sign, text in re.findall(tokens, pattern):
        if sign:
            found.append(None if sign == "%" else "")
        else:
            found.append(escaped or text)
    return found


def _of_literals(texts: Sequence[str], *, ignores_case: bool) -> Callable[[str], bool]:
    """Return what looks for literal texts, the first at the beginning and the last at the end."""
    if not ignores_case:
        return lambda found: _has_in_order(found, texts)
    # Small and capital letters have one length in ASCII alone.
    exact = _of_expression([[text] for text in texts], ignores_case=True)
    if not all(map(str.isascii, texts)):
        return exact
    small = [text.lower() for text in texts]
    return lambda found: _has_in_order(found.lower(), small) if found.isascii() else exact(found)


def _has_in_order(found: str, texts: Sequence[str]) -> bool:
    first, *others = texts
    if not others:
        return found == first
    *between, last = others
    if not found.startswith(first) or len(found) < len(first) + len(last):
        return False
    offset, end = len(first), len(found) - len(last)
    for text in between:
        offset = found.find(text, offset, end)
        if offset < 0:
            return False
        offset += len(text)
    return found.endswith(last)


def _of_expression(chunks: Sequence[Sequence[str]], *, ignores_case: bool) -> Callable[[str], bool]:
    """Return what looks for texts with ``_`` in them; the atomic groups see that nothing is tried again."""
    first, *others = ("".join(re.escape(part) or "." for part in chunk) for chunk in chunks)
    between = "".join(f"(?>.*?{part})" for part in others[:-1] if part)
    flags = re.DOTALL | (re.IGNORECASE if ignores_case else re.NOFLAG)
    # The last one is at the end: what is before it has a length that is known.
    matches = re.compile(first + between, flags).match
    if not others:
        whole = re.compile(first, flags).fullmatch
        return lambda found: whole(found) is not None
    at_end = re.compile(others[-1], flags).fullmatch
    length = sum(len(part) or 1 for part in chunks[-1])

    def accepts(found: str) -> bool:
        start = len(found) - length
        if start < 0 or at_end(found, start) is None:
            return False
        begun = matches(found, 0, start)
        return begun is not None

    return accepts
