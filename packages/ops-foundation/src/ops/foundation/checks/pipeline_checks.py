"""Checks that report every issue they find, not the first.

A check returns a `ValidationResult`; it raises only on request. Checks of Python versions,
pipelines and resource requirements are here; functions are checked in `ops.foundation.checks.step_checks`, the
surroundings in `ops.foundation.checks.environment_checks`, configurations in `ops.foundation.checks.config_schema`. All names
are importable from here too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ops.foundation.checks.config_schema import ConfigValidator, Field
from ops.foundation.checks.environment_checks import (
    validate_cloud_credentials,
    validate_docker_environment,
)
from ops.foundation.checks.step_checks import validate_step_function
from ops.foundation.checks.validation_result import (
    ValidationIssue,
    ValidationLevel,
    ValidationResult,
    failure,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "ConfigValidator",
    "Field",
    "PipelineValidator",
    "ValidationIssue",
    "ValidationLevel",
    "ValidationResult",
    "validate_cloud_credentials",
    "validate_docker_environment",
    "validate_pipeline_config",
    "validate_python_version",
    "validate_resource_requirements",
    "validate_step_function",
]

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
            issues.append(failure(f"{clause!r} is no version clause.", code="BAD_SPECIFIER"))
            continue
        wanted = tuple(int(n) for n in match[2].split("."))
        if match[1] == "~=" and len(wanted) < 2:
            issues.append(failure(f"{clause!r} needs two numbers.", code="BAD_SPECIFIER"))
        elif not _fits(actual, match[1], wanted, prefix=bool(match[3])):
            text = ".".join(map(str, actual))
            issues.append(
                failure(f"Python {text} is not {clause}.", "python", code="PYTHON_VERSION")
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


def validate_pipeline_config(config: Any) -> ValidationResult:
    """Check `{"steps": [{"name": ..., "depends_on": [...]}]}`: names, dependencies, no cycle."""
    if not isinstance(config, Mapping):
        return _no_mapping(config)
    steps = config.get("steps")
    if not isinstance(steps, Sequence) or isinstance(steps, str | bytes) or not steps:
        return ValidationResult.of([failure("There are no steps.", "steps", code="NO_STEPS")])
    issues: list[ValidationIssue] = []
    needs: dict[str, list[str]] = {}
    for i, step in enumerate(steps):
        field = f"steps[{i}]"
        name = step.get("name") if isinstance(step, Mapping) else None
        if not isinstance(name, str) or not name:
            issues.append(failure("A step needs a name.", f"{field}.name", code="NO_NAME"))
            continue
        if name in needs:
            issues.append(failure(f"{name!r} is used twice.", f"{field}.name", code="DUPLICATE"))
            continue
        depends = step.get("depends_on") or []
        if (
            not isinstance(depends, Sequence)
            or isinstance(depends, str | bytes)
            or not all(isinstance(d, str) for d in depends)
        ):
            message = f"depends_on of {name!r} must be a list of names."
            issues.append(failure(message, f"{field}.depends_on", code="BAD_DEPENDENCIES"))
            depends = []
        needs[name] = list(depends)
    for name, depends in needs.items():
        issues += [
            failure(f"{name!r} depends on {d!r}, which is no step.", name, code="UNKNOWN_STEP")
            for d in depends
            if d not in needs
        ]
    issues += [
        failure(f"The steps form a cycle: {' -> '.join(cycle)}.", "steps", code="CYCLE")
        for cycle in _find_cycles(needs)
    ]
    return ValidationResult.of(issues)


def _find_cycles(needs: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Yield cycles, first name repeated at the end; breaking each of them leaves none.

    Depth first without recursion, so depth has no limit; every step back onto the path is a cycle.
    """
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
                yield [*names[names.index(following) :], following]
            else:
                path[following] = iter(needs[following])


def _no_mapping(config: object) -> ValidationResult:
    # What an empty YAML file gives is None.
    message = f"A mapping is needed, not {type(config).__name__}."
    return ValidationResult.of([failure(message, code="WRONG_TYPE")])


_CPU = re.compile(r"\d+m|\d+(?:\.\d{1,3})?")
_MEMORY = re.compile(r"\d+(?:\.\d+)?(?:[KMGTPE]i|[kMGTPE])?|\d+e\d+")


def validate_resource_requirements(requirements: Any) -> ValidationResult:
    """Check Kubernetes quantities: `{"cpu": "500m", "memory": "512Mi", "gpu": 1}`."""
    if not isinstance(requirements, Mapping):
        return _no_mapping(requirements)
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
            issues.append(failure(f"{name!r} is no known resource.", name, code="UNKNOWN_RESOURCE"))
            continue
        if not good:
            message = f"{value!r} is no quantity of {name}."
            issues.append(failure(message, name, f"Use {form}.", "BAD_QUANTITY"))
        elif name != "gpu" and not re.search(r"[1-9]", text):
            issues.append(failure(f"{name} must be more than zero.", name, code="BAD_QUANTITY"))
    return ValidationResult.of(issues)


class PipelineValidator:
    """Checks a pipeline with the functions and resources of its steps.

    *functions* are the callables that steps name with "function" (default: the step's own name);
    None means that they are not at hand here and are not looked for.
    """

    def __init__(self, functions: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self.functions = functions

    def validate(self, config: Any) -> ValidationResult:
        """Return the findings on the graph, "python", and each step's function and "resources"."""
        result = validate_pipeline_config(config)
        if not isinstance(config, Mapping):
            return result
        if "python" in config:
            result = result.merge(validate_python_version(str(config["python"])))
        steps = config.get("steps")
        if not isinstance(steps, Sequence) or isinstance(steps, str | bytes):
            return result
        for position, step in enumerate(steps):
            if isinstance(step, Mapping):
                field = f"steps[{position}]"
                result = result.merge(self._function(step).below(f"{field}.function"))
                result = result.merge(self._resources(step).below(f"{field}.resources"))
        return result

    def _function(self, step: Mapping[str, Any]) -> ValidationResult:
        named = step.get("function", step.get("name"))
        if callable(named):
            return validate_step_function(named)
        if self.functions is None or not named:
            return ValidationResult()
        if named not in self.functions:
            return ValidationResult.of(
                [failure(f"{named!r} is none of the functions.", code="UNKNOWN_FUNCTION")]
            )
        return validate_step_function(self.functions[named])

    @staticmethod
    def _resources(step: Mapping[str, Any]) -> ValidationResult:
        resources = step.get("resources")
        if resources is None:
            return ValidationResult()
        if isinstance(resources, Mapping):
            return validate_resource_requirements(resources)
        return ValidationResult.of(
            [failure("resources must be a mapping of names to quantities.", code="BAD_RESOURCES")]
        )
