"""Results of checks that report every issue they find, not the first.

A check returns a `ValidationResult`; it raises only when asked to. Checks of Python versions,
pipelines and resource requirements are here.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from ops.foundation.errors import ValidationError

__all__ = [
    "ValidationIssue",
    "ValidationLevel",
    "ValidationResult",
    "validate_pipeline_config",
    "validate_python_version",
    "validate_resource_requirements",
]


class ValidationLevel(StrEnum):
    """How bad an issue is; only errors make a result invalid."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclasses.dataclass(frozen=True, slots=True)
class ValidationIssue:
    """One finding: what, where, and what to do."""

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


def _error(
    message: str, field: str | None = None, suggestion: str | None = None, code: str | None = None
) -> ValidationIssue:
    return ValidationIssue(ValidationLevel.ERROR, message, field, suggestion, code)


_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<|~=)\s*(\d+(?:\.\d+)*)(\.\*)?")


def validate_python_version(
    specifier: str, version: Sequence[int] | None = None
) -> ValidationResult:
    """Check *version* (default: the running one) against clauses such as ">=3.11,<3.15"."""
    actual = tuple(sys.version_info[:3] if version is None else version)
    issues = []
    for clause in filter(None, (c.strip() for c in specifier.split(","))):
        match = _CLAUSE.fullmatch(clause)
        if match is None or (match[3] and match[1] not in {"==", "!="}):
            issues.append(_error(f"{clause!r} is no version clause.", code="BAD_SPECIFIER"))
            continue
        wanted = tuple(int(n) for n in match[2].split("."))
        if match[1] == "~=" and len(wanted) < 2:
            issues.append(_error(f"{clause!r} needs two numbers.", code="BAD_SPECIFIER"))
        elif not _fits(actual, match[1], wanted, prefix=bool(match[3])):
            text = ".".join(map(str, actual))
            issues.append(
                _error(f"Python {text} is not {clause}.", "python", code="PYTHON_VERSION")
            )
    return ValidationResult.of(issues)


def _fits(actual: tuple[int, ...], operator: str, wanted: tuple[int, ...], *, prefix: bool) -> bool:
    if prefix:
        same = actual[: len(wanted)] == wanted
        return same if operator == "==" else not same
    size = max(len(actual), len(wanted))
    have = actual + (0,) * (size - len(actual))
    want = wanted + (0,) * (size - len(wanted))
    answers = {
        ">=": have >= want,
        "<=": have <= want,
        "==": have == want,
        "!=": have != want,
        ">": have > want,
        "<": have < want,
        "~=": have >= want and actual[: len(wanted) - 1] == wanted[:-1],
    }
    return answers[operator]


def validate_pipeline_config(config: Mapping[str, Any]) -> ValidationResult:
    """Check `{"steps": [{"name": ..., "depends_on": [...]}]}`: names, dependencies, no cycle."""
    steps = config.get("steps")
    if not isinstance(steps, Sequence) or isinstance(steps, str | bytes) or not steps:
        return ValidationResult.of([_error("There are no steps.", "steps", code="NO_STEPS")])
    issues: list[ValidationIssue] = []
    needs: dict[str, list[str]] = {}
    for i, step in enumerate(steps):
        field = f"steps[{i}]"
        name = step.get("name") if isinstance(step, Mapping) else None
        if not isinstance(name, str) or not name:
            issues.append(_error("A step needs a name.", f"{field}.name", code="NO_NAME"))
            continue
        if name in needs:
            issues.append(_error(f"{name!r} is used twice.", f"{field}.name", code="DUPLICATE"))
            continue
        depends = step.get("depends_on") or []
        if not isinstance(depends, Sequence) or isinstance(depends, str | bytes):
            message = f"depends_on of {name!r} must be a list of names."
            issues.append(_error(message, f"{field}.depends_on", code="BAD_DEPENDENCIES"))
            depends = []
        needs[name] = list(depends)
    for name, depends in needs.items():
        issues += [
            _error(f"{name!r} depends on {d!r}, which is no step.", name, code="UNKNOWN_STEP")
            for d in depends
            if d not in needs
        ]
    cycle = _find_cycle(needs)
    if cycle:
        issues.append(
            _error(f"The steps form a cycle: {' -> '.join(cycle)}.", "steps", code="CYCLE")
        )
    return ValidationResult.of(issues)


def _find_cycle(needs: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return a cycle, first name repeated at its end; iterative, so depth has no limit."""
    finished: set[str] = set()
    for start in needs:
        path: dict[str, Any] = {}
        if start not in finished:
            path[start] = iter(needs[start])
        while path:
            name = next(reversed(path))
            following = next((n for n in path[name] if n in needs and n not in finished), None)
            if following is None:
                finished.add(name)
                del path[name]
            elif following in path:
                names = list(path)
                return [*names[names.index(following) :], following]
            else:
                path[following] = iter(needs[following])
    return None


_CPU = re.compile(r"\d+m|\d+(?:\.\d{1,3})?")
_MEMORY = re.compile(r"\d+(?:\.\d+)?(?:[KMGTPE]i|[kMGTPE])?|\d+e\d+")


def validate_resource_requirements(requirements: Mapping[str, Any]) -> ValidationResult:
    """Check Kubernetes quantities: `{"cpu": "500m", "memory": "512Mi", "gpu": 1}`."""
    issues: list[ValidationIssue] = []
    for name, value in requirements.items():
        text = "" if isinstance(value, bool) else str(value)
        if name == "cpu":
            good, form = bool(_CPU.fullmatch(text)), '"500m", 2 or "0.5"'
        elif name in {"memory", "ephemeral-storage"}:
            good, form = bool(_MEMORY.fullmatch(text)), '"512Mi", "2G" or bytes'
        elif name == "gpu":
            good, form = text.isascii() and text.isdigit(), "a whole number"
        else:
            issues.append(_error(f"{name!r} is no known resource.", name, code="UNKNOWN_RESOURCE"))
            continue
        if not good:
            message = f"{value!r} is no quantity of {name}."
            issues.append(_error(message, name, f"Use {form}.", "BAD_QUANTITY"))
        elif name != "gpu" and not re.search(r"[1-9]", text):
            issues.append(_error(f"{name} must be more than zero.", name, code="BAD_QUANTITY"))
    return ValidationResult.of(issues)
