"""The errors of ops.observe.

    OpsError
    └── ObserveError
        └── SignatureError  (TypeError)   a callback cannot be called the way it would be

Errors of listeners never leave the emitter: they are logged and counted.
"""

from __future__ import annotations

from enum import StrEnum

from ops.foundation.errors import OpsError

__all__ = [
    "ObserveError",
    "ObserveErrorCode",
    "SignatureError",
]


class ObserveErrorCode(StrEnum):
    """Codes of the errors that this distribution raises."""

    OBSERVE_ERROR = "OBSERVE_ERROR"
    CALLBACK_SIGNATURE = "CALLBACK_SIGNATURE"


class ObserveError(OpsError):
    """The base of the errors of this package."""

    default_code = ObserveErrorCode.OBSERVE_ERROR


class SignatureError(ObserveError, TypeError):
    """A callback takes another number of arguments than it would be given."""

    default_code = ObserveErrorCode.CALLBACK_SIGNATURE
