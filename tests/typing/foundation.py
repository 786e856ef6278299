"""How users call ops.foundation."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from ops.foundation import (
    FileLock,
    HashAlgorithm,
    OpsError,
    ThreadPoolManager,
    atomic_write,
    calculate_hash,
    format_bytes,
    lazy_property,
    parallel_map,
    singleton,
    timer,
)


@timer(name="work")
def work(x: int) -> str:
    return str(x)


@singleton
class Connection:
    def __init__(self, host: str = "localhost") -> None:
        self.host = host

    @lazy_property
    def address(self) -> str:
        return self.host


def use(path: Path) -> None:
    with atomic_write(path) as text, FileLock(path.with_suffix(".lock"), timeout=3):
        text.write(format_bytes(10))
    with atomic_write(path, "wb") as binary:
        binary.write(b"")
    assert_type(work(1), str)
    assert_type(parallel_map(work, [1, 2], max_workers=2), list[str])
    assert_type(calculate_hash("x", HashAlgorithm.SHA256), str)
    assert_type(Connection().address, str)
    with ThreadPoolManager(max_workers=2) as pool:
        assert_type(pool.submit(work, 3).result(), str)
    try:
        work(2)
    except OpsError as error:
        print(error.code, error.to_dict())
