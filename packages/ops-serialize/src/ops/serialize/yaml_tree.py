"""YAML text to plain data: the content of a configuration file, before any type is checked.

The events of PyYAML's parser are read directly (libyaml's where it is there), so that every limit and
every refusal is ours: depth, the size that aliases expand to, keys that occur twice, tags, and scalars
that YAML 1.1 reads as something that is hardly ever meant. Nothing is constructed but None, bool, int,
float, str, bytes, date, datetime, list, dict and set.

Positions are only recorded when they are needed, for an error: then the text is read once more.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import os
import re
from typing import TYPE_CHECKING, Any

from ops.foundation.helpers import LazyImport

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_DEPTH", "NUMBERS", "TreeError", "Words", "YamlTree", "text_tag"]

_yaml: Any = LazyImport("yaml", extra="ops-serialize[yaml]")

MAX_DEPTH = 100
_FREE_NODES = 10_000  # what aliases may expand to in a short text
_NODES_PER_CHARACTER = 10

_PREFIX = "tag:yaml.org,2002:"
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
Words = {
    form: meaning
    for word, meaning in (("yes", True), ("on", True), ("no", False), ("off", False))
    for form in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)$")
_OCTAL = re.compile(r"[-+]?0[0-7_]+$")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
)
_SPECIAL = re.compile(r"(?:([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$")
_DATE = re.compile(r"\d{4}-\d\d-\d\d$")
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)(?:[Tt]|[ \t]+)(\d\d?):(\d\d):(\d\d)(?:\.(\d*))?"
    r"[ \t]*(Z|[-+]\d\d?(?::?\d\d)?(?::\d\d)?)?$"
)
NUMBERS = (_OCTAL, _BASE_60, _FLOAT, _INTEGER, _SPECIAL, _DATE, _TIMESTAMP)  # what is no text
_FIRST = frozenset("-+.0123456789~=<")


class TreeError(Exception):
    """The text is refused; *mark* is where, *path* is filled in on the way up."""

    def __init__(self, message: str, mark: Any) -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark
        self.path: list[Any] = []


class YamlTree:
    """The plain data of one YAML document.

    *marks*, when *positions* is true, holds the positions of key and value by the id of a container
    and the key or index. *words* holds where `yes`, `no`, `on` and `off` stand, in the same way.
    """

    def __init__(self, text: str, *, env: bool = False, positions: bool = False) -> None:
        loader = getattr(_yaml, "CSafeLoader", None) or _yaml.SafeLoader
        self._env = env
        self._anchors: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}  # of what an anchor stands for, expanded
        self._left = _FREE_NODES + _NODES_PER_CHARACTER * len(text)
        self.marks: dict[tuple[int, Any], tuple[Any, Any]] | None = {} if positions else None
        self.words: dict[tuple[int, Any], tuple[Any, str]] = {}
        self._word: str | None = None
        self._merges: list[Any] = []  # kept, so that no address is used twice
        opened = loader(text)
        self._next: Callable[[], Any] = opened.get_event
        try:
            self.is_empty, self.root, self.mark = self._document()
        finally:
            opened.dispose()

    def _document(self) -> tuple[bool, Any, Any]:
        event = self._next()  # the stream's beginning
        event = self._next()
        if isinstance(event, _yaml.StreamEndEvent):
            return True, None, event.start_mark
        event = self._next()
        mark = event.start_mark
        if isinstance(event, _yaml.ScalarEvent) and not event.value and event.implicit[0]:
            return True, None, mark
        root = self._value(event, 0)
        self._next()  # the document's end
        event = self._next()
        if not isinstance(event, _yaml.StreamEndEvent):
            raise TreeError("a second document begins here; one is expected", event.start_mark)
        return False, root, mark

    def _value(self, event: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            self._refuse_aliases(event)
        kind = type(event).__name__
        if kind == "ScalarEvent":
            if event.tag is None and event.anchor is None and not self._env:  # nearly always
                text = event.value
                if not event.implicit[0] or (text[:1] not in _FIRST and text not in _SPECIAL_WORDS):
                    return text
            value = self._scalar(event)
            if event.anchor is not None:
                self._anchors[event.anchor], self._sizes[event.anchor] = value, 1
            return value
        if kind == "AliasEvent":
            return self._alias(event)
        if depth >= MAX_DEPTH:
            raise TreeError(f"nested too deeply: more than {MAX_DEPTH} levels", event.start_mark)
        before, anchor = self._left, event.anchor
        if anchor is not None:
            self._anchors[anchor], self._sizes[anchor] = None, 0  # open: it may not contain itself
        if kind == "SequenceStartEvent":
            value = self._sequence(event, depth + 1)
        else:
            value = self._mapping(event, depth + 1)
        if anchor is not None:
            self._anchors[anchor], self._sizes[anchor] = value, before - self._left + 1
        return value

    def _alias(self, event: Any) -> Any:
        size = self._sizes.get(event.anchor)
        if size is None:
            raise TreeError(f"the alias *{event.anchor} has no anchor", event.start_mark)
        if size == 0:
            raise TreeError(f"the alias *{event.anchor} contains itself", event.start_mark)
        self._left -= size
        if self._left < 0:
            self._refuse_aliases(event)
        return self._anchors[event.anchor]

    def _refuse_aliases(self, event: Any) -> None:
        raise TreeError("the aliases expand to more than the text is worth", event.start_mark)

    def _sequence(self, start: Any, depth: int) -> Any:
        if start.tag in {_PREFIX + "omap", _PREFIX + "pairs"} or not self._is_own(start.tag, "seq"):
            raise TreeError(f"the tag {text_tag(start.tag)} is not allowed", start.start_mark)
        items: list[Any] = []
        end = _yaml.SequenceEndEvent
        while type(event := self._next()) is not end:
            try:
                items.append(self._value(event, depth))
            except TreeError as error:
                error.path.insert(0, len(items))
                raise
            if self._word is not None or self.marks is not None:
                self._note(items, len(items) - 1, None, event)
        return items

    def _mapping(self, start: Any, depth: int) -> Any:
        is_set = start.tag == _PREFIX + "set"
        if not is_set and not self._is_own(start.tag, "map"):
            raise TreeError(f"the tag {text_tag(start.tag)} is not allowed", start.start_mark)
        found: dict[Any, Any] = {}
        merged: list[Any] = []
        has_merge = False
        end = _yaml.MappingEndEvent
        while type(key_event := self._next()) is not end:
            key = self._key(key_event, depth)
            event = self._next()
            try:
                value = self._value(event, depth)
            except TreeError as error:
                error.path.insert(0, key)
                raise
            if key is _MERGE:
                if has_merge:
                    raise TreeError("'<<' occurs twice; merge a list", key_event.start_mark)
                has_merge = True
                merged = self._merged(value, event)
                continue
            if key in found:
                raise TreeError(f"the key {key!r} occurs twice", key_event.start_mark)
            found[key] = value
            if self._word is not None or self.marks is not None:
                self._note(found, key, key_event, event)
        for source in merged:  # own keys win, then the earlier mapping
            for key, value in source.items():
                if key not in found:
                    found[key] = value
                    self._left -= 1
                    for notes in (self.words, self.marks):
                        if notes and (id(source), key) in notes:
                            notes[id(found), key] = notes[id(source), key]
                    if (id(found), key) in self.words:
                        self.words[id(found), key] = (found, self.words[id(found), key][1])
        if is_set:
            return set(found)
        return found

    def _merged(self, value: Any, event: Any) -> list[Any]:
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise TreeError("'<<' merges a mapping or a list of mappings", event.start_mark)
        self._merges += sources
        return sources

    def _key(self, event: Any, depth: int) -> Any:
        kind = type(event).__name__
        if kind == "ScalarEvent":
            if event.value == "<<" and event.implicit[0] and event.tag is None:
                return _MERGE
            key = self._value(event, depth)
            if self._word is not None:
                raise TreeError(
                    f"the key {self._word} is the boolean {str(key).lower()} in YAML; "
                    f"write '{self._word}' in quotes",
                    event.start_mark,
                )
            return key
        if kind == "AliasEvent":
            key = self._value(event, depth)
            if not isinstance(key, list | dict | set):
                return key
        raise TreeError("a key must be one value, not a list or mapping", event.start_mark)

    def _note(self, container: Any, key: Any, key_event: Any, event: Any) -> None:
        if self._word is not None:
            self.words[id(container), key] = (container, self._word)
            self._word = None
        if self.marks is not None:
            first = event if key_event is None else key_event
            self.marks[id(container), key] = (first.start_mark, event.start_mark)

    @staticmethod
    def _is_own(tag: str | None, name: str) -> bool:
        return tag in {None, "!", _PREFIX + name}

    # Scalars

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if self._env and "${" in text:
            text = self._filled(text, event)
        tag = event.tag
        if tag is None or tag == "!":
            if tag == "!" or not event.implicit[0]:  # quoted, or tagged as text
                return text
            if text[:1] not in _FIRST and text not in _SPECIAL_WORDS:
                return text
            return self._resolved(text, event)
        make = _TAGS.get(tag)
        if make is None:
            raise TreeError(f"the tag {text_tag(tag)} is not allowed", event.start_mark)
        try:
            return make(text)
        except (ValueError, KeyError, OverflowError, binascii.Error):
            name = tag.removeprefix(_PREFIX)
            raise TreeError(f"{text!r} is no value of !!{name}", event.start_mark) from None

    def _resolved(self, text: str, event: Any) -> Any:
        """Return what an unquoted scalar means."""
        if text in _NULLS:
            return None
        if text in _BOOLS:
            return _BOOLS[text]
        if text in Words:
            self._word = text
            return Words[text]
        if _OCTAL.match(text):
            raise TreeError(
                f"{text} is the number {int(text.replace('_', ''), 8)} in YAML 1.1 (octal); "
                f"write {int(text.replace('_', ''))}, or '{text}' in quotes for a text",
                event.start_mark,
            )
        if _BASE_60.match(text):
            raise TreeError(
                f"{text} is a number to the base of 60 in YAML 1.1; "
                f"write '{text}' in quotes for a text or a time",
                event.start_mark,
            )
        try:
            if _INTEGER.match(text):
                return _integer(text)
            if _FLOAT.match(text) or _SPECIAL.match(text):
                return _float(text)
            if _DATE.match(text) or _TIMESTAMP.match(text):
                return _timestamp(text)
        except (ValueError, OverflowError) as error:
            raise TreeError(f"{text!r} is no value: {error}", event.start_mark) from None
        return text

    def _filled(self, text: str, event: Any) -> str:
        def fill(match: re.Match[str]) -> str:
            value = os.environ.get(match[1], match[2])
            if value is None:
                raise TreeError(f"the environment variable {match[1]} is not set", event.start_mark)
            return value

        return _VARIABLE.sub(fill, text)


def text_tag(tag: str) -> str:
    """Return *tag* as a file has it."""
    return f"!!{tag.removeprefix(_PREFIX)}" if tag.startswith(_PREFIX) else tag


def _integer(text: str) -> int:
    if not _INTEGER.match(text):
        raise ValueError(text)
    digits = text.replace("_", "")
    sign = -1 if digits[0] == "-" else 1
    digits = digits.lstrip("+-")
    base = {"0x": 16, "0b": 2}.get(digits[:2].lower(), 10)
    return sign * int(digits, base)


def _float(text: str) -> float:
    match = _SPECIAL.match(text)
    if match is None:
        return float(text.replace("_", ""))
    return float("nan") if match[1] is None else float(match[1] + "inf")


def _timestamp(text: str) -> dt.date:
    if _DATE.match(text):
        return dt.date.fromisoformat(text)
    match = _TIMESTAMP.match(text)
    if match is None:
        raise ValueError("no date or time")
    numbers = [int(part) for part in match.groups()[:6]]
    fraction = int((match[7] or "0")[:6].ljust(6, "0"))
    return dt.datetime(*numbers, fraction, tzinfo=_zone(match[8]))  # type: ignore[arg-type,misc]


def _zone(text: str | None) -> dt.timezone | None:
    if text is None:
        return None
    if text == "Z":
        return dt.UTC
    parts = re.findall(r"\d\d?", text)
    hours, minutes, seconds = [*map(int, parts), 0, 0][:3]
    offset = dt.timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return dt.timezone(-offset if text[0] == "-" else offset)


def _boolean(text: str) -> bool:
    return {**_BOOLS, **Words}[text]


def _null(text: str) -> None:
    if text not in _NULLS:
        raise ValueError(text)


_MERGE = object()
_SPECIAL_WORDS = frozenset((*_NULLS, *_BOOLS, *Words))
_TAGS: dict[str, Callable[[str], Any]] = {
    _PREFIX + "str": str,
    _PREFIX + "int": _integer,
    _PREFIX + "float": _float,
    _PREFIX + "bool": _boolean,
    _PREFIX + "null": _null,
    _PREFIX + "timestamp": _timestamp,
    _PREFIX + "binary": lambda text: base64.b64decode(
        text.encode("ascii", "strict"), validate=False
    ),
}
