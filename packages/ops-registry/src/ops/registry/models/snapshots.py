"""What the journal of models came to, so that a new process need not read it from its beginning.

``models/journal.log.snapshot`` is a view: a framed header with the offset in the journal up to which it goes,
then a line of JSON per model, which is decoded when that model is requested. The journal is never cut,
as each of its frames is part of a history that is kept; it is read on from there.

Writing one takes no lock. It is folded from frames that are in the journal for good, and `os.replace`
makes it the snapshot, so of two writers the later wins and both are right. Reading takes none either: what
is damaged, of a newer format, or not of this journal (shorter, or other bytes before that offset) is left
alone, and the journal read from its beginning. Paths are relative, so a store can be moved.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ops.registry.disk.checked_paths import is_relative
from ops.registry.disk.derived_files import write_view
from ops.registry.disk.journal import checksum_before, frame, parse
from ops.registry.errors import CorruptStoreError
from ops.registry.instants import from_ns, to_ns
from ops.registry.json_values import decode, encode
from ops.registry.models.model import Model
from ops.registry.records import ModelMetadata, ModelStage, ModelVersion, StageChange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Models", "Snapshot", "load", "save"]

FORMAT = 2  # 1 had models without versions, under names that were given up


class Snapshot(NamedTuple):
    """Lines of models by name, folded from the first *offset* bytes of a journal, *torn* lines left out."""

    offset: int
    torn: int
    lines: Mapping[str, bytes]


class Models(MutableMapping[str, Model]):
    """Models by name, in the order they were met; those from a snapshot are decoded one by one."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._entries: dict[str, Model | bytes] = {}

    def restore(self, lines: Mapping[str, bytes]) -> None:
        """Put the lines of a snapshot in place of everything."""
        self._entries = dict(lines)

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """Yield a line per model, as of now; a copy may be read while this one changes."""
        for name, entry in self._entries.items():
            yield name, entry if isinstance(entry, bytes) else _line(entry, self._folder)

    def copy(self) -> Models:
        """Return what later changes do not reach."""
        made = Models(self._folder)
        made._entries = {
            name: entry if isinstance(entry, bytes) else entry.copy()
            for name, entry in self._entries.items()
        }
        return made

    def __getitem__(self, name: str) -> Model:
        entry = self._entries[name]
        if isinstance(entry, bytes):
            entry = self._entries[name] = _model(entry, self._folder)
        return entry

    def __setitem__(self, name: str, model: Model) -> None:
        self._entries[name] = model

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def load(path: str, journal: str) -> Snapshot | None:
    """Return the snapshot at *path* if it is one of *journal* as it is."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - strings
            head, body = file.readline(), file.read()
        (header,), torn, _ = parse(head)
        if torn or header["format"] != FORMAT or header["crc"] != zlib.crc32(body):
            return None
        if header["before"] != checksum_before(journal, header["through"]):
            return None
        ends = header["models"]
        lines = zip(ends, body.split(b"\n"), strict=False)
        return Snapshot(header["through"], header["torn"], dict(lines))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(path: str, journal: str, offset: int, torn: int, models: Models) -> None:
    """Write *models* as the snapshot of the first *offset* bytes of *journal*."""
    lines = dict(models.lines())
    body = b"".join(line + b"\n" for line in lines.values())
    header = {
        "format": FORMAT,
        "through": offset,
        "torn": torn,
        "before": checksum_before(journal, offset),
        "crc": zlib.crc32(body),
        "models": list(lines),
    }
    write_view(path, frame(header) + body)


def _line(model: Model, folder: str) -> bytes:
    plain = {name: getattr(model, name) for name in Model.__slots__}
    plain["changed"] = list(model.changed.items())
    plain["versions"] = [_plain(version, folder) for version in model.versions.values()]
    return encode(plain)


def _model(line: bytes, folder: str) -> Model:
    plain = decode(line)
    plain["changed"] = dict(map(tuple, plain["changed"]))
    versions = (_version(recorded, plain["name"], folder) for recorded in plain["versions"])
    return Model(**plain | {"versions": {version.version: version for version in versions}})


def _plain(version: ModelVersion, folder: str) -> list[Any]:
    uri = version.artifact_uri
    here = uri.startswith(folder + os.sep)
    return [
        version.model_id,
        version.version,
        str(version.stage),
        to_ns(version.created_at),
        uri[len(folder) + 1 :] if here else uri,
        here,
        version.checksum,
        version.size,
        {name: getattr(version.metadata, name) for name in ModelMetadata.__slots__},
        [[str(change.stage), to_ns(change.timestamp)] for change in version.stage_history],
    ]


def _version(recorded: list[Any], name: str, folder: str) -> ModelVersion:
    model_id, number, stage, created, uri, here, checksum, size, metadata, history = recorded
    if not is_relative(model_id) or type(number) is not int or (here and not is_relative(uri)):
        raise CorruptStoreError(
            f"The snapshot of the registry has a version at {uri!r:.80}, which this package never writes.",
            suggestions=("ops-registry fsck --repair makes the snapshot again.",),
        )
    metadata["dependencies"] = tuple(metadata["dependencies"])
    return ModelVersion(
        model_id=model_id,
        name=name,
        version=number,
        stage=ModelStage(stage),
        created_at=from_ns(created),
        artifact_uri=f"{folder}{os.sep}{uri}" if here else uri,
        checksum=checksum,
        size=size,
        metadata=ModelMetadata(**metadata),
        stage_history=tuple(StageChange(ModelStage(s), from_ns(when)) for s, when in history),
    )
