# mypy: disable-error-code="no-untyped-call"
"""The errors that MLflow's clients expect, made from what this store has to say."""

from __future__ import annotations

from mlflow.exceptions import MlflowException, MlflowNotImplementedException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
)

__all__ = ["exists", "invalid", "missing", "unsupported"]


def invalid(message: str) -> MlflowException:
    """Return the error for a value that is refused."""
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def missing(message: str) -> MlflowException:
    """Return the error for what is not there."""
    return MlflowException(message, error_code=RESOURCE_DOES_NOT_EXIST)


def exists(message: str) -> MlflowException:
    """Return the error for a name that is taken."""
    return MlflowException(message, error_code=RESOURCE_ALREADY_EXISTS)


def unsupported(what: str) -> MlflowNotImplementedException:
    """Return MLflow's own error for what a store does not have."""
    return MlflowNotImplementedException(
        f"Stores of ops-registry do not support {what}. "
        "Use a tracking server with a database for it."
    )
