"""The errors of the suite: one root, codes, and a context that names the operation.

    OpsError
    ├── ResourceError                       something the work needs is not there (memory, disk, a port)
    ├── ValidationError      (ValueError)   an argument or a configuration is wrong
    ├── ConflictError                       another caller changed it first
    ├── LockTimeout          (TimeoutError) a lock was not free in time
    │   └── LockCancelled                   the caller's check ended the wait for a lock
    ├── LockUnsupportedError (OSError)      the file system does not lock files
    ├── DeadlineExceededError (TimeoutError) work did not end in time
    ├── SelfDeadlockError    (RuntimeError) a thread would wait for a lock that it holds itself
    ├── PathEscapesRootError (ValueError)   a name leads outside the folder it must stay in
    └── MissingExtraError    (ImportError)  an optional dependency is not installed

Each package of the suite roots its own tree here and has a `StrEnum` of codes of its own. Every
error also derives from the standard exception that callers already catch, keeps its attributes when
pickled, and so survives a process pool.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import pickle
import traceback
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "ConflictError",
    "DeadlineExceededError",
    "ErrorCode",
    "ErrorContext",
    "LockCancelled",
    "LockTimeout",
    "LockUnsupportedError",
    "MissingExtraError",
    "OpsError",
    "PathEscapesRootError",
    "ResourceError",
    "SelfDeadlockError",
    "ValidationError",
    "create_error_response",
    "described",
    "name_hint",
    "plain",
    "text_of",
    "wrap_exception",
]


class ErrorCode(StrEnum):
    """Codes of the errors that this distribution raises."""

    INTERNAL_ERROR = "INTERNAL_ERROR"
    RESOURCE_ERROR = "RESOURCE_ERROR"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    CONFLICT = "CONFLICT"
    LOCK_TIMEOUT = "LOCK_TIMEOUT"
    LOCK_CANCELLED = "LOCK_CANCELLED"
    LOCK_UNSUPPORTED = "LOCK_UNSUPPORTED"
    SELF_DEADLOCK = "SELF_DEADLOCK"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    PATH_ESCAPES_ROOT = "PATH_ESCAPES_ROOT"
    MISSING_EXTRA = "MISSING_EXTRA"
    USAGE = "USAGE"


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorContext:
    """What was being done when an error was raised.

    `timestamp` is an aware UTC datetime; `details` holds whatever else helps, never a secret.

    *operation* and *component* name what was being done and by which part; *resource_type* and
    *resource_id* what it was done to; *correlation_id* is what the records of one request have in
    common.
    """

    operation: str | None = None
    component: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    correlation_id: str | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    timestamp: dt.datetime = dataclasses.field(default_factory=lambda: dt.datetime.now(dt.UTC))

    def updated(self, **values: Any) -> ErrorContext:
        """Return a copy with *values* in it: known fields are replaced, other names are merged into `details`."""
        known = {f.name for f in dataclasses.fields(self)}
        fields = {k: v for k, v in values.items() if k in known}
        details = {**self.details, **fields.pop("details", {})}
        details |= {k: v for k, v in values.items() if k not in known}
        return dataclasses.replace(self, **fields, details=details)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set as JSON-ready values; what JSON does not know is text."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["timestamp"] = self.timestamp.isoformat()
        fields["details"] = plain(self.details)
        return {k: v for k, v in fields.items() if v not in (None, {})}


class OpsError(Exception):
    """The base of every error of the suite.

    *message* states what was wrong, with which value. *code* is a member of a package's `StrEnum`;
    None takes `default_code`, which subclasses set. *context* is an `ErrorContext` of ids and
    details (None: an empty one). *suggestions* are sentences with the remedy; `str(error)` has them
    after the message.

    >>> error = OpsError("The disk is full.", suggestions=("Free some space.",))
    >>> str(error), error.code.value
    ('The disk is full. Free some space.', 'INTERNAL_ERROR')
    """

    default_code: StrEnum = ErrorCode.INTERNAL_ERROR

    def __init__(
        self,
        message: str = "",
        *,
        code: StrEnum | None = None,
        context: ErrorContext | None = None,
        suggestions: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message: str = text_of(message)
        self.code: StrEnum = self.default_code if code is None else code
        self.context: ErrorContext = ErrorContext() if context is None else context
        # One sentence is a sequence of sentences by mistake: each letter would be one.
        self.suggestions: tuple[str, ...] = (
            (suggestions,) if isinstance(suggestions, str) else tuple(suggestions)
        )

    @property
    def error_code(self) -> StrEnum:
        """The same as `code`."""
        return self.code

    def __str__(self) -> str:
        return " ".join((self.message, *self.suggestions)).strip()

    def __reduce__(self) -> tuple[Any, ...]:
        # The default rebuilds from `args` alone and fails for subclasses with required keywords.
        state = {name: _portable(value) for name, value in self.__dict__.items()}
        return _rebuild, (type(self), tuple(map(_portable, self.args)), state)

    def with_context(self, **values: Any) -> Self:
        """Add what is known here to the context and return the error, ready to be raised."""
        self.context = self.context.updated(**values)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return type, code, message, suggestions and context as JSON-ready values."""
        return {
            "type": type(self).__name__,
            "code": str(self.code),
            "message": self.message,
            "suggestions": list(self.suggestions),
            "context": self.context.to_dict(),
        }


def text_of(value: object) -> str:
    """Return `str(value)`; a `__str__` that raises must not hide the error that reports it."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - foreign code may raise anything
        return f"<{type(value).__name__} whose text raised {type(error).__name__}>"


def name_hint(given: object, known: Iterable[str]) -> str:
    """Return what to write instead of an unknown name: the nearest of *known*, else all of them.

    >>> name_hint("colour", ["color", "width"]), name_hint("x", ["color", "width"])
    ("did you mean 'color'?", 'there are color, width.')
    """
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(str(given), names, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}."


def described(error: BaseException) -> str:
    """Return type and origin of *error* for a log line, without its text, which may hold a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    file = os.path.basename(frames[-1].filename)  # noqa: PTH119 - without the import of pathlib
    return f"{type(error).__name__} ({file}:{frames[-1].lineno})"


def plain(value: Any) -> Any:
    """Return *value* as JSON knows it: text for whatever is no mapping, sequence or scalar."""
    if value is None or type(value) in {str, int, float, bool}:
        return value
    if isinstance(value, Mapping):
        return {text_of(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    return text_of(value)


def _portable(value: Any) -> Any:
    """Return *value*, or its text when it cannot be pickled and read back.

    An error that breaks on its way out of a process pool breaks the pool, and is itself lost.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, ErrorContext):
        details = {k: _portable(v) for k, v in value.details.items()}
        return dataclasses.replace(value, details=details)
    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301 - written on this very line
    except Exception:  # noqa: BLE001 - foreign code may raise anything
        text = f"{type(value).__name__}: {text_of(value)}"
        return OpsError(text) if isinstance(value, BaseException) else text
    return value


def _rebuild(cls: type[OpsError], args: tuple[Any, ...], state: dict[str, Any]) -> OpsError:
    error = cls.__new__(cls, *args)
    error.args = args
    for name, value in state.items():
        setattr(error, name, value)
    return error


class ResourceError(OpsError):
    """Something the work needs is not available: memory, disk, a device, a port."""

    default_code: StrEnum = ErrorCode.RESOURCE_ERROR


class ValidationError(OpsError, ValueError):
    """A value is not acceptable; the message names it, its position, and what is accepted."""

    default_code: StrEnum = ErrorCode.VALIDATION_ERROR


class ConflictError(OpsError):
    """What was to be changed has changed since it was read.

    *message* states what was not done, *expected* is the state that the change was based on,
    *actual* the one that was found (None: not known). Other keywords are those of `OpsError`.
    """

    default_code: StrEnum = ErrorCode.CONFLICT

    def __init__(
        self, message: str = "", *, expected: object = None, actual: object = None, **kwargs: Any
    ) -> None:
        super().__init__(message, **kwargs)
        self.expected = expected
        self.actual = actual


class LockTimeout(OpsError, TimeoutError):  # noqa: N818 - the field's name, as in filelock
    """A lock was not free within the time that was allowed; nothing was entered."""

    default_code: StrEnum = ErrorCode.LOCK_TIMEOUT


class LockCancelled(LockTimeout):
    """The wait for a lock was ended by the caller's `cancel_check`; nothing was entered."""

    default_code = ErrorCode.LOCK_CANCELLED


class LockUnsupportedError(OpsError, OSError):
    """The file system does not lock files.

    *message* names the file; *error_number*, kept as `errno`, is the answer of the system (None: it
    gave none). Other keywords are those of `OpsError`.
    """

    default_code = ErrorCode.LOCK_UNSUPPORTED

    def __init__(
        self, message: str = "", *, error_number: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(message, **kwargs)
        self.errno = error_number

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, (cls, args, state) = super().__reduce__()
        # Which OSError keeps outside of `__dict__`.
        return rebuild, (cls, args, {**state, "errno": self.errno})


class DeadlineExceededError(OpsError, TimeoutError):
    """Work did not end within the time that was allowed."""

    default_code: StrEnum = ErrorCode.DEADLINE_EXCEEDED


class SelfDeadlockError(OpsError, RuntimeError):
    """This thread would wait for ever for a lock that it holds itself through another object."""

    default_code: StrEnum = ErrorCode.SELF_DEADLOCK


class PathEscapesRootError(OpsError, ValueError):
    """A name would lead outside the folder that must contain it."""

    default_code: StrEnum = ErrorCode.PATH_ESCAPES_ROOT


class MissingExtraError(OpsError, ImportError):
    """An optional dependency is not installed; the message has the line that installs it.

    *module* is the import name that was not found, *extra* what to pass to pip, as
    `ops-cache[redis]`. Other keywords are those of `OpsError`.
    """

    default_code: StrEnum = ErrorCode.MISSING_EXTRA

    def __init__(self, module: str, extra: str, **kwargs: Any) -> None:
        super().__init__(
            f"{module!r} is needed here and is not installed.",
            suggestions=(f'Install it with: pip install "{extra}"',),
            **kwargs,
        )
        self.name: str | None = module
        self.extra = extra


def wrap_exception(
    exc: BaseException, code: StrEnum = ErrorCode.INTERNAL_ERROR, message: str = "", **context: Any
) -> OpsError:
    """Return an `OpsError` whose cause is *exc*, for `raise`.

    *code* is a member of a `StrEnum`. *message* stands before the text of *exc*; empty, that text
    stands alone. *context* are values for the error's `ErrorContext`: its fields, and other names
    as details.
    """
    error = OpsError(
        f"{message}: {text_of(exc)}" if message else text_of(exc) or type(exc).__name__,
        code=code,
        context=ErrorContext().updated(**context, exception=type(exc).__name__),
    )
    error.__cause__ = exc
    return error


def create_error_response(
    error_code: StrEnum | str | BaseException,
    message: str = "",
    details: Mapping[str, Any] | None = None,
    *,
    include_traceback: bool = False,
) -> dict[str, Any]:
    """Return the JSON-ready body of an error reply, from a code and a message or from an exception.

    An exception that is no `OpsError` gives only its type: its text may hold secrets or internals.

    *error_code* is a code or the exception itself. *message* is the text for the caller; empty, it
    is that of the exception. *details* is merged over the details of an `OpsError`; what JSON does
    not know is text. *include_traceback* adds the traceback of an exception, which shows source
    lines: not for strangers.

    >>> create_error_response("NOT_FOUND", "No such run.", {"run": "r1"})
    {'error': {'code': 'NOT_FOUND', 'message': 'No such run.', 'details': {'run': 'r1'}}}

    *error_code* is a code or the exception itself. *message* is the text for the caller; empty, it
    is that of the exception. *details* is merged over the details of an `OpsError`; what JSON does
    not know is text. *include_traceback* adds the traceback of an exception, which shows source
    lines: for the own logs only.
    """
    if not isinstance(error_code, BaseException):
        body = {"code": str(error_code), "message": message, "details": plain(details or {})}
        return {"error": body}
    exc = error_code
    if isinstance(exc, OpsError):
        body = {
            "code": str(exc.code),
            "message": message or str(exc),
            "details": plain({**exc.context.details, **(details or {})}),
        }
        if exc.context.correlation_id:
            body["correlation_id"] = exc.context.correlation_id
    else:
        body = {
            "code": str(ErrorCode.INTERNAL_ERROR),
            "message": message or f"{type(exc).__name__} was raised.",
            "details": plain(details or {}),
        }
    if include_traceback:
        body["traceback"] = traceback.format_exception(exc)
    return {"error": body}
