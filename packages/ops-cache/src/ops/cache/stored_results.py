"""The stored results of one function, as files: where they lie, how they are written and read.

A result lies in `<folder>/cache/<module>/<function>_<32 hex digits>.pkl`, a FRAME container of
`ops.serialize`, with a `.yaml` of the same name beside it (JSON, which is YAML). The result is written first
and the metadata last, each atomically: an entry exists only when both are there. Whatever cannot be
read is computed again, with a warning.

Plain immutable results are also kept in memory, bounded, and trusted only while the metadata file
is the one they came with; all others are read anew, so no two callers share a mutable object.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import pathlib
import re
import stat
import time
import warnings
from typing import TYPE_CHECKING, Any, Literal

from ops.cache.configuration import cache_folder, cache_limits
from ops.cache.errors import CorruptEntryWarning, UnsuitableFolderError
from ops.cache.explanation import save_parts
from ops.cache.identity.reach import IMMUTABLE
from ops.cache.limits import Watch, entries_below, reduce_entries
from ops.cache.memory import MISSING, MemoryCache
from ops.cache.own_files import can_be_mapped, refuse_key_inside
from ops.foundation.files import atomic_write
from ops.foundation.paths import listed
from ops.serialize.smart import SmartSerializer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.cache.identity.identity import Identity
    from ops.serialize.trust import Trust

__all__ = ["StoredResults"]

_watch = Watch()
_TO_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class StoredResults:
    """The files with the results of one function.

    Args:
        identity: what the function is.
        folder: stands for the data folder where it is not None.
        ttl: seconds for which a result counts.
        compress: False keeps large results raw.
        trust: what is stored and read.
        mmap: how large arrays are mapped: "c", or "r" for arrays that cannot be changed.
    """

    def __init__(
        self,
        identity: Identity,
        folder: pathlib.Path | None,
        ttl: float | None,
        *,
        compress: Literal["auto"] | bool,
        trust: Trust,
        mmap: Literal["c", "r"],
    ) -> None:
        self._identity, self._own_folder, self._ttl = identity, folder, ttl
        self._compress = compress
        self._trust: Trust = trust
        self._mmap: Literal["c", "r"] = mmap
        self._prefix: tuple[pathlib.Path | None, str] = (None, "")
        self._resolved: tuple[pathlib.Path | None, bytes] = (None, b"")
        self._memory: MemoryCache[str, Any] = MemoryCache(256, max_memory=64 << 20)

    def base(self) -> pathlib.Path:
        """Return the data folder."""
        return self._own_folder or cache_folder()

    def folder(self) -> pathlib.Path:
        """Return the folder of the results of the function's module."""
        return self.base() / "cache" / _safe_name(self._identity.module)

    def checked_folder(self) -> pathlib.Path:
        """Return the folder, unless a link leads elsewhere; its owner alone may say where results go."""
        folder = self.folder()
        if folder.is_symlink():
            raise UnsuitableFolderError(
                f"{folder} is a symbolic link, so it is not used as a part of a cache.",
                suggestions=("Remove the link, or give its target to configure(data_folder=...).",),
            )
        return folder

    def path(self, key: str) -> pathlib.Path:
        """Return the path of the result whose 32 hex digits are *key*."""
        return pathlib.Path(self.stem(key) + ".pkl")

    def stem(self, key: str) -> str:
        """Return that path without its suffix."""
        base = self.base()
        known, prefix = self._prefix
        if base is not known and base != known:  # comparing paths is slow
            prefix = str(self.folder() / f"{_safe_name(self._identity.qualname)}_")
            self._prefix = (base, prefix)
        return prefix + key

    def metadata(self) -> list[pathlib.Path]:
        """Return the paths of the metadata of all results, of any version of the function."""
        name = re.escape(_safe_name(self._identity.qualname))
        pattern = re.compile(name + r"_[0-9a-f]{32}\.yaml")
        found = [p for p in listed(self.checked_folder(), "*.yaml") if pattern.fullmatch(p.name)]
        return [p for p in found if _is_file(p) and self._is_own(p)]

    def _is_own(self, metadata: pathlib.Path) -> bool:
        """Say whether an entry is of this program: another one may have the same names."""
        try:
            descriptor = os.open(metadata, _TO_READ)
            with open(descriptor, encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
                record = json.loads(file.read())
            return bool(record.get("program", self._identity.program) == self._identity.program)
        except PermissionError:  # another user's
            return False
        except (FileNotFoundError, ValueError, AttributeError, RecursionError):
            return True  # damaged, or being removed

    def read(self, key: str) -> Any:
        """Return a result, or MISSING; what cannot be read is missing, with a warning."""
        stem = self.stem(key)
        try:
            status = os.stat(stem + ".yaml")  # noqa: PTH116 - on the path of each hit: no Path
        except OSError:
            return MISSING
        if self._ttl is not None and time.time() - status.st_mtime >= self._ttl:
            return MISSING
        stamp = (status.st_ino, status.st_mtime_ns)
        kept = self._memory.get(stem)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        path = pathlib.Path(stem + ".pkl")
        self.checked_folder()
        if os.path.lexists(path) and not _is_file(path):
            return MISSING  # a FIFO would make us wait, a link would lead elsewhere
        try:
            mapped: Any = self._mmap if can_be_mapped(path) else None
            result = self._serializer(key).load(path, mmap=mapped)
        except Exception as error:  # noqa: BLE001 - any damage means the same: compute again
            if not os.path.exists(stem + ".yaml"):  # noqa: PTH110 - a string, as above
                return MISSING  # another process has cleared it meanwhile
            msg = f"The stored result {path} cannot be read and is computed again: {error}"
            warnings.warn(CorruptEntryWarning(msg), stacklevel=4)
            return MISSING
        self._keep(stem, stamp, result)
        return result

    def _serializer(self, key: str) -> SmartSerializer:
        # What a signature is for: the result of one call of one function.
        name = f"{self._identity.module}.{self._identity.qualname}"
        if self._trust == "user":
            refuse_key_inside(self.base() / "cache")
        base = self.base()
        known, path = self._resolved
        if base is not known and base != known:
            path = os.fsencode(base.resolve())
            self._resolved = (base, path)
        return SmartSerializer(trust=self._trust, context=("ops.cache.result", path, name, key))

    def write(
        self,
        key: str,
        result: Any,
        seconds: float,
        *,
        call: tuple[str, Mapping[str, Any], Mapping[str, str]],
    ) -> int:
        """Store a result that took *seconds*; return the bytes of its file.

        *call* is for people and for `explain`: the signature, the arguments that count, and their digests.
        """
        path = self.path(key)
        self.checked_folder()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # "auto" probes each buffer: one that does not shrink stays raw, and is mapped when read.
        compression: Any = None if self._compress is False else "auto"
        self._serializer(key).dump(result, path, compression=compression)
        size = path.stat().st_size
        signature, arguments, digests = call
        record = {
            "function": self._identity.qualname,
            "module": self._identity.module,
            "program": self._identity.program,
            "signature": signature,
            "arguments": {name: _shown(value) for name, value in arguments.items()},
            "created": dt.datetime.now(dt.UTC).isoformat(),
            "version": None if self._identity.version is None else str(self._identity.version),
            "time_taken": seconds,
            "size": size,
            "code": save_parts(path.parent, self._identity.parts()),
            "argument_digests": {name: value[:16] for name, value in digests.items()},
        }
        with atomic_write(path.with_suffix(".yaml")) as file:
            file.write(json.dumps(record, indent=2) + "\n")
        folder = self.base() / "cache"
        if _watch.is_due(folder, size, limits := cache_limits()):
            reduce_entries(entries_below(folder), limits)
        return size

    def clear(self) -> int:
        """Remove all results, of any version of the function; return how many."""
        self._memory.clear()
        metadata = self.metadata()
        for path in metadata:
            path.unlink(missing_ok=True)  # first: without it the result counts as missing
            path.with_suffix(".pkl").unlink(missing_ok=True)
        return len(metadata)

    def _keep(self, stem: str, stamp: tuple[int, int], result: Any) -> None:
        if type(result) in IMMUTABLE and (
            not isinstance(result, (str, bytes)) or len(result) < 1 << 20
        ):
            self._memory.set(stem, (stamp, result))


def _safe_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".")[:120] or "_"


def _is_file(path: pathlib.Path) -> bool:
    """Say whether *path* is a regular file itself: no link, no FIFO."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - it is for people to look at, and the result is good
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= 200 else text[:197] + "..."
