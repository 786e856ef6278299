"""The errors of ops.observe.

    OpsError
    └── ObserveError
        ├── AuditChainError   (ValueError)    an audit file was altered, shortened or reordered
        ├── MetricValueError  (ValueError)    a measurement is no finite number
        └── SignatureError    (TypeError)     a callback cannot be called the way it would be

A missing extra is `ops.foundation.MissingExtraError`, a bad argument `ops.foundation.ValidationError`.
Errors of listeners and checks never leave the emitter or the monitor: they are logged and counted.
"""

from __future__ import annotations

from enum import StrEnum

from ops.foundation.errors import OpsError

__all__ = [
    "AuditChainError",
    "MetricValueError",
    "ObserveError",
    "ObserveErrorCode",
    "SignatureError",
]


class ObserveErrorCode(StrEnum):
    """Codes of the errors that this distribution raises."""

    OBSERVE_ERROR = "OBSERVE_ERROR"
    AUDIT_CHAIN_BROKEN = "AUDIT_CHAIN_BROKEN"
    METRIC_VALUE = "METRIC_VALUE"
    CALLBACK_SIGNATURE = "CALLBACK_SIGNATURE"


class ObserveError(OpsError):
    """The base of the errors of this package."""

    default_code: StrEnum = ObserveErrorCode.OBSERVE_ERROR


class AuditChainError(ObserveError, ValueError):
    """The hash chain of an audit file does not hold; the message names the first bad entry."""

    default_code: StrEnum = ObserveErrorCode.AUDIT_CHAIN_BROKEN


class MetricValueError(ObserveError, ValueError):
    """A measurement is NaN or infinite."""

    default_code: StrEnum = ObserveErrorCode.METRIC_VALUE


class SignatureError(ObserveError, TypeError):
    """A callback takes another number of arguments than it would be given."""

    default_code: StrEnum = ObserveErrorCode.CALLBACK_SIGNATURE
