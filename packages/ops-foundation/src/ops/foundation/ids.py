"""Identifiers and tokens: random from the operating system, or ordered by time.

Short identifiers use 32 letters without look-alikes (Crockford), so each letter is five random
bits and needs no rejection. Random bytes are drawn in blocks, since a system call for each id costs
more than the id. A forked child must not repeat its parent's ids, so the block is dropped on fork.
"""

from __future__ import annotations

import functools
import os
import secrets
import threading
import time

from ops.foundation.errors import ValidationError

__all__ = [
    "generate_api_key",
    "generate_id",
    "generate_short_id",
    "generate_token",
    "generate_uuid",
    "generate_uuid7",
]

_ALPHABET = b"0123456789abcdefghjkmnpqrstvwxyz"
# Every byte value maps to one of the 32 letters; 256 is a multiple of 32, so all are as likely.
_LETTERS = bytes(_ALPHABET[i & 31] for i in range(256))
# The letter that keeps two bits of a random one and has the variant of RFC 9562 in the others.
_VARIANT = {digit: "89ab"[i & 3] for i, digit in enumerate("0123456789abcdef")}
_TIME_LETTERS = 9  # 45 bits of milliseconds: ordered until the year 3084
_BLOCK = 4096


class _Pool:
    """Random bytes drawn in blocks; a slice is handed out once, under a lock."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.RLock()  # a signal handler may take some amid this
        self._block = b""
        self._used = _BLOCK

    def take(self, count: int) -> bytes:
        if count > _BLOCK:
            return os.urandom(count)
        with self._lock:
            block = self._block
            if self._used + count > _BLOCK:
                block = os.urandom(_BLOCK)
                self._block, self._used = block, 0
            # No call since the last one, so that CPython runs no signal handler in between.
            start = self._used
            self._used = end = start + count
        return block[start:end]


_pool = _Pool()


def generate_id(
    prefix: str = "", length: int = 8, *, suffix: str = "", sortable: bool = False
) -> str:
    """Return *prefix*, *length* random letters and digits, and *suffix*, without separators.

    A *sortable* id starts with the time in milliseconds (nine letters), so ids sort by the time
    they were made; *length* must then leave at least four random letters, else this raises
    `ValidationError`, as it does for a length below 1. Raises TypeError for a length that is no
    int, such as a suffix given by position.

    >>> generate_id("run-", 6)[:4], len(generate_id("run-", 6))
    ('run-', 10)
    """
    _refuse_other_order(prefix, length)
    if not sortable:
        if length < 1:
            raise ValidationError(f"length={length} leaves no letter; use 1 or more.")
        return f"{prefix}{_pool.take(length).translate(_LETTERS).decode('ascii')}{suffix}"
    if length < _TIME_LETTERS + 4:
        raise ValidationError(
            f"length={length} is too short for a sortable id; use {_TIME_LETTERS + 4} or more."
        )
    milliseconds = time.time_ns() // 1_000_000
    tail = _pool.take(length - _TIME_LETTERS).translate(_LETTERS).decode("ascii")
    return f"{prefix}{_time_letters(milliseconds)}{tail}{suffix}"


def _refuse_other_order(prefix: object, length: object) -> None:
    if not isinstance(prefix, str):
        raise TypeError(
            f"prefix={prefix!r} is no text; a number of letters is given as length={prefix!r}."
        )
    if not isinstance(length, int):
        raise TypeError(
            f"length={length!r} is no number of letters; a suffix is given as suffix={length!r}."
        )


@functools.lru_cache(maxsize=1)
def _time_letters(milliseconds: int) -> str:
    """Return the nine letters of a time; ids of one millisecond share them, so one is kept."""
    return "".join(chr(_ALPHABET[milliseconds >> shift & 31]) for shift in range(40, -1, -5))


def generate_uuid() -> str:
    """Return a random UUID (version 4) as text."""
    h = _pool.take(16).hex()
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"


class _Clock7:
    """The last time and counter used, so that UUIDs of one process never go back."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.RLock()  # a signal handler may take an id amid this
        self._last = 0

    def next(self) -> int:
        """Return 48 bits of milliseconds and 12 bits of fraction, larger than the last."""
        stamp = time.time_ns() * 4096 // 1_000_000
        with self._lock:
            # No call, so that CPython runs no signal handler in between.
            if stamp <= self._last:
                stamp = self._last + 1
            self._last = stamp
        return stamp


_clock = _Clock7()


def generate_uuid7() -> str:
    """Return a UUID of version 7 (RFC 9562, method 3): ordered by time, increasing in a process."""
    h = f"{_clock.next():015x}"
    r = _pool.take(8).hex()
    return f"{h[:8]}-{h[8:12]}-7{h[12:]}-{_VARIANT[r[0]]}{r[1:4]}-{r[4:]}"


def generate_short_id(length: int = 8) -> str:
    """Return *length* random letters and digits."""
    return generate_id("", length)


def generate_token(nbytes: int = 32) -> str:
    """Return a secret of *nbytes* random bytes as URL-safe text; raises `ValidationError` below 1 byte."""
    if nbytes < 1:
        raise ValidationError(f"nbytes={nbytes} makes no secret; use 16 or more.")
    return secrets.token_urlsafe(nbytes)


def generate_api_key(prefix: str = "ops_", nbytes: int = 32) -> str:
    """Return *prefix* and a secret; a fixed prefix lets scanners find a leaked key."""
    return f"{prefix}{generate_token(nbytes)}"


def _after_fork() -> None:
    _pool.reset()
    _clock.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
