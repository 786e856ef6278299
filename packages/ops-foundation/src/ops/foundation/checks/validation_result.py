"""What a check returns: every issue that it found, not the first; exceptions only on request."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING

from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ValidationIssue", "ValidationLevel", "ValidationResult", "failure", "remark"]


class ValidationLevel(StrEnum):
    """How bad an issue is; only errors make a result invalid."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclasses.dataclass(frozen=True, slots=True)
class ValidationIssue:
    """One finding: what, where, and what to do.

    *level* is how bad it is; *message* what was found; *field* where, as a path (None: in the
    whole); *suggestion* what to do; *code* a word for programs.
    """

    level: ValidationLevel
    message: str
    field: str | None = None
    suggestion: str | None = None
    code: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ValidationResult:
    """All findings of a check."""

    valid: bool = True
    issues: tuple[ValidationIssue, ...] = ()

    @classmethod
    def of(cls, issues: Sequence[ValidationIssue]) -> ValidationResult:
        """Return a result that is valid unless an issue is an error."""
        return cls(all(i.level is not ValidationLevel.ERROR for i in issues), tuple(issues))

    def get_errors(self) -> list[ValidationIssue]:
        """Return the issues that make the result invalid."""
        return [i for i in self.issues if i.level is ValidationLevel.ERROR]

    def get_warnings(self) -> list[ValidationIssue]:
        """Return the issues that are warnings."""
        return [i for i in self.issues if i.level is ValidationLevel.WARNING]

    def merge(self, other: ValidationResult) -> ValidationResult:
        """Return the findings of both; valid only if both are."""
        return ValidationResult(self.valid and other.valid, self.issues + other.issues)

    def raise_if_invalid(self) -> None:
        """Raise a `ValidationError` with every error in its message."""
        if not self.valid:
            lines = (f"{i.field}: {i.message}" if i.field else i.message for i in self.get_errors())
            raise ValidationError("; ".join(lines) or "The result is invalid.")

    def below(self, prefix: str) -> ValidationResult:
        """Return the same findings with *prefix* before each field, for a part of a larger thing."""
        moved = [
            dataclasses.replace(i, field=f"{prefix}.{i.field}" if i.field else prefix)
            for i in self.issues
        ]
        return ValidationResult(self.valid, tuple(moved))


def failure(
    message: str, field: str | None = None, suggestion: str | None = None, code: str | None = None
) -> ValidationIssue:
    """Return an issue that makes a result invalid."""
    return ValidationIssue(ValidationLevel.ERROR, message, field, suggestion, code)


def remark(
    message: str,
    field: str | None = None,
    suggestion: str | None = None,
    code: str | None = None,
    *,
    level: ValidationLevel = ValidationLevel.WARNING,
) -> ValidationIssue:
    """Return an issue that leaves a result valid: a warning unless *level* is lower."""
    return ValidationIssue(level, message, field, suggestion, code)
