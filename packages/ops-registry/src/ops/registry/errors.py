"""The errors of ops.registry.

    OpsError
    └── MLOpsException
        ├── NotFoundError               (LookupError)
        │   ├── ModelNotFoundError
        │   │   └── ModelVersionNotFoundError      a version, a stage or an alias that is not there
        │   ├── ExperimentNotFoundError
        │   ├── RunNotFoundError
        │   └── ArtifactNotFoundError   (FileNotFoundError)
        ├── InvalidValueError           (ValidationError, ValueError)
        │   ├── ConfigurationError                 an option or an environment variable
        │   └── FilterError                        where a search expression is wrong
        ├── AlreadyExistsError          (ConflictError)
        ├── StorageError                (OSError)
        │   └── CorruptStoreError                  bytes that no version of this package wrote
        ├── ComponentStateError         (RuntimeError)
        ├── TransactionError            (RuntimeError)  finished, or its undoing failed
        └── BackendUnavailableError                the requested backend is not available

Locks raise `ops.foundation.LockTimeout`; its code equals `ErrorCode.LOCK_TIMEOUT`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from ops.foundation.errors import ConflictError, OpsError, ValidationError
from ops.foundation.errors import wrap_exception as _wrapped

__all__ = [
    "AlreadyExistsError",
    "ArtifactNotFoundError",
    "BackendUnavailableError",
    "ComponentStateError",
    "ConfigurationError",
    "CorruptStoreError",
    "ErrorCode",
    "ExperimentNotFoundError",
    "FilterError",
    "InvalidValueError",
    "MLOpsException",
    "ModelNotFoundError",
    "ModelVersionNotFoundError",
    "NotFoundError",
    "RunNotFoundError",
    "StorageError",
    "TransactionError",
    "both_changed",
    "described",
    "no_artifact",
    "no_experiment",
    "no_run",
    "text_of",
    "wrap_exception",
]


class ErrorCode(StrEnum):
    """Codes of the errors that this distribution raises."""

    MLOPS_ERROR = "MLOPS_ERROR"
    NOT_FOUND = "NOT_FOUND"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_VERSION_NOT_FOUND = "MODEL_VERSION_NOT_FOUND"
    EXPERIMENT_NOT_FOUND = "EXPERIMENT_NOT_FOUND"
    RUN_NOT_FOUND = "RUN_NOT_FOUND"
    ARTIFACT_NOT_FOUND = "ARTIFACT_NOT_FOUND"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    CONFIGURATION_ERROR = "CONFIGURATION_ERROR"
    FILTER_SYNTAX = "FILTER_SYNTAX"
    CONFLICT = "CONFLICT"
    STORAGE_ERROR = "STORAGE_ERROR"
    CORRUPT_STORE = "CORRUPT_STORE"
    BACKEND_UNAVAILABLE = "BACKEND_UNAVAILABLE"
    LOCK_TIMEOUT = "LOCK_TIMEOUT"
    COMPONENT_STATE = "COMPONENT_STATE"
    TRANSACTION_ERROR = "TRANSACTION_ERROR"


class MLOpsException(OpsError):  # noqa: N818 - the published name
    """The base of the errors of this package."""

    default_code: StrEnum = ErrorCode.MLOPS_ERROR


class NotFoundError(MLOpsException, LookupError):
    """The requested object is not in the store."""

    default_code: StrEnum = ErrorCode.NOT_FOUND


class ModelNotFoundError(NotFoundError):
    """No model has this name."""

    default_code: StrEnum = ErrorCode.MODEL_NOT_FOUND


class ModelVersionNotFoundError(ModelNotFoundError):
    """The model is there; this version, or one in this stage or with this alias, is not."""

    default_code: StrEnum = ErrorCode.MODEL_VERSION_NOT_FOUND


class ExperimentNotFoundError(NotFoundError):
    """No experiment has this id or name."""

    default_code: StrEnum = ErrorCode.EXPERIMENT_NOT_FOUND


class RunNotFoundError(NotFoundError):
    """No run has this id."""

    default_code: StrEnum = ErrorCode.RUN_NOT_FOUND


class ArtifactNotFoundError(NotFoundError, FileNotFoundError):
    """The file or folder to store or to fetch does not exist."""

    default_code: StrEnum = ErrorCode.ARTIFACT_NOT_FOUND

    def __new__(cls, *args: Any, **_: Any) -> Self:
        """Make one as an error of the system, also where the error is unpickled."""
        return OSError.__new__(cls, *args)  # LookupError's, which comes first, cannot


class InvalidValueError(MLOpsException, ValidationError):
    """An argument is not acceptable; the message names it and what is accepted."""

    default_code: StrEnum = ErrorCode.VALIDATION_ERROR


class ConfigurationError(InvalidValueError):
    """An option, a configuration file or an environment variable is not acceptable."""

    default_code: StrEnum = ErrorCode.CONFIGURATION_ERROR


class FilterError(InvalidValueError):
    """A search expression is wrong at *position* (0-based, in *text*).

    *message* states what was expected there. Other keywords are those of `OpsError`.
    """

    default_code: StrEnum = ErrorCode.FILTER_SYNTAX

    def __init__(self, message: str = "", *, text: str = "", position: int = 0, **kw: Any) -> None:
        super().__init__(f"{message}\n  {text}\n  {' ' * position}^", **kw)
        self.text = text
        self.position = position


class AlreadyExistsError(MLOpsException, ConflictError):
    """The name is taken by something else."""

    default_code: StrEnum = ErrorCode.CONFLICT


class StorageError(MLOpsException, OSError):
    """The store could not be read or written; the cause is the error of the system."""

    default_code: StrEnum = ErrorCode.STORAGE_ERROR


class CorruptStoreError(StorageError):
    """A file of the store is not what this package writes, or its checksum does not fit."""

    default_code: StrEnum = ErrorCode.CORRUPT_STORE


class BackendUnavailableError(MLOpsException):
    """The requested backend is not part of this version; no other was used instead."""

    default_code: StrEnum = ErrorCode.BACKEND_UNAVAILABLE


class ComponentStateError(MLOpsException, RuntimeError):
    """A component was used before it was started or after it was stopped."""

    default_code: StrEnum = ErrorCode.COMPONENT_STATE


class TransactionError(MLOpsException, RuntimeError):
    """A transaction was used after its end, or could not be undone (and will be at the next start)."""

    default_code: StrEnum = ErrorCode.TRANSACTION_ERROR


def wrap_exception(
    exc: BaseException, code: StrEnum = ErrorCode.MLOPS_ERROR, message: str = "", **context: Any
) -> MLOpsException:
    """Return an `MLOpsException` that carries *message* and whose cause is *exc*, for `raise`.

    *code* stands in its `error_code`; *context* describes what was worked on.
    """
    made = _wrapped(exc, code, message, **context)
    error = MLOpsException(made.message, code=code, context=made.context)
    error.__cause__ = exc
    return error


def described(error: BaseException) -> str:
    """Return type and text of an error of any program, also of one whose text cannot be made."""
    return f"{type(error).__name__}: {text_of(error)}"


def text_of(error: BaseException) -> str:
    """Return the text of an error; one that raises in its `__str__` must not hide what it is about."""
    try:
        return str(error)
    except Exception as another:  # noqa: BLE001 - any program's `__str__` may raise anything
        return f"(its text raises {type(another).__name__})"


def no_artifact(run_id: str, name: str) -> ArtifactNotFoundError:
    """Return what to raise when a run has no artifact of that name."""
    return ArtifactNotFoundError(f"Run {run_id!r} has no artifact {name!r}.")


def no_run(value: object) -> RunNotFoundError:
    """Return what to raise for an id that no run has; a run passed instead has one."""
    return RunNotFoundError(
        f"There is no run {value!r:.120}.", suggestions=_id_of(value, "run_id", "run")
    )


def both_changed(run_id: str) -> AlreadyExistsError:
    """Return what to raise for a run that is to be copied over one that has something of its own."""
    return AlreadyExistsError(
        f"Both stores have added to run {run_id} since it was copied.",
        suggestions=("Copy into another store.",),
    )


def no_experiment(value: object) -> ExperimentNotFoundError:
    """Return what to raise for an id that no experiment has; an experiment passed instead has one."""
    return ExperimentNotFoundError(
        f"There is no experiment with the id {value!r:.120}.",
        suggestions=_id_of(value, "experiment_id", "experiment"),
    )


def _id_of(value: object, field: str, kind: str) -> tuple[str, ...]:
    known = getattr(value, field, None)
    return () if known is None else (f"Pass the id of the {kind}: {known!r}.",)
