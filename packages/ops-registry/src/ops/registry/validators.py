"""What names, keys and values must be before anything is written: every check in one module.

Each function returns what it was given, or the value as it is stored, and raises `InvalidValueError`
with the value and the rule. `ValidationMixin` gives the same checks to components as methods.
"""

from __future__ import annotations

import operator
import os
import pathlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from ops.registry.errors import InvalidValueError
from ops.registry.records import ModelStage, RunStatus

__all__ = [
    "ValidationMixin",
    "check_count",
    "check_id",
    "check_key",
    "check_mapping",
    "check_name",
    "check_path",
    "check_run_id",
    "check_stage",
    "check_status",
    "check_text",
    "check_values",
    "check_version",
    "text_tags",
    "usable_name",
]

V = TypeVar("V")
E = TypeVar("E", bound=StrEnum)

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
#: Joiners have no shape of their own, so Python does not call them printable, but writing has them.
_JOINERS = str.maketrans("", "", "\u200c\u200d")


def check_name(kind: str, name: object, most: int = 250) -> str:
    """Return a name, or refuse one that is empty, longer than *most* or has control characters."""
    if isinstance(name, str) and len(name) <= most:
        seen = name.translate(_JOINERS)
        if seen.strip() and seen.isprintable():
            return name
    raise InvalidValueError(
        f"{name!r:.80} is no name for {kind}: it needs 1 to {most} printable characters."
    )


def usable_name(name: object, otherwise: str, most: int = 250) -> str:
    """Return the name of another program's object as `check_name` takes it: *otherwise* where nothing is left of it."""
    text = name if isinstance(name, str) else ""
    kept = "".join(c if c.isprintable() or ord(c) in _JOINERS else " " for c in text)[:most]
    if not kept.translate(_JOINERS).strip():
        return otherwise
    return kept if kept == text else kept.strip()


def check_text(what: str, value: object) -> str:
    """Return a text, or refuse what is none: tables of texts are made of it."""
    if isinstance(value, str):
        return value
    raise InvalidValueError(f"{what} must be a text, not {value!r:.80}.")


def check_path(what: str, path: object) -> str:
    """Return the text of a path in a store, with "/" between parts, or refuse what no file can be called."""
    if isinstance(path, os.PathLike):
        path = path.as_posix() if isinstance(path, pathlib.PurePath) else os.fspath(path)
    text = check_text(what, path)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise InvalidValueError(
            f"{what} has half of a surrogate pair, which no file name has: {text!r:.80}."
        ) from None
    return text


def check_mapping(what: str, value: Mapping[str, V] | None) -> Mapping[str, V]:
    """Return a mapping, an empty one for None, or refuse what is none."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return value
    raise InvalidValueError(f"{what} must be a mapping such as {{'key': ...}}, not {value!r:.80}.")


def text_tags(tags: Mapping[str, object] | None) -> dict[str, str]:
    """Return tags as they are kept, the texts of their values by key; none for None."""
    return {check_key(key): str(value) for key, value in check_mapping("tags", tags).items()}


def check_key(key: object) -> str:
    """Return the key of a metric, parameter or tag, or refuse it: UTF-8 must be able to say it."""
    if isinstance(key, str) and key.strip() and len(key) <= 250:
        if key.isascii() or not any("\ud800" <= c <= "\udfff" for c in key):
            return key
        raise InvalidValueError(f"{key!r:.80} is no key: it has half of a surrogate pair.")
    raise InvalidValueError(f"{key!r:.80} is no key: it needs 1 to 250 characters.")


def check_run_id(run_id: object) -> str:
    """Return the id of a run, or refuse what could not be one."""
    return check_id("a run", run_id)


def check_id(kind: str, value: object) -> str:
    """Return the id of a run or an experiment, or refuse what could not be one."""
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise InvalidValueError(
        f"{value!r:.80} is no id of {kind}: it has 1 to 64 letters, digits, - and _."
    )


def check_stage(stage: object) -> ModelStage:
    """Return a stage, from its name in any case too."""
    return _member("stage", ModelStage, stage)


def check_status(status: object) -> RunStatus:
    """Return the status of a run, from its name in any case too."""
    return _member("status", RunStatus, status)


def _member(what: str, known: type[E], value: object) -> E:
    for member in known:
        if str(value).lower() == member.value.lower():
            return member
    raise InvalidValueError(f"{value!r:.80} is no {what}; use one of {[str(m) for m in known]}.")


def check_version(version: Any) -> int:
    """Return the number of a version, or refuse what is no whole number."""
    if isinstance(version, bool) or not hasattr(version, "__index__"):
        raise InvalidValueError(
            f"{version!r:.80} is no version: it must be named by its number, such as 1."
        )
    return operator.index(version)


def check_count(what: str, value: object) -> int:
    """Return a whole number of 0 or more, or refuse what is none."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise InvalidValueError(f"{what} is 0 or more, not {value!r:.80}.")


def check_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as floats."""
    found = check_mapping("metrics", metrics)
    return {check_key(key): _number(key, value) for key, value in found.items()}


def _number(key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidValueError(f"Metric {key!r} must be a number, not {value!r:.80}.") from error


class ValidationMixin:
    """The checks as methods, for components that take names and values from outside."""

    @staticmethod
    def validate_name(name: object, kind: str = "this") -> str:
        """Return a name or refuse it."""
        return check_name(kind, name)

    @staticmethod
    def validate_key(key: object) -> str:
        """Return a key or refuse it."""
        return check_key(key)

    @staticmethod
    def validate_run_id(run_id: object) -> str:
        """Return the id of a run or refuse it."""
        return check_run_id(run_id)

    @staticmethod
    def validate_stage(stage: object) -> ModelStage:
        """Return a stage or refuse it."""
        return check_stage(stage)

    @staticmethod
    def validate_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
        """Return metrics as floats or refuse them."""
        return check_values(metrics)
