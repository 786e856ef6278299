"""Files of a cache folder that are changed at random: it opens, reads what is whole, and raises nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import warnings
import zlib
from pathlib import Path

import pytest
from tests.fuzzed_bytes import FULL, MIB, full_run, measured, mutated, rounds

from ops.cache import DiskCache
from ops.cache.disk import hints, records
from ops.foundation.errors import OpsError

CORPUS = Path(__file__).parent / "corpus"
ROUNDS = 40
NAMES = ("00000001.seg", "00000002.seg", "00000001.hint", "cache.json", "keys")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with entries of each kind: two segments, a hint, a large value."""
    made = tmp_path_factory.mktemp("whole")
    with DiskCache(made) as cache:
        for n in range(20):
            cache.set(
                f"k{n}",
                {"n": [n, "x" * n]},
                ttl=1000 if n % 2 else None,
                tag="odd" * (n % 2) or None,
            )
            cache.namespace("below").set(("t", n), b"bytes" * n)
        cache.set("tree", (1, {2}))
        cache.set("large", bytes(300 << 10))
        cache.delete("k1")
        cache.delete_tag("odd")
        cache.namespace("other").clear()
        cache._log.seal()
        with cache.transact() as changes:
            changes.set("a", 1)
            changes.set("b", 2)
        cache._log.seal()
        cache.set("k2", "again")
    return made


def repaired_hint(data: bytes) -> bytes:
    """Return a hint whose checksum is right again: what only damages is found by that alone."""
    try:
        magic, version, _, *rest = hints._HEADER.unpack_from(data)
    except hints.struct.error:
        return data
    head = hints._HEADER.pack(magic, version, 0, *rest)
    crc = zlib.crc32(data[hints._HEADER.size :], zlib.crc32(head))
    return hints._HEADER.pack(magic, version, crc, *rest) + data[hints._HEADER.size :]


def repaired_segment(data: bytes, folder: Path, number: int) -> bytes:
    """Return a segment whose records have right checksums again."""
    salt = bytes.fromhex(json.loads((folder / "cache.json").read_text())["salt"])
    seed, changed, at = zlib.crc32(salt + number.to_bytes(8, "little")), bytearray(data), 0
    while (at := changed.find(records.FRONT.pack(records.MAGIC, 0)[:4], at)) >= 0:
        if at + records.HEADER.size > len(changed):
            break
        _, _, _, *sizes, _ = records.HEADER.unpack_from(changed, at)
        end = at + records.HEADER.size + sum(sizes)
        if end <= len(changed):
            crc = zlib.crc32(changed[at + 8 : end], seed)
            changed[at : at + 8] = records.FRONT.pack(records.MAGIC, crc)
        at += 4
    return bytes(changed)


def use(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with DiskCache(folder) as cache:
            for key in [*cache, "k3", "large", "tree", "a"]:
                cache.get(key)
            cache.get_with_ttl("k2")
            cache.set("new", 1)
            assert cache["new"] == 1
            cache.check(repair=True)
            cache.namespace("below").clear()
            cache.delete_tag("odd")


@full_run
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*NAMES[:4], "a large value"])
def test_a_changed_file_loses_entries_and_nothing_else(
    folder: Path, tmp_path: Path, name: str
) -> None:
    rng = random.Random(f"{name} {random.randrange(1 << 30) if FULL else 0}")
    for number in rounds(ROUNDS, 1 / 5):
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        path = copy / name
        if name == "a large value":
            path = next(p for p in (copy / "blobs").rglob("*") if p.is_file())
        data = mutated(path.read_bytes(), rng)
        if name.endswith("hint") and rng.random() < 0.8:
            data = repaired_hint(data)
        if name.endswith("seg") and rng.random() < 0.8:
            data = repaired_segment(data, copy, int(name[:8]))
        path.write_bytes(data)
        allowed = 64 * MIB + 4 * sum(p.stat().st_size for p in copy.rglob("*") if p.is_file())
        with (
            measured(data, CORPUS, allowed, f".{os.path.basename(path)}"),
            contextlib.suppress(OpsError),
        ):
            use(copy)
        shutil.rmtree(copy)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.*")), ids=lambda path: path.name)
def test_what_an_earlier_run_found_loses_entries_only(
    folder: Path, tmp_path: Path, path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    name = path.name.partition(".")[2]
    target = tmp_path / "copy" / name
    if name not in NAMES:
        target = next(p for p in (tmp_path / "copy" / "blobs").rglob("*") if p.is_file())
    shutil.copy(path, target)
    with contextlib.suppress(OpsError):
        use(tmp_path / "copy")
