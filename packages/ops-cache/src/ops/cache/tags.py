"""Tags on a Redis server: for each a set of the keys that were stored with it.

The tag in an entry counts, and a set only leads to it, so a name too many costs space and nothing
else. That space is bounded: a set expires with the last of its entries, names leave it when their
entries are deleted or stored under another tag, and each entry that comes looks at some names and removes those
whose entries have expired or were evicted.

An entry begins with its flags (1 byte), the length of its tag (2 bytes, little-endian) and the tag.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis
    from redis.commands.core import Script

__all__ = ["Tags", "tag_of"]

_FRONT = struct.Struct("<BH")

_TAG_OF = """
local function tag_of(key)
  local size = redis.call('GETRANGE', key, 1, 2)
  if #size < 2 then return '' end
  local n = struct.unpack('<H', size)
  if n == 0 then return '' end
  return redis.call('GETRANGE', key, 3, 2 + n)
end
local function keep(set, left)
  local known = redis.call('PTTL', set)
  if left < 0 then redis.call('PERSIST', set)
  elseif known == -2 or (known >= 0 and known < left) then redis.call('PEXPIRE', set, left) end
end
"""
# KEYS: the entry; ARGV: its bytes, its milliseconds or '', its tag, what stands before a tag's name.
_SET = (
    _TAG_OF
    + """
local before, tag, root = tag_of(KEYS[1]), ARGV[3], ARGV[4]
if ARGV[2] == '' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
if before ~= '' and before ~= tag then redis.call('SREM', root .. before, KEYS[1]) end
if tag == '' then return 1 end
local set = root .. tag
for _, key in ipairs(redis.call('SRANDMEMBER', set, 8)) do
  if tag_of(key) ~= tag then redis.call('SREM', set, key) end
end
local left = -1
if ARGV[2] ~= '' then left = tonumber(ARGV[2]) end
local is_new = redis.call('EXISTS', set) == 0
redis.call('SADD', set, KEYS[1])
if is_new then
  if left >= 0 then redis.call('PEXPIRE', set, left) end
else keep(set, left) end
return 1
"""
)
# ARGV: milliseconds or '', what stands before a tag's name.
_TOUCH = (
    _TAG_OF
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local tag, left = tag_of(KEYS[1]), -1
if ARGV[1] == '' then redis.call('PERSIST', KEYS[1])
else
  left = tonumber(ARGV[1])
  redis.call('PEXPIRE', KEYS[1], left)
end
if tag ~= '' then keep(ARGV[2] .. tag, left) end
return 1
"""
)
_DELETE = (
    _TAG_OF
    + """
local count = 0
for _, key in ipairs(KEYS) do
  local tag = tag_of(key)
  if tag ~= '' then redis.call('SREM', ARGV[1] .. tag, key) end
  count = count + redis.call('UNLINK', key)
end
return count
"""
)
# An entry may have been stored again with another tag: the one in it counts.
_DELETE_TAG = (
    _TAG_OF
    + """
local count = 0
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if tag_of(key) == ARGV[1] then count = count + redis.call('UNLINK', key) end
end
redis.call('DEL', KEYS[1])
return count
"""
)


class Tags:
    """Stores, touches and deletes entries together with the sets of their tags.

    Args:
        client: the connection.
        root: what stands before the name of a tag.
    """

    def __init__(self, client: redis.Redis, root: bytes) -> None:
        self._root = root
        self._set: Script = client.register_script(_SET)
        self._touch: Script = client.register_script(_TOUCH)
        self._delete: Script = client.register_script(_DELETE)
        self._delete_tag: Script = client.register_script(_DELETE_TAG)

    def set(
        self,
        entry: bytes,
        data: bytes,
        milliseconds: int | None,
        tag: bytes,
        client: redis.Redis | None = None,
    ) -> None:
        """Store *data*, which begins with *tag*, at *entry*; with *client*, a pipeline, as a part of that."""
        self._set(keys=[entry], args=[data, _text(milliseconds), tag, self._root], client=client)

    def touch(self, entry: bytes, milliseconds: int | None) -> bool:
        """Let *entry* live for *milliseconds*, None for ever; False when there is none."""
        return bool(self._touch(keys=[entry], args=[_text(milliseconds), self._root]))

    def delete(self, entries: Sequence[bytes], client: redis.Redis | None = None) -> int:
        """Remove *entries*; return how many there were, or 0 when that is a part of a pipeline."""
        found: Any = self._delete(keys=list(entries), args=[self._root], client=client)
        return 0 if client is not None else int(found)

    def delete_tag(self, tag: bytes) -> int:
        """Remove the entries with *tag*; return how many there were."""
        found: Any = self._delete_tag(keys=[self._root + tag], args=[tag])
        return int(found)


def tag_of(data: bytes) -> str | None:
    """Return the tag of the entry whose bytes are given, None when it has none."""
    if len(data) < _FRONT.size:
        return None
    _, size = _FRONT.unpack_from(data)
    found = data[_FRONT.size : _FRONT.size + size]
    return found.decode("utf-8", "surrogatepass") if found else None


def _text(milliseconds: int | None) -> bytes:
    return b"" if milliseconds is None else b"%d" % milliseconds
