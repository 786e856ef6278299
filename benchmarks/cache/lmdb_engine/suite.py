"""Runs tests of `DiskCache` on LMDB: `python -m pytest -p benchmarks.cache.lmdb_engine.suite tests/cache/test_model.py`.

`ops.cache.DiskCache` is the prototype in the tests and in the programs that they start.
"""

from __future__ import annotations

import os
import pathlib
import tempfile

import ops.cache
import ops.cache.disk.store
from benchmarks.cache.lmdb_engine.cache import LmdbCache

_IN_CHILDREN = """
import sys
sys.path.insert(0, {root!r})
import ops.cache
import ops.cache.disk.store
from benchmarks.cache.lmdb_engine.cache import LmdbCache
ops.cache.DiskCache = ops.cache.disk.store.DiskCache = LmdbCache
"""

_folder = tempfile.TemporaryDirectory()
_root = str(pathlib.Path(__file__).parents[3])
pathlib.Path(_folder.name, "sitecustomize.py").write_text(_IN_CHILDREN.format(root=_root))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [_folder.name, *filter(None, [os.environ.get("PYTHONPATH")])]
)
ops.cache.DiskCache = ops.cache.disk.store.DiskCache = LmdbCache
