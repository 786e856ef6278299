"""The page of the formats on disk: what each file is recognized by, read from the code, and where it is specified."""

from __future__ import annotations

import importlib
import pathlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class Format(NamedTuple):
    """Files of one kind: their names, the constants that mark them, and the section that specifies them.

    *code* has a module, and the names of its constants behind a colon; it is empty where the files have no mark.
    """

    distribution: str
    what: str
    files: str
    code: str
    section: str


FORMATS = (
    Format(
        "ops-serialize",
        "container",
        "`*.opsf`, cache entries",
        "ops.serialize.layout:MAGIC VERSION OLD_VERSION",
        "serialize.md#the-container",
    ),
    Format(
        "ops-serialize",
        "tree of data",
        "inside containers",
        "ops.serialize.tree:MAGIC TREE_VERSION",
        "serialize.md#a-tree-of-data",
    ),
    Format(
        "ops-shm",
        "segment",
        "`/dev/shm/ops-shm.*`",
        "ops.shm.layout:MAGIC VERSION",
        "shm.md#the-segment",
    ),
    Format(
        "ops-cache",
        "results of `@cache`",
        "`cache/<module>/<function>_<digest>.pkl` and `.yaml`",
        "",
        "cache.md#files-of-cache",
    ),
    Format(
        "ops-cache",
        "folder of a `DiskCache`",
        "`cache.json`",
        "ops.cache.disk.cache_directory:_FORMAT _VERSION",
        "cache.md#the-folder-of-a-diskcache",
    ),
    Format(
        "ops-cache",
        "record of a segment",
        "`*.seg`",
        "ops.cache.disk.records:MAGIC",
        "cache.md#the-folder-of-a-diskcache",
    ),
    Format(
        "ops-cache",
        "hint of a segment",
        "`*.hint`, may be deleted",
        "ops.cache.disk.hints:_MAGIC _VERSION",
        "cache.md#the-folder-of-a-diskcache",
    ),
    Format(
        "ops-datalog",
        "segment of messages, and its tail",
        "`*.seg`, `*.tail`",
        "ops.datalog.frames:MAGIC VERSION",
        "datalog.md#files",
    ),
    Format(
        "ops-datalog",
        "index at the end of a segment",
        "in segments",
        "ops.datalog.footer:_MAGIC",
        "datalog.md#files",
    ),
    Format(
        "ops-datalog",
        "descriptions of sources",
        "`log.sources.json`",
        "ops.datalog.schema:_FORMAT",
        "datalog.md#files",
    ),
    Format(
        "ops-observe",
        "audit log, event log",
        "`*.jsonl`, `*.jsonl.000001` …",
        "",
        "observe.md#audit",
    ),
    Format(
        "ops-observe",
        "metrics of one process",
        "JSON in the folder of `MultiprocessMetrics`",
        "ops.observe.multiprocess:_FORMAT",
        "observe.md#metrics",
    ),
    Format(
        "ops-metrics-collect",
        "tarball",
        "`*.tar.gz`",
        "ops.metrics_collect.tarballs:FORMAT",
        "metrics-collect.md#formats",
    ),
    Format(
        "ops-metrics-collect",
        "ledger",
        "SQLite, or objects below `ledger/`",
        "ops.metrics_collect.ledger:FORMAT",
        "metrics-collect.md#formats",
    ),
    Format("ops-registry", "store", "the folder of a store", "", "registry.md"),
    Format(
        "ops-registry",
        "journal of models",
        "`model_registry/models/journal.log`",
        "ops.registry.models.state:FORMAT",
        "registry.md",
    ),
    Format(
        "ops-registry",
        "snapshot of models",
        "`journal.log.snapshot`, may be deleted",
        "ops.registry.models.snapshots:FORMAT",
        "registry.md",
    ),
    Format(
        "ops-registry",
        "snapshot of traces",
        "`traces/*/journal.log.snapshot`, may be deleted",
        "ops.registry.traces.snapshots:FORMAT",
        "registry-mlflow.md",
    ),
    Format(
        "ops-registry",
        "model kept as an object",
        "in artifacts of versions",
        "ops.registry.models.objects:_FORMAT",
        "registry.md#models-as-objects",
    ),
    Format(
        "ops-registry",
        "rows and frames of runs",
        "`{run}.*.log`, the journals of a run",
        "ops.registry.run_frames:FORMAT",
        "registry.md",
    ),
    Format(
        "ops-registry",
        "tables in Databricks",
        "Delta tables, `ops_format`",
        "ops.registry.databricks.tables:FORMAT",
        "registry-databricks.md#tables-and-files",
    ),
)
#: Constants of the code that mark formats of others, or nothing that is kept.
FOREIGN = frozenset(
    {
        "ops.datalog.npz:_NPY_MAGIC",
        "ops.foundation.passwords:_FORMAT",
        "ops.foundation.canonical:_VERSION",
        "ops.registry.importing.sqlite_files:_MAGIC",
        "ops.registry.importing.mlflow_models:_VERSION",
        "ops.registry.mlflow.version_files:_VERSION",
        "ops.serialize.digests:ENCODER_VERSION",
        "ops.serialize.parquet_footer:_MAGIC",
        "ops.cache.disk.records:_MAGIC_BYTES",
    }
)
_HEAD = """# Formats on disk

Each format is specified byte by byte in the guide of its package, so that a program in another language can read it. Files have a magic
number or a name, and a version; one that is newer than a program knows is refused with a sentence. The values here are those of the code.

| package | what | files | mark and version | specified in |
|---|---|---|---|---|
"""


def constants(entry: Format) -> list[str]:
    """Return the constants that *entry* names, as `module:NAME`."""
    module, _, names = entry.code.partition(":")
    return [f"{module}:{name}" for name in names.split()]


def page() -> str:
    """Return the page, a row for each format."""
    return _HEAD + "\n".join(map(_row, FORMATS)) + "\n"


def _row(entry: Format) -> str:
    marks = ", ".join(map(_mark, constants(entry))) or "none"
    guide = entry.section.split("#", maxsplit=1)[0].removesuffix(".md")
    link = f"[{guide}](../{entry.section})"
    return f"| {entry.distribution} | {entry.what} | {entry.files} | {marks} | {link} |"


def _mark(constant: str) -> str:
    module, name = constant.split(":")
    value = getattr(importlib.import_module(module), name)
    if isinstance(value, int) and value > 0xFFFF:  # a magic number, as bytes
        value = value.to_bytes((value.bit_length() + 7) // 8, "little")
    if isinstance(value, bytes):
        return f"`{value.hex(' ').upper()}`"
    if isinstance(value, str):
        return f"`{value}`"
    return f"{'older version' if name.startswith('OLD') else 'version'} {value}"


def write(app: Sphinx) -> None:
    """Write `reference/formats.md`."""
    target = pathlib.Path(app.srcdir) / "reference" / "formats.md"
    text = page()
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")
