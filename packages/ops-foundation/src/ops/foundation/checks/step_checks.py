"""Whether a function can serve as a step of a pipeline: called by keyword, found again, understood.

What is checked is what a runner does with it. A runner passes inputs by name, so parameters must have
names to pass by. It may send the function to another process, which needs pickle to find it; a
nested or decorated function still works in threads, so there the finding is a warning and no error.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pickle
import sys
from typing import TYPE_CHECKING, Any

from ops.foundation.checks.validation_result import (
    ValidationLevel,
    ValidationResult,
    failure,
    remark,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ops.foundation.checks.validation_result import (
        ValidationIssue,
    )

__all__ = ["validate_step_function"]


def validate_step_function(function: object) -> ValidationResult:
    """Check a function, method, partial, class or callable object as a step.

    Errors are what makes a call by keyword impossible; warnings what will surprise somewhere, such
    as a function that no other process can find; remarks (level INFO) what would help a reader.
    """
    name = _name(function)
    if not callable(function):
        message = f"{name} is a {type(function).__name__} and cannot be called."
        return ValidationResult.of([failure(message, code="NOT_CALLABLE")])
    issues: list[ValidationIssue] = []
    try:
        signature = _signature(function)
    except (TypeError, ValueError):
        message = f"The parameters of {name} cannot be read."
        issues.append(remark(message, None, "Wrap it in a function.", "NO_SIGNATURE"))
    else:
        issues += _parameter_issues(name, list(signature.parameters.values()))
        issues += _annotation_issues(name, signature)
    issues += _kind_issues(name, _code_of(function))
    issues += _pickle_issues(name, function)
    return ValidationResult.of(issues)


def _parameter_issues(name: str, parameters: list[inspect.Parameter]) -> Iterable[ValidationIssue]:
    kinds = {p.kind for p in parameters}
    for p in parameters:
        if p.kind is p.POSITIONAL_ONLY:
            message = f"{p.name!r} of {name} cannot be passed by name."
            hint = "Remove the `/` from the signature."
            needed = p.default is p.empty
            issue = failure if needed else remark
            yield issue(message, p.name, hint, "POSITIONAL_ONLY")
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return
    star = next(p.name for p in parameters if p.kind is p.VAR_POSITIONAL)
    by_name = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    if inspect.Parameter.VAR_KEYWORD in kinds and not kinds & by_name:
        message = f"{name} takes (*{star}, **…), which hides its inputs."
        yield remark(message, star, "Decorate with functools.wraps.", "HIDDEN_INPUTS")
    elif kinds & by_name or inspect.Parameter.VAR_KEYWORD in kinds:
        message = f"Inputs are passed by name, so *{star} of {name} stays empty."
        yield remark(message, star, "Take a list by name.", "VAR_POSITIONAL")
    else:
        message = f"{name} takes only *{star}, so nothing can be passed by name."
        yield failure(message, star, "Name the inputs.", "VAR_POSITIONAL")


def _annotation_issues(name: str, signature: inspect.Signature) -> Iterable[ValidationIssue]:
    bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    if signature.return_annotation is signature.empty:
        bare.append("return")
    for field in bare:
        message = f"{field!r} of {name} has no annotation."
        yield remark(message, field, None, "NO_ANNOTATION", level=ValidationLevel.INFO)


def _kind_issues(name: str, code: Any) -> Iterable[ValidationIssue]:
    if inspect.iscoroutinefunction(code):
        message = f"{name} is asynchronous and must be awaited by its runner."
        yield remark(message, None, None, "ASYNC", level=ValidationLevel.INFO)
    elif inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        message = f"{name} returns a generator, which can be read once and not be stored."
        yield remark(message, None, "Return a list.", "GENERATOR")


def _pickle_issues(name: str, function: object) -> Iterable[ValidationIssue]:
    try:
        pickle.Pickler(_Nowhere(), protocol=5).dump(function)
    except Exception as error:  # noqa: BLE001 - any error of any __reduce__ is the finding
        message = f"{name} cannot be sent to another process: {error}"
        yield remark(message, None, "Define it at the top of a module.", "NOT_IMPORTABLE")


class _Nowhere:
    """A file that keeps nothing: data bound to a partial may be large."""

    @staticmethod
    def write(data: Any) -> int:
        return len(data)


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        # Names that exist for type checkers only must not make the function unreadable. By name,
        # as older Pythons, and tools that read this file with them, do not know the module.
        forward = importlib.import_module("annotationlib").Format.FORWARDREF
        return inspect.signature(function, annotation_format=forward)
    return inspect.signature(function)


def _code_of(function: Any) -> Any:
    """Return the function below partials, decorators and callable objects."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return type(function).__call__


def _name(function: object) -> str:
    name = getattr(function, "__qualname__", None)
    if name is None and isinstance(function, functools.partial):
        name = getattr(function.func, "__qualname__", None)
    return repr(str(name)) if name else f"this {type(function).__name__}"
