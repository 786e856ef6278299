"""Tarballs whose bytes depend on their content alone, with a manifest that proves the content.

Owners, modes and times are fixed, so are the order of members and the gzip header. `manifest.json`
lists rows, bytes and SHA-256 of every other member; the extractor checks them.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import tarfile
from typing import IO, TYPE_CHECKING, Any

from ops.foundation.hashing import calculate_file_hash, calculate_hash
from ops.foundation.instants import iso
from ops.metrics_collect.rows import count_rows

if TYPE_CHECKING:
    import datetime as dt
    import pathlib
    from collections.abc import Mapping

__all__ = ["FORMAT", "Member", "write_tarball"]

FORMAT = "ops-metrics-collect/1"
CONFIG = "config.json"
MANIFEST = "manifest.json"
STATUS = "data_collection_status.csv"


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A payload file on its way into a tarball."""

    name: str
    path: pathlib.Path
    collector: str
    version: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    def describe(self) -> dict[str, Any]:
        """Return the entry of the manifest."""
        return {
            "collector": self.collector,
            "version": self.version,
            "rows": count_rows(self.path),
            "bytes": self.size,
            "sha256": calculate_file_hash(self.path, "sha256"),
        }


def write_tarball(
    path: pathlib.Path,
    config: Mapping[str, Any],
    status: bytes,
    members: list[Member],
    interval: tuple[dt.datetime | None, dt.datetime | None],
) -> None:
    """Write a tarball with its configuration, manifest, status and payload."""
    config_bytes = _json(config)
    described = {m.name: m.describe() for m in members}
    for name, data in ((CONFIG, config_bytes), (STATUS, status)):
        rows = status.count(b"\n") - 1 if name == STATUS else 1
        described[name] = {
            "rows": rows,
            "bytes": len(data),
            "sha256": calculate_hash(data, "sha256"),
        }
    since, until = (iso(m) if m else None for m in interval)
    manifest = {
        "format": FORMAT,
        "since": since,
        "until": until,
        "collectors": {m.collector: m.version for m in members},
        "members": described,
    }
    with (
        path.open("xb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, data in ((CONFIG, config_bytes), (MANIFEST, _json(manifest)), (STATUS, status)):
            _add(tar, name, len(data), io.BytesIO(data))
        for member in members:
            with member.path.open("rb") as source:
                _add(tar, member.name, member.size, source)


def _add(tar: tarfile.TarFile, name: str, size: int, source: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)  # a fresh one has no owner, and time 0
    info.size = size
    info.mode = 0o644
    tar.addfile(info, source)


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
