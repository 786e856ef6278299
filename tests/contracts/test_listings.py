"""Folders are listed by what raises when they cannot be: `Path.glob` and `os.walk` take them for empty ones."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Where what is not seen is only removed, evicted or offered later.
MAY_SEE_LESS = {
    "ops-cache/src/ops/cache/__main__.py",
    "ops-cache/src/ops/cache/disk/blobs.py",
    "ops-cache/src/ops/cache/limits.py",
    "ops-foundation/src/ops/foundation/file_listing.py",  # looks at the folder itself before
    "ops-metrics-collect/src/ops/metrics_collect/storage/_directory.py",
    "ops-observe/src/ops/observe/__main__.py",
    "ops-registry/src/ops/registry/disk/content_store.py",
    "ops-registry/src/ops/registry/fsck.py",
    "ops-registry/src/ops/registry/importing/formats.py",
    "ops-registry/src/ops/registry/trace_copies.py",
    "ops-registry/src/ops/registry/wandb/_saving.py",
    "ops-suite/src/ops_suite/demo/__init__.py",
}
#: Of storages of metrics, which raise; and `ops.foundation.paths.walked`.
OTHERS = {
    "ops-foundation/src/ops/foundation/paths.py",
    "ops-metrics-collect/src/ops/metrics_collect/conformance/storage.py",
    "ops-metrics-collect/src/ops/metrics_collect/report_commands.py",
    "ops-suite/src/ops_suite/demo/activity.py",
}


def test_what_must_not_be_missed_is_listed_by_what_raises() -> None:
    found = {where.partition(":")[0] for where in _silent_listings()}
    assert found == MAY_SEE_LESS | OTHERS, sorted(found ^ (MAY_SEE_LESS | OTHERS))


def _silent_listings() -> Iterator[str]:
    for path in (ROOT / "packages").glob("*/src/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            is_walk = node.func.attr == "walk" and ast.unparse(node.func.value) == "os"
            if is_walk or node.func.attr in {"glob", "rglob"}:
                yield f"{path.relative_to(ROOT / 'packages').as_posix()}:{node.lineno}"
