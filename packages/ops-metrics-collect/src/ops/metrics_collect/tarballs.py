"""Tarballs whose bytes depend on their content alone, with a manifest that proves the content.

Owners, modes and times are fixed, so are the order of members and the gzip header. `manifest.json`
lists rows, bytes and SHA-256 of every other member; the extractor checks them.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import gzip
import hashlib
import io
import json
import re
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

from ops.foundation.hashing import calculate_file_hash, calculate_hash
from ops.foundation.instants import iso
from ops.metrics_collect.rows import count_rows

if TYPE_CHECKING:
    import os
    import pathlib
    from collections.abc import Mapping

__all__ = [
    "FORMAT",
    "Layout",
    "Member",
    "converted_manifest",
    "payload_digests",
    "write_tarball",
]

Layout: TypeAlias = Literal["ops", "controller"]

FORMAT = "ops-metrics-collect/1"
CONFIG = "config.json"
MANIFEST = "manifest.json"
STATUS = "data_collection_status.csv"


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A payload file on its way into a tarball; *rows* are counted when they are not given."""

    name: str
    path: pathlib.Path
    collector: str
    version: str
    primary_key: str | None = None
    version_column: str | None = None
    rows: int | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    def describe(self) -> dict[str, Any]:
        """Return the entry of the manifest."""
        return {
            "collector": self.collector,
            "version": self.version,
            "primary_key": self.primary_key,
            "version_column": self.version_column,
            "rows": count_rows(self.path) if self.rows is None else self.rows,
            "bytes": self.size,
            "sha256": calculate_file_hash(self.path, "sha256"),
        }


def write_tarball(
    path: pathlib.Path,
    config: Mapping[str, Any],
    status: bytes,
    members: list[Member],
    interval: tuple[dt.datetime | None, dt.datetime | None],
    origin: str = "",
    layout: Layout = "ops",
) -> None:
    """Write a tarball with its configuration, manifest, status and payload.

    *origin* names the installation whose rows these are. The layout "controller" is the one that the
    receiver of console.redhat.com takes: names begin with "./", the manifest maps files to versions.
    """
    config_bytes = _json(config)
    if layout == "controller":
        versions = {m.name: m.version for m in members}
        manifest: dict[str, Any] = {CONFIG: "1.0", STATUS: "1.0", **versions}
    else:
        manifest = _manifest(config_bytes, status, members, interval, origin)
    prefix = "./" if layout == "controller" else ""
    with (
        path.open("xb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, data in ((CONFIG, config_bytes), (MANIFEST, _json(manifest)), (STATUS, status)):
            _add(tar, prefix + name, len(data), io.BytesIO(data))
        for member in members:
            with member.path.open("rb") as source:
                _add(tar, prefix + member.name, member.size, source)


def _manifest(
    config: bytes,
    status: bytes,
    members: list[Member],
    interval: tuple[dt.datetime | None, dt.datetime | None],
    origin: str,
) -> dict[str, Any]:
    described = {m.name: m.describe() for m in members}
    for name, data in ((CONFIG, config), (STATUS, status)):
        rows = status.count(b"\n") - 1 if name == STATUS else 1
        described[name] = {
            "rows": rows,
            "bytes": len(data),
            "sha256": calculate_hash(data, "sha256"),
        }
    since, until = (iso(m) if m else None for m in interval)
    return {
        "format": FORMAT,
        "origin": origin,
        "since": since,
        "until": until,
        "collectors": {m.collector: m.version for m in members},
        "members": described,
    }


def payload_digests(path: str | os.PathLike[str]) -> dict[str, str] | None:
    """Return the SHA-256 of each member that holds rows; None when the tarball cannot be read."""
    found: dict[str, str] = {}
    try:
        with tarfile.open(path, "r|gz") as tar:
            for info in tar:
                name = info.name.removeprefix("./")
                content = tar.extractfile(info) if info.isreg() else None
                if content is None or name in {CONFIG, MANIFEST, STATUS}:
                    continue
                digest = hashlib.sha256()
                while piece := content.read(1 << 20):
                    digest.update(piece)
                found[name] = digest.hexdigest()
    except OSError as error:
        if error.errno is not None:  # of the operating system, and not of the tarball
            raise
        return None
    except (tarfile.TarError, EOFError, zlib.error, ValueError):
        return None
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """What the name of a tarball holds.

    Attributes:
        keys: the collections that it may be of; "package" stands for several.
        since: the beginning of its slice, None when it has none.
        until: the end of its slice, None when it has none.
    """

    keys: frozenset[str]
    since: dt.datetime | None
    until: dt.datetime | None

    def is_within(self, start: dt.datetime | None, end: dt.datetime | None) -> bool:
        """Say whether something of the slice is in [start, end)."""
        too_late = end is not None and self.since is not None and self.since >= end
        too_early = start is not None and self.until is not None and self.until <= start
        return not (too_late or too_early)


_TIME_IN_NAME = r"(?:all|[0-9]{8}T[0-9]{6}(?:[.][0-9]{6})?Z)"
_NAME = re.compile(
    rf"(?:.*-)?({_TIME_IN_NAME})-({_TIME_IN_NAME})-(.+)-[0-9]{{6}}[.]tar[.]gz", re.DOTALL
)


def named(name: str) -> Named | None:
    """Return the content of a name that follows the usual format; None for another name."""
    match = _NAME.fullmatch(name.rpartition("/")[2])
    if match is None:
        return None
    try:
        since, until = (
            None if text == "all" else dt.datetime.fromisoformat(text)
            for text in match.groups()[:2]
        )
    except ValueError:
        return None
    key = match[3]
    # A revision of a slice, or a collector that is called so: either may be meant.
    return Named(frozenset({key, re.sub(r"-r[0-9]+$", "", key)}), since, until)


def converted_manifest(manifest: Mapping[str, Any], status: bytes) -> dict[str, Any] | None:
    """Return the manifest of a tarball in the layout "controller" as one of ours, else None.

    What it does not have stays out: digests, and the declared keys. The interval is that of *status*.
    """
    if not manifest or not all(isinstance(version, str) for version in manifest.values()):
        return None
    if "format" in manifest or not all("." in name for name in manifest):
        return None
    rows = list(csv.DictReader(io.StringIO(status.decode("utf-8-sig"))))
    since = [row["since"] for row in rows if row.get("since")]
    until = [row["until"] for row in rows if row.get("until")]
    return {
        "format": FORMAT,
        "since": min(since, default=None),
        "until": max(until, default=None),
        "members": {name.removeprefix("./"): {"version": v} for name, v in manifest.items()},
    }


def _add(tar: tarfile.TarFile, name: str, size: int, source: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)  # a fresh one has no owner, and time 0
    info.size = size
    info.mode = 0o644
    tar.addfile(info, source)


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
