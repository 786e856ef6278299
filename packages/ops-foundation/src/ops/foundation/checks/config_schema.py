"""Configurations checked against a schema of plain types, so a typing error is found before a run.

A schema is a mapping of names to types, to `Field`s, or to schemas for what is nested. The checks
walk it depth first and name each value by a dotted path (`optimizer.kind`, `stages[1].name`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.foundation.checks.validation_result import ValidationResult, failure
from ops.foundation.errors import name_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ops.foundation.checks.validation_result import ValidationIssue

__all__ = ["ConfigValidator", "Field", "Schema"]

Kind: TypeAlias = "type | tuple[type, ...]"
Schema: TypeAlias = "Mapping[str, Kind | Field | Schema]"


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """What a value must be.

    *kind* is a type or several; an int passes as float, a bool as neither. *at_least* and *at_most*
    bound a number, or the length of what has one. *items* is the schema or type of a list's members.
    *check* returns what is wrong as a sentence, or None.

    *required* keys must be there. *choices* are the only values allowed; *pattern* is a regular
    expression that the whole text must match.
    """

    kind: Kind = object
    required: bool = True
    choices: Sequence[Any] | None = None
    at_least: float | None = None
    at_most: float | None = None
    pattern: str | None = None
    items: Kind | Field | Schema | None = None
    check: Callable[[Any], str | None] | None = None


class ConfigValidator:
    """Checks mappings against *schema*; names that it does not know are errors unless allowed."""

    def __init__(self, schema: Schema, *, allow_unknown: bool = False) -> None:
        self.schema = schema
        self.allow_unknown = allow_unknown

    def validate(self, config: Any) -> ValidationResult:
        """Return every way in which *config* differs from the schema."""
        return ValidationResult.of(list(self._mapping(config, self.schema, "")))

    def _mapping(self, config: Any, schema: Schema, path: str) -> Iterator[ValidationIssue]:
        if not isinstance(config, Mapping):
            message = f"A mapping is needed, not {type(config).__name__}."
            yield failure(message, path or None, code="WRONG_TYPE")
            return
        for name, rule in schema.items():
            field = f"{path}.{name}" if path else name
            if name in config:
                yield from self._value(config[name], rule, field)
            elif not isinstance(rule, Field) or rule.required:
                yield failure(f"{name!r} is missing.", field, code="MISSING")
        if not self.allow_unknown:
            for name in config:
                if name not in schema:
                    yield _unknown(str(name), schema, path)

    def _value(
        self, value: Any, rule: Kind | Field | Schema, path: str
    ) -> Iterator[ValidationIssue]:
        if isinstance(rule, Mapping):
            yield from self._mapping(value, rule, path)
            return
        field = rule if isinstance(rule, Field) else Field(rule)
        if not _is_a(value, field.kind):
            message = f"{value!r} is a {type(value).__name__}; {_names(field.kind)} is needed."
            yield failure(message, path, code="WRONG_TYPE")
            return
        yield from _limits(value, field, path)
        if field.items is not None and isinstance(value, Iterable):
            for position, item in enumerate(value):
                yield from self._value(item, field.items, f"{path}[{position}]")


def _limits(value: Any, field: Field, path: str) -> Iterator[ValidationIssue]:
    if field.choices is not None and value not in field.choices:
        known = ", ".join(map(repr, field.choices))
        yield failure(f"{value!r} is none of {known}.", path, code="NOT_A_CHOICE")
    # None is there because the kind allows it, and has neither a size nor a form.
    if value is not None:
        yield from _bounds(value, field, path)
    wrong = field.check(value) if field.check else None
    if wrong:
        yield failure(wrong, path, code="REFUSED")


def _bounds(value: Any, field: Field, path: str) -> Iterator[ValidationIssue]:
    size = len(value) if hasattr(value, "__len__") else value
    what = "The length of " if hasattr(value, "__len__") else ""
    # Written so that NaN, which is neither more nor less, is out of range.
    if field.at_least is not None and not size >= field.at_least:
        yield failure(f"{what}{value!r} is below {field.at_least}.", path, code="OUT_OF_RANGE")
    if field.at_most is not None and not size <= field.at_most:
        yield failure(f"{what}{value!r} is above {field.at_most}.", path, code="OUT_OF_RANGE")
    if field.pattern is not None and not re.fullmatch(field.pattern, value):
        yield failure(f"{value!r} does not fit {field.pattern!r}.", path, code="BAD_FORM")


def _is_a(value: Any, kind: Kind) -> bool:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, bool):
        return bool in kinds or object in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def _names(kind: Kind) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join(k.__name__ for k in kinds)


def _unknown(name: str, schema: Schema, path: str) -> ValidationIssue:
    hint = name_hint(name, schema)
    hint = hint[0].upper() + hint[1:]
    return failure(
        f"{name!r} is no known name.", f"{path}.{name}" if path else name, hint, "UNKNOWN"
    )
