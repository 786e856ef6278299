"""The eviction strategies by name, and where the class of each lives."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from typing import Any

__all__ = ["CacheStrategy", "class_of"]


class CacheStrategy(StrEnum):
    """Which entry a full cache gives up."""

    LRU = "lru"
    """The one that was used longest ago."""
    LFU = "lfu"
    """The one that was used least often; among equals, longest ago."""
    FIFO = "fifo"
    """The one that was set first."""
    TTL = "ttl"
    """The one that expires first."""
    S3FIFO = "s3fifo"
    """One that was not read again soon after it was set; resists scans, hits cost nothing."""


_CLASSES = {
    CacheStrategy.LRU: ("ops.cache.lru", "LRUCache"),
    CacheStrategy.LFU: ("ops.cache.lfu", "LFUCache"),
    CacheStrategy.FIFO: ("ops.cache.fifo", "FIFOCache"),
    CacheStrategy.TTL: ("ops.cache.fifo", "TTLCache"),
    CacheStrategy.S3FIFO: ("ops.cache.s3fifo", "S3FIFOCache"),
}


def class_of(strategy: CacheStrategy | str, *, count_hits: bool = False) -> Any:
    """Return the class of *strategy*; with *count_hits* the one that counts each hit."""
    module, name = _CLASSES[CacheStrategy(strategy)]
    if count_hits and name == "S3FIFOCache":
        name = "CountingS3FIFOCache"
    return getattr(import_module(module), name)
