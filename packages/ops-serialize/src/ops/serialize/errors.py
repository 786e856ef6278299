"""The errors of ops.serialize.

OpsError
└── SerializeError (ValueError)
    ├── CorruptDataError                         bytes are damaged, cut off or not ours
    ├── FutureVersionError                       written by a newer ops-serialize
    ├── UntrustedDataError (UnpicklingError)     a pickle that nothing vouches for, or a class not allowed
    ├── SignatureError                           no signature, or one made with another key
    ├── TooLargeError                            the data would unpack to more than `max_size`
    ├── UnsupportedTypeError (TypeError)         the object has no lossless form here
    └── ConfigError                              a YAML configuration is wrong, with the line
"""

from __future__ import annotations

import pickle
from enum import StrEnum
from typing import Any

from ops.foundation.errors import OpsError

__all__ = [
    "ConfigError",
    "CorruptDataError",
    "FutureVersionError",
    "SerializeError",
    "SerializeErrorCode",
    "SignatureError",
    "TooLargeError",
    "UnsupportedTypeError",
    "UntrustedDataError",
    "in_words",
    "missing_library",
]


class SerializeErrorCode(StrEnum):
    """Codes of the errors that this distribution raises."""

    SERIALIZE_ERROR = "SERIALIZE_ERROR"
    CORRUPT_DATA = "CORRUPT_DATA"
    FUTURE_VERSION = "FUTURE_VERSION"
    UNTRUSTED_DATA = "UNTRUSTED_DATA"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    UNSUPPORTED_TYPE = "UNSUPPORTED_TYPE"
    TOO_LARGE = "TOO_LARGE"
    BAD_CONFIG = "BAD_CONFIG"


class SerializeError(OpsError, ValueError):
    """The base of every error of ops.serialize."""

    default_code: StrEnum = SerializeErrorCode.SERIALIZE_ERROR


class CorruptDataError(SerializeError):
    """The bytes are damaged, cut off, or were never written by ops.serialize."""

    default_code: StrEnum = SerializeErrorCode.CORRUPT_DATA


class FutureVersionError(SerializeError):
    """The data was written by a newer version of the format than this one reads."""

    default_code: StrEnum = SerializeErrorCode.FUTURE_VERSION


class UntrustedDataError(SerializeError, pickle.UnpicklingError):
    """The data is a pickle that nothing vouches for, or holds a class that is not allowed; nothing ran.

    *module* and *name* are those of the class or function; *pickled* distinguishes the two cases;
    *reason* replaces the sentence. Other keywords are those of `OpsError`.
    """

    default_code: StrEnum = SerializeErrorCode.UNTRUSTED_DATA

    def __init__(
        self,
        module: str,
        name: str,
        *,
        pickled: bool = False,
        reason: str | None = None,
        **kwargs: Any,
    ) -> None:
        full = f"{module}.{name}"
        if pickled:
            what = f", which would import {full}" if name else ""
            message = (
                f"The data is a pickle{what}. A pickle is a program, and nothing vouches for this one, "
                "so nothing of it was run."
            )
            hint = (
                'Load it with trust=Signed(key) or trust="user" if it was signed so, or with '
                'trust="all" if only you can have written it.'
            )
        else:
            message = f"The data holds a {full}, which is not allowed here."
            hint = f'If you know it, load with trust=Safe(allow=("{full}",)), or use allow_type.'
        kwargs.setdefault("suggestions", (hint,))
        super().__init__(reason or message, **kwargs)
        self.module = module
        self.name = name


class SignatureError(SerializeError):
    """The data has no signature, or one that another key made; nothing was unpickled."""

    default_code: StrEnum = SerializeErrorCode.BAD_SIGNATURE


class TooLargeError(SerializeError):
    """The data declares more unpacked bytes than the reader allows; nothing was unpacked."""

    default_code: StrEnum = SerializeErrorCode.TOO_LARGE


class UnsupportedTypeError(SerializeError, TypeError):
    """The object cannot be held, or digested, without losing something."""

    default_code: StrEnum = SerializeErrorCode.UNSUPPORTED_TYPE


class ConfigError(SerializeError):
    """A YAML configuration is wrong.

    *message* is the sentence; *path* leads to the value in the data (`$.model.depth`); *line* and
    *column* are in the text and count from 1 (None: not known). Other keywords are those of
    `OpsError`.
    """

    default_code: StrEnum = SerializeErrorCode.BAD_CONFIG

    def __init__(
        self,
        message: str,
        *,
        path: str = "$",
        line: int | None = None,
        column: int | None = None,
        **kwargs: Any,
    ) -> None:
        where = path if line is None else f"{path} (line {line}, column {column})"
        super().__init__(f"{where}: {message}", **kwargs)
        self.path = path
        self.line = line
        self.column = column


def in_words(error: BaseException) -> str:
    """Return the message of another library about hostile data, in a few hundred characters.

    `repr` and `str` of an error write all of its arguments first, which the data may have made endless.
    """
    return ": ".join((type(error).__qualname__, *map(_shown, error.args[:3])))


def _shown(part: Any) -> str:
    if type(part) in {str, bytes}:
        return str(part[:300])
    is_short = type(part) is float or (type(part) is int and part.bit_length() <= 64)
    return str(part) if is_short else type(part).__qualname__


def missing_library(error: ImportError) -> SerializeError:
    """Return the error for data whose library is there and could not be imported."""
    return SerializeError(
        f"The data needs a library that could not be imported: {in_words(error)}",
        suggestions=("Install the libraries, and the versions, that it was written with.",),
    )
