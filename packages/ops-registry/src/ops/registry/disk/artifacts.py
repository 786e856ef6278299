"""Files and folders copied into the store, each with the SHA-256 of what was copied.

A copy is made beside its target under a temporary name, flushed where the store's durability asks
for it, and renamed, so that under its own name an artifact is always whole. The digest is taken
while copying, from the bytes that are written. A folder's digest is that of its sorted file names
and their digests.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import pathlib
import re
import secrets
import shutil
from typing import TYPE_CHECKING, Any

from ops.foundation.atomic_files import publish_new
from ops.foundation.files import safe_join
from ops.foundation.hashing import calculate_file_hash, calculate_hash
from ops.registry.disk.checked_paths import is_relative, refuse_links_below
from ops.registry.disk.journal import writing
from ops.registry.errors import (
    AlreadyExistsError,
    ArtifactNotFoundError,
    CorruptStoreError,
    InvalidValueError,
    StorageError,
)
from ops.registry.operations import retried

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator

    from ops.foundation.files import StrPath
    from ops.registry.disk.content_store import ContentStore
    from ops.registry.records import Artifact

__all__ = ["checksum", "copy_in", "fetch", "stage"]

_PIECE = 1 << 20
_COPY = re.compile(r"\.[0-9a-f]{16}\.tmp")
#: Busy or slow file systems; NFS reports ESTALE for a file that was replaced meanwhile.
_PASSING = {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT}


def stage(
    source: StrPath,
    folder: pathlib.Path,
    *,
    flushed: bool = True,
    contents: ContentStore | None = None,
) -> tuple[pathlib.Path, int, str]:
    """Copy *source* into *folder* under a temporary name; return that path, size and digest.

    Without *flushed* the copy survives the death of the process, and not yet that of the machine.
    What *contents* has already is not copied: it gets one more name.
    """
    origin = pathlib.Path(source)
    if not (origin.is_file() or origin.is_dir()):  # a pipe or a device may never end
        raise ArtifactNotFoundError(f"There is no file or folder {str(origin)!r} to store.")
    _refuse_around(origin, folder)
    target = folder / new_copy_name()
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
        size, digest = _copier()(origin, target, flushed=flushed, contents=contents)
    except OSError as error:
        raise StorageError(f"{str(origin)!r} cannot be stored: {error}.") from error
    except BaseException:
        remove(target)
        raise
    return target, size, digest


def _refuse_around(origin: pathlib.Path, folder: pathlib.Path) -> None:
    """Refuse a folder that has the store in it: each copy would have all those before it."""
    around, within = os.path.realpath(origin), os.path.realpath(folder)
    if within == around or within.startswith(around.rstrip(os.sep) + os.sep):
        raise InvalidValueError(
            f"{str(origin)!r} has the folder in it that it would be copied into, {str(folder)!r}.",
            suggestions=("Name the files or folders in it that are wanted.",),
        )


def origin_of(path: StrPath) -> pathlib.Path:
    """Return the path of what is to be stored, which goes by its last part: ``.`` has none."""
    if not os.fspath(path):
        raise ArtifactNotFoundError("An empty path names no file or folder to store.")
    named = pathlib.Path(path)
    if named.name in {"", ".."}:
        return pathlib.Path(os.path.abspath(named))  # noqa: PTH100 - not through links
    return named


def new_copy_name() -> str:
    """Return a name for a file or folder on its way."""
    return f".{secrets.token_hex(8)}.tmp"


def is_copy(name: str) -> bool:
    """Whether a file of this name is a copy in progress, which is abandoned when it is old."""
    return _COPY.fullmatch(name) is not None


def copy_in(
    source: StrPath, target: pathlib.Path, contents: ContentStore | None = None
) -> tuple[int, str]:
    """Copy *source* to *target*, replacing what is there; return size and digest."""
    staged, size, digest = stage(source, target.parent, contents=contents)
    publish(staged, target)
    return size, digest


def publish(staged: pathlib.Path, target: pathlib.Path) -> None:
    """Give a staged copy its name in the store; what had it before is removed."""
    if target.is_dir() or staged.is_dir():
        remove(target)  # a rename replaces a file by a file, and nothing else
    staged.replace(target)


def deliver(staged: pathlib.Path, target: pathlib.Path, digest: str, *, overwrite: bool) -> None:
    """Give a copy that leaves the store the requested name.

    What is there may be the caller's own: other content is replaced only with *overwrite*, and is then
    moved aside first, so that it is removed only when the copy is there.

    Raises:
        AlreadyExistsError: there is something else at *target*.
    """
    if _delivered_to_nothing(staged, target):
        return
    if not overwrite:
        if checksum(target, stored=False) == digest and target.is_dir() == staged.is_dir():
            return
        raise AlreadyExistsError(
            f"There is a {'folder' if target.is_dir() else 'file'} {str(target)!r} of other content already.",
            suggestions=("Give another destination, or pass overwrite=True to replace it.",),
        )
    if not target.is_dir() and not staged.is_dir():
        staged.replace(target)
        return
    aside = target.with_name(new_copy_name())
    target.rename(aside)
    try:
        staged.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    remove(aside)


def _delivered_to_nothing(staged: pathlib.Path, target: pathlib.Path) -> bool:
    """Give a copy a name that nothing has; False when something has it, also if that came just now."""
    if os.path.lexists(target):
        return False
    try:
        if staged.is_dir():
            staged.rename(target)  # replaces an empty folder at most
        else:
            publish_new(staged, target)
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
            return False
        raise
    return True


def waiting_place(base: pathlib.Path, name: str, digest: str) -> pathlib.Path:
    """Return where the copy is that will be *name* below *base*, while the journal is written."""
    return base / f".{calculate_hash(f'{digest} {name}')[:16]}.tmp"


def move_into_place(copy: pathlib.Path, target: pathlib.Path) -> None:
    """Give a staged copy its name, which may be in a folder that is not there yet."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        publish(copy, target)
    except OSError as error:
        raise StorageError(f"{str(target)!r:.300} cannot be stored: {error}.") from error


def name_below(base: pathlib.Path, name: str) -> str:
    """Return the name of an artifact below *base* in its one spelling, or refuse it."""
    target = safe_join(base, name)
    if is_copy(target.name):
        raise InvalidValueError(f"{name!r} is a name that copies on their way have.")
    return target.relative_to(base).as_posix()


def check_apart(run_id: str, name: str, others: Iterable[str]) -> None:
    """Refuse a name inside another artifact, whose digest covers all that is in it, or around one."""
    parts = name.split("/")
    above = {"/".join(parts[:count]) for count in range(1, len(parts))}
    below = f"{name}/"
    for other in others:
        if other in above:
            raise AlreadyExistsError(
                f"Run {run_id} has {other!r} as one artifact, which {name!r} would change.",
                suggestions=("Give it a name outside of that artifact.",),
            )
        if other.startswith(below):
            raise AlreadyExistsError(
                f"Run {run_id} has the artifact {other!r}, which {name!r} would take in.",
                suggestions=("Give it another name; overwrite=True replaces one artifact only.",),
            )


def same(run_id: str, known: Artifact | None, digest: str, *, overwrite: bool) -> Artifact | None:
    """Return *known* if it has that digest; if it has another, only *overwrite* lets it be replaced."""
    if known is None or known.checksum == digest:
        return known
    if not overwrite:
        raise taken(run_id, known.path)
    return None


def taken(run_id: str, name: str) -> AlreadyExistsError:
    """Return what to raise when a run has another artifact of that name."""
    return AlreadyExistsError(
        f"Run {run_id} has another artifact {name!r} already.",
        suggestions=("Give it another name, or pass overwrite=True.",),
    )


def fetch(
    stored: pathlib.Path,
    destination: StrPath,
    expected: str,
    contents: ContentStore | None = None,
    *,
    overwrite: bool = True,
) -> pathlib.Path:
    """Copy an artifact to *destination*, which must have the digest *expected*; see `deliver`."""
    refuse_links_below(stored)
    target = pathlib.Path(destination)
    staged, _, digest = stage(stored, target.absolute().parent, contents=contents)
    try:
        if digest != expected:
            raise CorruptStoreError(
                f"{str(stored)!r} has the SHA-256 {digest}, and {expected} was stored."
            )
        with writing(target):
            deliver(staged, target, digest, overwrite=overwrite)
    finally:
        remove(staged)
    return target


def write_figure(folder: pathlib.Path, figure: Any, name: str) -> tuple[pathlib.Path, str]:
    """Write *figure* into *folder*, in the format of the suffix of *name*; return its path and name.

    Without a suffix it is a .png of matplotlib or an .html of plotly, and the name gets that suffix.
    """
    if not pathlib.PurePath(name).suffix:
        name += ".png" if hasattr(figure, "savefig") else ".html"
    path = folder / f"figure{pathlib.PurePath(name).suffix}"
    if path.suffix == ".html" and hasattr(figure, "write_html"):
        figure.write_html(path)
    elif hasattr(figure, "savefig"):
        figure.savefig(path)
    else:
        raise InvalidValueError(
            f"{type(figure).__name__} cannot be written as {name!r}: it has no savefig, "
            "and write_html makes .html files only."
        )
    return path, name


def checksum(path: pathlib.Path, *, stored: bool = True) -> str:
    """Return the digest of a file or folder; of one that is *stored* no link is followed."""
    if stored:
        refuse_links_below(path)
    if not path.exists():
        raise ArtifactNotFoundError(f"The artifact {str(path)!r} is not there any more.")
    if path.is_file():
        return calculate_file_hash(path)
    return tree_digest([(name, calculate_file_hash(path / name)) for name in names(path)])


def remove(path: pathlib.Path) -> None:
    """Delete a file or a folder, if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if not path.is_dir():
            raise
        shutil.rmtree(path)


@functools.cache
def _copier() -> Callable[..., tuple[int, str]]:
    """Return a function that copies, and repeats after errors that may pass."""
    from ops.resilience.backoff import RetryConfig
    from ops.resilience.retrying import with_retry

    policy = RetryConfig(max_attempts=4, initial_delay=0.1, exceptions=_PassingError, reraise=True)
    return with_retry(policy, on_retry=retried)(_copy)


def _copy(
    origin: pathlib.Path,
    target: pathlib.Path,
    *,
    flushed: bool,
    contents: ContentStore | None,
) -> tuple[int, str]:
    try:
        copy = _copy_tree if origin.is_dir() else _copy_file
        return copy(origin, target, flushed=flushed, contents=contents)
    except OSError as error:
        remove(target)
        if error.errno in _PASSING:
            raise _PassingError(error.errno, error.strerror, str(origin)) from error
        raise


class _PassingError(OSError):
    """An error of the system that another attempt may not meet."""


def _copy_tree(
    origin: pathlib.Path,
    target: pathlib.Path,
    *,
    flushed: bool,
    contents: ContentStore | None,
) -> tuple[int, str]:
    target.mkdir()
    total = 0
    parts = []
    for name in names(origin):
        if not is_relative(name):
            raise InvalidValueError(f"{name!r:.80} is no name for an artifact on every system.")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        size, digest = _copy_file(origin / name, target / name, flushed=flushed, contents=contents)
        total += size
        parts.append((name, digest))
    return total, tree_digest(parts)


def _copy_file(
    origin: pathlib.Path,
    target: pathlib.Path,
    *,
    flushed: bool,
    contents: ContentStore | None,
) -> tuple[int, str]:
    if contents is not None and (shared := contents.give(origin, target)) is not None:
        return shared
    hasher = hashlib.sha256()
    size = 0
    # Without buffers: pieces are large, and small files are one piece.
    with origin.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
        while piece := reader.read(_PIECE):
            hasher.update(piece)
            size += _write_all(writer, piece)
        if flushed:
            os.fsync(writer.fileno())
    digest = hasher.hexdigest()
    if contents is not None:
        contents.keep(target, digest)
    return size, digest


def _write_all(writer: io.FileIO, piece: bytes) -> int:
    done = 0
    while done < len(piece):
        done += writer.write(memoryview(piece)[done:])
    return done


def names(folder: pathlib.Path) -> list[str]:
    """Return the names of all files in a folder, sorted, with "/" between parts.

    Links are followed; a link to a folder that it is in, which has no end, is an `InvalidValueError`.
    """
    return sorted(_names(os.fspath(folder), "", ()))


def _names(folder: str, prefix: str, above: tuple[str, ...]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:
        raise InvalidValueError(f"{folder!r} is a link to a folder that it is in.")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _names(entry.path, f"{prefix}{entry.name}/", (*above, real))
            elif entry.is_file():
                yield f"{prefix}{entry.name}"


def tree_digest(parts: list[tuple[str, str]]) -> str:
    """Return the digest of a folder from its files' names, sorted, and their digests."""
    return calculate_hash("".join(f"{d}  {n}\n" for n, d in parts))


def verify(path: pathlib.Path, expected: str) -> None:
    """Raise `CorruptStoreError` unless the digest of *path* is *expected*."""
    found = checksum(path)
    if found != expected:
        raise CorruptStoreError(
            f"{str(path)!r} has the SHA-256 {found}, and {expected} was stored."
        )
