"""Who may make this process import things: the gate before the pickle stream.

Only the stream can execute code, by naming a callable and asking for a call. `Safe` therefore
resolves names against an exact allow-list of constructors that do nothing but build values. A name
with a dot is refused unless listed, so no attribute chain leads from an allowed module to another.
`Signed` runs anything, but only after a keyed MAC over header, table and stream has been verified.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import operator
import os
import pathlib
import pickle
import stat
import types
import zoneinfo
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ops.serialize._allowlist import ALLOWED
from ops.serialize.errors import (
    CorruptDataError,
    SerializeError,
    SignatureError,
    UntrustedDataError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ops.foundation.files import StrPath

__all__ = [
    "MAC_SIZE",
    "Safe",
    "Signed",
    "Trust",
    "allow_type",
    "unpickle",
]

MAC_SIZE = 16
_MIN_KEY = 16
_registered: set[str] = set()


@dataclasses.dataclass(frozen=True, slots=True)
class Safe:
    """Allow only constructors of plain values, plus the dotted names in *allow*."""

    allow: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Signed:
    """Allow everything in data that was signed with *key* (16 to 64 bytes), and nothing else."""

    key: bytes = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        if not _MIN_KEY <= len(self.key) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise ValueError(f"A key has 16 to 64 bytes, not {len(self.key)}.")

    @classmethod
    def from_file(cls, path: StrPath) -> Signed:
        """Read the key from a file that only its owner may read (mode 0600)."""
        file = pathlib.Path(path)
        if os.name == "posix" and stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise SignatureError(f"{file} can be read by others.", suggestions=("chmod 600 it.",))
        return cls(file.read_bytes().strip())

    @classmethod
    def from_env(cls, name: str = "OPS_SERIALIZE_KEY") -> Signed:
        """Read the key, in hex, from the environment."""
        try:
            return cls(bytes.fromhex(os.environ[name]))
        except KeyError:
            raise SignatureError(f"The environment has no {name}.") from None

    def mac(self, *parts: Any) -> bytes:
        """Return the MAC of the concatenated *parts*."""
        hasher = hashlib.blake2b(key=self.key, digest_size=MAC_SIZE, person=b"ops-serialize")
        for part in parts:
            hasher.update(part)
        return hasher.digest()


Trust: TypeAlias = "Literal['safe', 'all'] | Safe | Signed"


def allow_type(cls: type) -> type:
    """Let `trust="safe"` rebuild instances of *cls* in this process; usable as a decorator."""
    _registered.add(f"{cls.__module__}.{cls.__qualname__}")
    return cls


def is_allowed(full: str) -> bool:
    """Say whether `trust="safe"` lets data import the dotted name *full* in this process."""
    module, _, name = full.rpartition(".")
    return name in ALLOWED.get(module, ()) or full in _registered


def unpickle(stream: Any, buffers: Iterable[Any], trust: Trust, *, foreign: bool = False) -> Any:
    """Rebuild an object from its stream; the MAC of a `Signed` stream was checked before.

    *foreign* streams come from the `pickle` module itself, so that NumPy's own pickles are allowed,
    which can be forged (see `rebuilding`). Ours never hold those.

    Raises `UntrustedDataError`, or `CorruptDataError` when the stream makes no object.
    """
    try:
        if trust == "all" or isinstance(trust, Signed):
            return pickle.loads(stream, buffers=buffers)  # noqa: S301 - the caller vouches for it
        if trust == "safe" or isinstance(trust, Safe):
            unpickler = _Restricted(io.BytesIO(stream), buffers=buffers)
            given = trust.allow if isinstance(trust, Safe) else ()
            unpickler.allow = (*given, *_NUMPY_PICKLES) if foreign else given
            try:
                return unpickler.load()
            finally:
                for named in unpickler.named.values():
                    named.check()
    except (SerializeError, ImportError, MemoryError):
        raise
    except Exception as error:  # damaged pickles fail in many ways
        raise CorruptDataError(f"The object could not be rebuilt: {error}") from error
    raise SerializeError(f"trust={trust!r} is unknown; use 'safe', 'all', Safe or Signed(key).")


_NUMPY_PICKLES = ("numpy.ndarray", "numpy.dtype")


def _attribute_of_zone(obj: object = None, name: str = "", *_: object) -> Any:
    """Stand in for getattr, which ZoneInfo's pickles use for one classmethod of their own."""
    if obj is zoneinfo.ZoneInfo and name == "_unpickle":
        return zoneinfo.ZoneInfo._unpickle  # type: ignore[attr-defined]  # noqa: SLF001 - its only spelling
    raise UntrustedDataError("builtins", "getattr")


class _Named:
    """A class or function that a stream was given, as it was then.

    A stream may not only call what it names: by the opcode BUILD it can also set attributes of it,
    and so put methods of its choice into a class that the whole process uses.
    """

    __slots__ = ("_before", "_named", "_of_function")

    def __init__(self, named: Any) -> None:
        self._named = named
        self._before = vars(named).copy()  # of a class's view, ten times as fast as dict()
        self._of_function = _settings(named)

    def check(self) -> None:
        """Undo what was changed and raise `CorruptDataError`, or do nothing."""
        before, now = self._before, vars(self._named)
        # Nothing is ever removed, so the order is the same as long as the number is.
        is_same = len(before) == len(now) and all(map(operator.is_, before.values(), now.values()))
        if is_same and self._of_function == _settings(self._named):
            return
        before = before | self._of_function
        now = now | _settings(self._named)
        changed = {name for name in now if before.get(name, before) is not now[name]} - _LAZY
        if not changed:
            return
        for name in changed:
            if name in before:
                setattr(self._named, name, before[name])
            else:
                delattr(self._named, name)
        raise CorruptDataError(
            f"The data changed {', '.join(sorted(changed))} of {self._named.__qualname__}, which "
            "the whole process uses. That was undone."
        )


def _settings(named: Any) -> dict[str, Any]:
    """Return what of a function can be set beside its dict."""
    if not isinstance(named, types.FunctionType):
        return {}
    return {
        "__code__": named.__code__,
        "__defaults__": named.__defaults__,
        "__kwdefaults__": named.__kwdefaults__,
    }


_LAZY = frozenset(
    {"__slotnames__", "__doc__", "__annotations__"}
)  # set by Python when it needs them
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: attributes of other types cannot be set


class _Restricted(pickle.Unpickler):
    # No __init__: it would cost as much as a small value.
    allow: tuple[str, ...] = ()
    named: Mapping[Any, _Named] = types.MappingProxyType({})

    def find_class(self, module: str, name: str, /) -> Any:
        full = f"{module}.{name}"
        if full == "builtins.getattr":
            return _attribute_of_zone
        known = name in ALLOWED.get(module, ()) or full in _registered
        if not known and full not in self.allow:
            raise UntrustedDataError(module, name)
        found = super().find_class(module, name)
        # A class with a __setstate__ of its own cannot be its target: BUILD calls that, without self.
        is_open = isinstance(found, types.FunctionType) or (
            isinstance(found, type)
            and found.__flags__ & _HEAP_TYPE
            and not isinstance(getattr(found, "__setstate__", None), types.FunctionType)
        )
        if is_open and found not in self.named:
            self.named = {**self.named, found: _Named(found)}
        return found

    def persistent_load(self, pid: Any, /) -> Any:
        raise UntrustedDataError("persistent", repr(pid))
