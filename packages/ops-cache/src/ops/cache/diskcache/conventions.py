"""What methods of diskcache share: how they take a value, and in which form they return an entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Entry", "Side", "tag_name", "to_ttl", "value_of"]

Side = Literal["front", "back"]


class Entry(NamedTuple):
    """A value, the seconds since the epoch at which it expires (None: never), and its tag."""

    value: Any
    expires_at: float | None = None
    tag: str | None = None

    def as_result(self, *, expire_time: bool, tag: bool) -> Any:
        """Return the value, in a tuple with what else is wanted."""
        wanted = self._wanted(expire_time=expire_time, tag=tag)
        return (self.value, *wanted) if wanted else self.value

    def as_item(self, key: Hashable, *, expire_time: bool, tag: bool) -> Any:
        """Return *key* and the value, that pair in a tuple with what else is wanted."""
        wanted = self._wanted(expire_time=expire_time, tag=tag)
        return ((key, self.value), *wanted) if wanted else (key, self.value)

    def _wanted(self, *, expire_time: bool, tag: bool) -> list[Any]:
        return [self.expires_at] * expire_time + [self.tag] * tag


def value_of(given: Any, *, read: bool) -> Any:
    """Return what is stored of *given*: with *read* it is a file, whose content counts."""
    return given.read() if read else given


def to_ttl(expire: float | None) -> float | None:
    """Return the seconds that an entry lives: none are negative here."""
    return None if expire is None else max(expire, 0)


def tag_name(tag: Any) -> str | None:
    """Return the tag of a `DiskCache`, which is a text, for one of any kind."""
    if isinstance(tag, bytes):
        tag = tag.decode("utf-8", "backslashreplace")
    return None if tag is None or tag == "" else str(tag)
