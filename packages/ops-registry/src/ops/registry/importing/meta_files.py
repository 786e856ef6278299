"""The YAML that MLflow writes, read as plain values and nothing else.

The loader is PyYAML's safe one, so a tag such as ``!!python/object`` is an error. Aliases are refused before anything
is built: MLflow writes none, and a few lines of them can stand for gigabytes.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from ops.registry.importing.findings import ForeignDataError

__all__ = ["Meta", "nanoseconds", "parse_meta"]

#: 0001-01-01 and 9999-12-31 in milliseconds: what a datetime can hold.
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999


class Meta:
    """The fields of one ``meta.yaml``; a value of another kind than is wanted raises `ForeignDataError`."""

    def __init__(self, fields: dict[Any, Any]) -> None:
        self.fields: dict[Any, Any] = fields

    def text(self, *keys: str) -> str | None:
        """Return the first of *keys* that is there, as text; None when none is."""
        for key in keys:
            value = self.fields.get(key)
            if value is not None:
                return _text(key, value)
        return None

    def whole(self, *keys: str) -> int | None:
        """Return the first of *keys* that is there, as a whole number."""
        for key in keys:
            value = self.fields.get(key)
            if value is None:
                continue
            if isinstance(value, str) and value.strip().lstrip("-").isdecimal() and len(value) < 20:
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ForeignDataError(f"{key} is {_kind(value)}, no whole number")
            return value
        return None

    def time(self, *keys: str) -> int | None:
        """Return the first of *keys* that is there, which is milliseconds, as nanoseconds."""
        milliseconds = self.whole(*keys)
        return None if milliseconds is None else nanoseconds(milliseconds)

    def texts(self, key: str) -> dict[str, str]:
        """Return a mapping of texts; an empty one when there is none."""
        value = self.fields.get(key)
        if not value:
            return {}
        if not isinstance(value, dict):
            raise ForeignDataError(f"{key} is {_kind(value)}, no mapping")
        return {_text(key, name): _text(key, one) for name, one in value.items() if one is not None}


def nanoseconds(milliseconds: int) -> int:
    """Return a time that MLflow has in milliseconds, or refuse one that is no date."""
    if not _FIRST_MS <= milliseconds <= _LAST_MS:
        raise ForeignDataError(f"{str(milliseconds)[:40]} milliseconds is no date")
    return milliseconds * 1_000_000


def parse_meta(text: str) -> Meta:
    """Return the fields of a ``meta.yaml``; anything that MLflow does not write is a `ForeignDataError`."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if ("&" in text or "*" in text) and any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)
        ):
            raise ForeignDataError("YAML with aliases")
        fields = yaml.load(text, Loader=loader)  # noqa: S506 - one of the two safe loaders
    except yaml.YAMLError as error:
        raise ForeignDataError(f"no YAML of MLflow: {_first_line(error)}") from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ForeignDataError(f"no YAML of MLflow: {type(error).__name__}") from error
    if not isinstance(fields, dict):
        raise ForeignDataError("an empty file" if fields is None else "no mapping")
    return Meta(fields)


def _text(key: str, value: Any) -> str:
    if isinstance(value, str):
        value.encode()  # half of a surrogate pair is a UnicodeEncodeError, which is a ValueError
        return value
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, bytes):  # any column of SQLite may have some
        return value.decode("utf-8", "replace")
    if isinstance(value, (dt.date, dt.datetime)):  # a text that YAML takes for a date
        return value.isoformat()
    raise ForeignDataError(f"{key} is {_kind(value)}, no text")


def _kind(value: Any) -> str:
    names: dict[type, str] = {dict: "a mapping", list: "a list", str: "a text"}
    return names.get(type(value), type(value).__name__)


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:160]
