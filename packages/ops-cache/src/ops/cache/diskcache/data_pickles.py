"""Pickles that are made of nothing but plain data, read by an interpreter of their opcodes.

Python's own unpickler would look names up, make its memo as long as any number in the stream, and hash keys
without end. Here an opcode that looks a name up or calls something is unknown, the memo is a dict, and what is
made and hashed is counted before it happens.
"""

from __future__ import annotations

import collections
import pickletools
from typing import TYPE_CHECKING, Any

from ops.serialize.errors import CorruptDataError
from ops.serialize.keys import STEADY, words_of
from ops.serialize.limits import Budget
from ops.serialize.nodes.parts import weight_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OtherOpcodeError", "read_data_pickle"]

_LEAST, _TIMES = (
    32 << 20,
    16,
)  # bytes that the content of a pickle may take, beside so many times its own
_OF_ITEM, _OF_CONTAINER = 40, 80
_MOST_COLLISIONS = 64
_LEAVES = frozenset(
    (
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE",
        "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
        "BYTEARRAY8",
    )
)  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class OtherOpcodeError(ValueError):
    """The pickle has an opcode that makes more than plain data."""


def read_data_pickle(data: bytes) -> Any:
    """Return what the pickle *data* holds.

    Raises `OtherOpcodeError`, and `SerializeError`, `ValueError` or whatever else a damaged one leads to.
    """
    return _Interpreter(len(data)).run(data)


class _Interpreter:
    def __init__(self, size: int) -> None:
        self._budget = Budget(size, _LEAST + _TIMES * size)
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._words = 1  # what hashing the longest number takes
        self._hashes: dict[int, tuple[Any, collections.Counter[int]]] = {}  # of keys, by container

    def run(self, data: bytes) -> Any:
        """Run the opcodes up to STOP."""
        stack = self._stack
        actions = self._actions()
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name in _LEAVES:
                self._budget.take(_OF_ITEM)
                if type(argument) is int:
                    self._words = max(self._words, words_of(argument.bit_length() // 8))
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name == "STOP":
                (found,) = stack
                return found
            elif name in _TUPLES:
                count = _TUPLES[name]
                self._tuple(self._popped(len(stack) - count))
            elif name in actions:
                actions[name](argument)
            else:
                raise OtherOpcodeError(name)
        raise CorruptDataError("The pickle has no end.")

    def _actions(self) -> dict[str, Callable[[Any], object]]:
        stack = self._stack

        def put(number: int) -> None:
            self._memo[number] = stack[-1]

        def get(number: int) -> None:
            stack.append(self._memo[number])

        return {
            "PROTO": lambda _: None,
            "FRAME": lambda _: None,
            "MARK": lambda _: self._marks.append(len(stack)),
            "POP": lambda _: self._pop(),
            "POP_MARK": lambda _: self._marked(),
            "MEMOIZE": lambda _: put(len(self._memo)),
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), put),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), get),
            "EMPTY_LIST": lambda _: self._new([]),
            "EMPTY_DICT": lambda _: self._new({}),
            "EMPTY_SET": lambda _: self._new(set()),
            "LIST": lambda _: self._new(self._marked()),
            "TUPLE": lambda _: self._tuple(self._marked()),
            "DICT": lambda _: self._set_items(self._marked(), {}),
            "FROZENSET": lambda _: self._frozenset(self._marked()),
            "APPEND": lambda _: self._extend([stack.pop()]),
            "APPENDS": lambda _: self._extend(self._marked()),
            "SETITEM": lambda _: self._set_items(self._popped(len(stack) - 2)),
            "SETITEMS": lambda _: self._set_items(self._marked()),
            "ADDITEMS": lambda _: self._add_items(self._marked()),
        }

    def _pop(self) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _marked(self) -> list[Any]:
        return self._popped(self._marks.pop())

    def _popped(self, start: int) -> list[Any]:
        if start < 0:
            raise CorruptDataError("The pickle takes more than there is.")
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _new(self, value: Any) -> None:
        self._budget.take(_OF_CONTAINER + 8 * len(value))
        self._stack.append(value)

    def _tuple(self, items: list[Any]) -> None:
        self._new(tuple(items))

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise CorruptDataError("The pickle appends to what is no list.")
        self._budget.take(8 * len(items))
        target.extend(items)

    def _set_items(self, items: list[Any], made: dict[Any, Any] | None = None) -> None:
        if made is not None:
            self._new(made)
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise CorruptDataError("The pickle sets items of what is no dict.")
        self._budget.take(_OF_ITEM * len(items))
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._count_key(target, key)
            target[key] = value

    def _add_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not set:
            raise CorruptDataError("The pickle adds items to what is no set.")
        self._budget.take(_OF_ITEM * len(items))
        for item in items:
            self._count_key(target, item)
            target.add(item)

    def _frozenset(self, items: list[Any]) -> None:
        self._budget.take(_OF_ITEM * len(items))
        for item in items:
            self._count_key(items, item)
        self._new(frozenset(items))

    def _count_key(self, container: Any, key: Any) -> None:
        """Count what hashing *key*, and comparing it with those of the same hash, takes."""
        if type(key) in STEADY:
            return
        weight = weight_of(key)
        self._budget.take_time(self._words * weight)
        known = self._hashes.setdefault(id(container), (container, collections.Counter()))
        count = known[1][hash(key)]
        if count > _MOST_COLLISIONS:
            raise CorruptDataError(f"More than {_MOST_COLLISIONS} keys have the same hash.")
        self._budget.take_time(self._words * weight * count)
        known[1][hash(key)] = count + 1
