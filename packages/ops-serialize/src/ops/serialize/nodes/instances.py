"""Instances of the reader's own classes: enums, named tuples, dataclasses and plain Python classes.

A file holds the name of the class and its state as data. The class is the one that the *reader* registered
or passed under this name; nothing is imported because a file names it. Instances are made without calling
any code of the class: fields are written into the instance's own dictionary or slots, and only those that
the class declares. A field that was added since gets its default when that is a value, or one of Python's
own empty containers; a factory of the class is not called. Composite flags are looked up by value, which
the class keeps for ever, so their number is bounded.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

from ops.serialize.errors import CorruptDataError, SerializeError, UnsupportedTypeError
from ops.serialize.nodes.parts import expect, name_of, paired, pairs

if TYPE_CHECKING:
    from ops.serialize.nodes.parts import Reading

__all__ = ["build_instance", "encode_instance", "name_of", "shape_of"]

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
_EMPTY = (list, dict, set, frozenset, tuple, bytearray, bytes, str, int, float, bool)
_MOST_BITS = 256  # of a value of flags
_MOST_COMBINED = 1 << 14  # flags of one class that are kept because data had them
_OF_FLAGS = 1000  # bytes of one of them


def shape_of(cls: type) -> str:
    """Return "enum", "tuple" or "object": how instances of *cls* are held.

    Raises `SerializeError` for classes whose instances have state that only their own code knows.
    """
    if issubclass(cls, enum.Enum):
        return "enum"
    fields = getattr(cls, "_fields", None)
    if issubclass(cls, tuple) and isinstance(fields, tuple) and cls.__mro__[-2] is tuple:
        return "tuple"
    if _is_plain(cls):
        return "object"
    raise SerializeError(
        f"{cls.__qualname__} cannot be allowed: only dataclasses, enums, named tuples and plain classes "
        "without pickling methods of their own can be rebuilt as data.",
        suggestions=('Use trust="user" or trust=Signed(key), which sign what they pickle.',),
    )


def _is_plain(cls: Any) -> bool:
    return (
        cls.__new__ is object.__new__
        and cls.__reduce__ is object.__reduce__
        and cls.__reduce_ex__ is object.__reduce_ex__
        and not hasattr(cls, "__getnewargs_ex__")
        and not hasattr(cls, "__getnewargs__")
        and (hasattr(cls, "__dataclass_fields__") or not hasattr(cls, "__setstate__"))
        and all(base is object or base.__flags__ & _HEAP_TYPE for base in cls.__mro__)
    )


def encode_instance(obj: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the node of *obj*, whose class the writer allows."""
    cls: Any = type(obj)
    try:
        shape = shape_of(cls)
    except SerializeError as error:
        raise UnsupportedTypeError(str(error)) from error
    name = name_of(cls)
    if shape == "enum":
        member = obj.name
        if member is not None and cls.__members__.get(member) is obj:
            return "instance", (name, shape, member)
        return "instance", (name, "flags", obj.value)
    if shape == "tuple":
        if getattr(obj, "__dict__", None):
            raise UnsupportedTypeError(f"A {cls.__qualname__} has attributes beside its fields.")
        return "instance", (name, shape, tuple(obj))
    return "instance", (name, shape, paired(_state(obj, cls)))


def _state(obj: Any, cls: Any) -> dict[str, Any]:
    state = dict(getattr(obj, "__dict__", {}))
    for slot in _slots(cls):
        try:
            state[slot] = object.__getattribute__(obj, slot)
        except AttributeError:
            continue
    if hasattr(cls, "__dataclass_fields__"):
        names = {field.name for field in dataclasses.fields(cls)}
        if extra := sorted(set(state) - names):
            raise UnsupportedTypeError(
                f"A {cls.__qualname__} has {', '.join(extra)} beside its fields."
            )
    return state


def _slots(cls: type) -> list[str]:
    found: list[str] = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        found += [slots] if isinstance(slots, str) else slots
    return [name for name in found if name not in {"__dict__", "__weakref__"}]


def build_instance(reading: Reading, name: Any, shape: Any, content: Any) -> Any:
    """Return an instance of the reader's class called *name*."""
    cls: Any = reading.allowed.require(name)
    expected = shape_of(cls)
    if shape == "flags" and expected == "enum" and issubclass(cls, enum.Flag):
        return _flags(reading, cls, expect(content, int))
    if shape != expected:
        raise CorruptDataError(f"{cls.__qualname__} is held as {str(shape)[:20]!r}.")
    if shape == "enum":
        return cls.__members__[expect(content, str)]
    if shape == "tuple":
        if len(expect(content, tuple)) != len(cls._fields):
            raise CorruptDataError(f"{cls.__qualname__} has {len(cls._fields)} fields.")
        reading.budget.take(8 * len(content))
        return tuple.__new__(cls, content)
    state = pairs(content)
    reading.copy(content, 100 * len(state))
    return _build_object(cls, state)


def _build_object(cls: Any, state: list[tuple[Any, Any]]) -> Any:
    slots = set(_slots(cls))
    own: dict[str, Any] = {}
    made = object.__new__(cls)
    names = {expect(name, str) for name, _ in state}
    if hasattr(cls, "__dataclass_fields__"):
        declared = {field.name for field in dataclasses.fields(cls)}
        if names != declared and (names - declared or _needed(cls) - names):
            found = [name[:80] for name in sorted(names)[:50]]
            raise CorruptDataError(
                f"The fields of {cls.__qualname__} are {sorted(declared)}, and the data has {found}.",
                suggestions=(
                    (
                        "A field that older data lacks needs a default that is a value, or a factory "
                        "that is list, dict or set: no other is called for data."
                    ),
                ),
            )
        state += [  # those that were added since the file was written
            (field.name, _default(field))
            for field in dataclasses.fields(cls)
            if field.name not in names
        ]
    for name, value in state:
        if not name.isidentifier() or (name.startswith("__") and name.endswith("__")):
            raise CorruptDataError(f"An attribute of {cls.__qualname__} has no fitting name.")
        if name in slots:
            object.__setattr__(made, name, value)
        else:
            own[name] = value
    if own:
        vars(made).update(own)
    return made


def _needed(cls: Any) -> set[str]:
    """Return the names of the fields that have no default which is known without calling anything."""
    return {
        field.name
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING
        and not any(field.default_factory is kind for kind in _EMPTY)
    }


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    factory: Any = field.default_factory  # one of Python's own types
    return factory()


def _flags(reading: Reading, cls: Any, value: int) -> Any:
    """Return the flags of *cls* that *value* stands for.

    Python keeps each that was ever looked up in the class, so that two of one value are one object.
    """
    known: dict[int, Any] = cls._value2member_map_
    if (found := known.get(value)) is not None:
        return found
    if value.bit_length() > _MOST_BITS:
        raise CorruptDataError(f"A value of {cls.__qualname__} has more than {_MOST_BITS} bits.")
    reading.budget.take(_OF_FLAGS)
    reading.budget.take_time(_OF_FLAGS)
    is_full = len(known) - len(cls.__members__) >= _MOST_COMBINED
    if is_full and not issubclass(cls, int):
        raise CorruptDataError(
            f"More than {_MOST_COMBINED} values of {cls.__qualname__} were read in this process."
        )
    made = cls(value)
    if is_full:  # equal by its number, so it need not be the only one
        known.pop(value, None)
    return made
