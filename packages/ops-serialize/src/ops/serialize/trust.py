"""Who may run a program in this process: the policies for what is read.

Data is never a program: under `"safe"` and `Safe` only trees of data are read (`ops.serialize.tree`), and of
classes only those that the reader allows. A pickle *is* a program, so one is run only when it is vouched for:
by the caller with `"all"`, or by a MAC over every byte made with the key of `Signed`, or of this user with
`"user"`. What a signature is for is part of it (`Signed.bound`): what was signed as one thing is refused as
another, so that two signed files cannot be exchanged.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import pickle
import stat
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ops.foundation.errors import OpsError
from ops.serialize.errors import (
    CorruptDataError,
    SerializeError,
    SignatureError,
    TooLargeError,
    UntrustedDataError,
    in_words,
    missing_library,
)
from ops.serialize.nodes.instances import shape_of
from ops.serialize.nodes.parts import Allowed, register

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.foundation.files import StrPath

__all__ = [
    "MAC_SIZE",
    "Safe",
    "Signed",
    "Trust",
    "allow_type",
    "allowed_by",
    "check_trust",
    "may_pickle",
    "signing_key",
    "unpickle",
]

MAC_SIZE = 16
_MIN_KEY = 16
_NO_CLASSES = Allowed()


@dataclasses.dataclass(frozen=True, slots=True)
class Safe:
    """Read data only; *allow* names further classes that it may hold, or is given them themselves.

    Allowed can be dataclasses, enums, named tuples, and plain Python classes without pickling methods of
    their own. They are rebuilt from their fields; nothing of them is called. Raises TypeError for
    an *allow* that is no sequence of names and classes, such as a single name.
    """

    allow: tuple[str | type, ...] = ()

    def __post_init__(self) -> None:
        given: Any = self.allow
        if not isinstance(given, tuple | list | set | frozenset) or not all(
            isinstance(each, str | type) for each in given
        ):
            raise TypeError(f"allow is a tuple of names and classes, not {given!r}.")
        object.__setattr__(self, "allow", tuple(given))


@dataclasses.dataclass(frozen=True, slots=True)
class Signed:
    """Read only what was signed with *key* (16 to 64 bytes), which may then be a pickle.

    *context* is what the signature is for; use `bound` to set it. Raises ValueError for a key of
    another length, TypeError for one that is no bytes.

    >>> import tempfile, pathlib
    >>> from ops.serialize import dump, load
    >>> key = Signed(b"sixteen bytes or more").bound("model", "churn")
    >>> path = pathlib.Path(tempfile.mkdtemp(), "model.opsf")
    >>> dump({"weights": [1, 2]}, path, trust=key)
    >>> load(path, trust=key)
    {'weights': [1, 2]}
    """

    key: bytes = dataclasses.field(repr=False)
    context: bytes = b""

    def __post_init__(self) -> None:
        key: Any = self.key
        if not isinstance(key, bytes):
            raise TypeError(f"A key is bytes, not {type(key).__name__}.")
        if not _MIN_KEY <= len(self.key) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise ValueError(f"A key has 16 to 64 bytes, not {len(self.key)}.")

    @classmethod
    def from_file(cls, path: StrPath) -> Signed:
        """Read the key from a file that only its owner may read (mode 0600).

        White space around a key of text is no part of it. Raises `SignatureError` when others can
        read it.
        """
        file = pathlib.Path(path)
        if os.name == "posix" and stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise SignatureError(f"{file} can be read by others.", suggestions=("chmod 600 it.",))
        data = file.read_bytes()
        # Of random bytes each counts, also one at an end that looks like a blank.
        return cls(data.strip() if data.isascii() else data)

    @classmethod
    def from_env(cls, name: str = "OPS_SERIALIZE_KEY") -> Signed:
        """Read the key, in hex, from the environment. Raises `SignatureError` when there is none."""
        # Environment OPS_SERIALIZE_KEY: the key of `Signed.from_env`, in hexadecimal digits, 16
        # to 64 bytes; another name can be given.
        try:
            return cls(bytes.fromhex(os.environ[name]))
        except KeyError:
            raise SignatureError(f"The environment has no {name}.") from None

    def bound(self, *purpose: str | bytes) -> Signed:
        """Return this key for one purpose, such as `key.bound("model", "fraud", "7")`.

        What is signed with it is refused by the key without a purpose, or with another one.
        """
        parts = [part.encode() if isinstance(part, str) else part for part in purpose]
        added = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        return dataclasses.replace(self, context=self.context + added)

    def mac(self, *parts: Any) -> bytes:
        """Return the MAC of the context and of the concatenated *parts*."""
        hasher = hashlib.blake2b(key=self.key, digest_size=MAC_SIZE, person=b"ops-serialize2")
        hasher.update(len(self.context).to_bytes(8, "little"))
        hasher.update(self.context)
        for part in parts:
            hasher.update(part)
        return hasher.digest()


Trust: TypeAlias = "Literal['safe', 'user', 'all'] | Safe | Signed"


def allow_type(cls: type) -> type:
    """Let data hold instances of *cls* in this process; usable as a decorator.

    Raises `SerializeError` for classes whose state only their own code knows; see `Safe`.
    """
    shape_of(cls)
    register(cls)
    return cls


def check_trust(trust: Any) -> None:
    """Raise `SerializeError` for what is no policy."""
    known = isinstance(trust, (Safe, Signed)) or trust in {"safe", "user", "all"}
    if not known:
        raise SerializeError(
            f"trust={trust!r} is unknown; use 'safe', 'user', 'all', Safe(...) or Signed(key)."
        )


def allowed_by(trust: Trust) -> Allowed:
    """Return the classes that a tree of data may hold under *trust*."""
    return Allowed(trust.allow) if isinstance(trust, Safe) and trust.allow else _NO_CLASSES


def may_pickle(trust: Trust) -> bool:
    """Say whether what is no data may be written as a pickle: whether *trust* could read it again."""
    return isinstance(trust, Signed) or trust in {"user", "all"}


def signing_key(trust: Trust, *, pickled: bool) -> Signed | None:
    """Return the key that signs what is written under *trust*: of a user, only pickles are signed."""
    if isinstance(trust, Signed):
        return trust
    if trust == "user" and pickled:
        from ops.serialize.user_key import user_key

        return user_key()
    return None


def unpickle(stream: Any, buffers: Iterable[Any], trust: Trust, *, vouched: bool = False) -> Any:
    """Run the pickle in *stream*, if it is vouched for, and return its object.

    With *vouched* a MAC of all of it was verified; otherwise only `trust="all"` will do. Raises
    `UntrustedDataError`, naming what it would import, before anything of it is looked at, or
    `CorruptDataError` when it makes no object.
    """
    check_trust(trust)
    if not vouched and trust != "all":
        raise _refusal(stream)
    try:
        return pickle.loads(stream, buffers=buffers)  # noqa: S301 - vouched for
    except OpsError:
        raise
    except MemoryError as error:
        raise TooLargeError("There is not enough memory for what the pickle holds.") from error
    except ImportError as error:
        raise missing_library(error) from error
    except Exception as error:  # damaged pickles fail in many ways
        raise CorruptDataError(f"The object could not be rebuilt: {in_words(error)}") from error


def _refusal(stream: Any) -> UntrustedDataError:
    from ops.serialize.inspection import is_harmless
    from ops.serialize.pickle_scan import names_in

    try:
        names = names_in(bytes(stream[: 1 << 20]))
    except SerializeError:
        names = []
    odd = [name for name in names if not is_harmless(name)]
    module, _, name = (*odd, *names, "")[0].rpartition(".")
    return UntrustedDataError(module, name, pickled=True)
