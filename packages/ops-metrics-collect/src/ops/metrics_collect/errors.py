"""The errors of ops.metrics_collect.

OpsError
└── MetricsError
    ├── ParameterError     (ValueError)       a collector or a call was given wrong parameters
    ├── ObjectNotFound     (KeyError)         a storage has nothing under that name
    ├── ObjectExists       (FileExistsError)  a create-once put found the name taken
    ├── ShipConflict       (FileExistsError)  the name is taken by other content than ours
    ├── StorageError       (OSError)          a storage or service failed, retries included
    │   └── AccessDenied                      the credentials may not do this
    ├── PutOnlyError       (NotImplementedError)  this storage cannot be read
    ├── StateError         (RuntimeError)     a ledger, outbox or rollup cannot do this now
    │   └── OutboxFull                        the outbox holds as much as it may
    └── BrokenTarballError (ValueError)       a tarball is damaged, unsafe or over the limits
"""

from __future__ import annotations

from enum import StrEnum

from ops.foundation.errors import OpsError

__all__ = [
    "AccessDenied",
    "BrokenTarballError",
    "MetricsError",
    "MetricsErrorCode",
    "ObjectExists",
    "ObjectNotFound",
    "OutboxFull",
    "ParameterError",
    "PutOnlyError",
    "ShipConflict",
    "StateError",
    "StorageError",
]


class MetricsErrorCode(StrEnum):
    """Codes of the errors that this distribution raises."""

    METRICS_ERROR = "METRICS_ERROR"
    PARAMETER = "PARAMETER"
    OBJECT_NOT_FOUND = "OBJECT_NOT_FOUND"
    OBJECT_EXISTS = "OBJECT_EXISTS"
    SHIP_CONFLICT = "SHIP_CONFLICT"
    STORAGE = "STORAGE"
    PUT_ONLY = "PUT_ONLY"
    STATE = "STATE"
    BROKEN_TARBALL = "BROKEN_TARBALL"


class MetricsError(OpsError):
    """The base of every error of this package."""

    default_code: StrEnum = MetricsErrorCode.METRICS_ERROR


class ParameterError(MetricsError, ValueError):
    """A parameter is missing, unknown or has an impossible value."""

    default_code: StrEnum = MetricsErrorCode.PARAMETER


class ObjectNotFound(MetricsError, KeyError):  # noqa: N818 - the name of the specification
    """A storage has no object of the requested name."""

    default_code: StrEnum = MetricsErrorCode.OBJECT_NOT_FOUND

    # KeyError would show the repr of its argument.
    def __str__(self) -> str:
        return OpsError.__str__(self)


class ObjectExists(MetricsError, FileExistsError):  # noqa: N818 - twin of ObjectNotFound
    """A create-once put found that the name is taken; nothing was changed."""

    default_code: StrEnum = MetricsErrorCode.OBJECT_EXISTS

    def __str__(self) -> str:
        return OpsError.__str__(self)


class ShipConflict(MetricsError, FileExistsError):  # noqa: N818 - twin of ObjectExists
    """The destination holds other content under a name that we were about to create."""

    default_code: StrEnum = MetricsErrorCode.SHIP_CONFLICT

    def __str__(self) -> str:
        return OpsError.__str__(self)


class StorageError(MetricsError, OSError):
    """A storage or service failed to do what was requested, also after retries."""

    default_code: StrEnum = MetricsErrorCode.STORAGE

    def __str__(self) -> str:
        return OpsError.__str__(self)


class AccessDenied(StorageError):  # noqa: N818 - the name that services give it
    """The credentials of a storage may not do this; trying again changes nothing."""


class PutOnlyError(MetricsError, NotImplementedError):
    """This storage takes objects and gives none back."""

    default_code: StrEnum = MetricsErrorCode.PUT_ONLY


class StateError(MetricsError, RuntimeError):
    """What is on disk, or what was added before, does not allow this."""

    default_code: StrEnum = MetricsErrorCode.STATE


class OutboxFull(StateError):  # noqa: N818 - twin of queue.Full
    """What waits in the outbox has reached its limit; ship first."""


class BrokenTarballError(MetricsError, ValueError):
    """A tarball is damaged, unsafe or over the limits; the message has its name and the reason."""

    default_code: StrEnum = MetricsErrorCode.BROKEN_TARBALL
