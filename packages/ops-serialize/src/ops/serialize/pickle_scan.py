"""What a pickle would import, found by following its stack as the unpickler does, without running it.

Reading opcodes one by one is not enough: a name may come from the memo, be computed, or be pushed and
popped to mislead. So the stack is kept, with texts, numbers and containers as they are and everything that
would have been imported or called as a symbol. A stream that breaks off is scanned up to there, since the
unpickler would run that part, too. Behind a STOP the next stream is looked for (torch's old files hold
several), and the raw arrays in the middle of joblib's streams are skipped by the size that they would have.
"""

from __future__ import annotations

import _compat_pickle
import io
import math
import pickletools
import re
from typing import Any

from ops.serialize.errors import CorruptDataError

__all__ = ["names_in"]

_UNKNOWN = "?"
_MOST_OPCODES = 20_000_000
_MOST_STACK = 5_000_000


class _Symbol:
    """Something that only running the stream would make: an import, or what a call returned."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: Any = None) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None


_MARK = _Symbol("mark")


def names_in(data: bytes) -> list[str]:
    """Return the dotted names that running the pickles in *data* would import, in order.

    Raises `CorruptDataError` when *data* is no pickle at all.
    """
    machine = _Machine(data)
    machine.run()
    return list(dict.fromkeys(machine.names))


class _Machine:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._file = io.BytesIO(data)
        self.names: list[str] = []
        self._opcodes = 0

    def run(self) -> None:
        if not self._data:
            raise CorruptDataError("The file is empty.")
        finished = 0
        while self._file.tell() < len(self._data):
            start = self._file.tell()
            try:
                self._run_one()
            except Exception as error:
                if not finished and not self.names:
                    raise CorruptDataError(f"The data is no pickle: {error}"[:500]) from error
                return
            finished += 1
            if self._file.tell() == start:
                return
            self._skip_filler()

    def _skip_filler(self) -> None:
        """Go to the next byte that could start another pickle."""
        at = self._file.tell()
        rest = self._data[at : at + 64].lstrip(b"\0\n")
        self._file.seek(at + len(self._data[at : at + 64]) - len(rest))

    def _run_one(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._protocol = 0
        while True:
            # One opcode at a time, since what follows may not be one.
            at = self._file.tell()
            code = self._file.read(1)
            opcode = pickletools.code2op.get(code.decode("latin-1"))  # type: ignore[attr-defined]
            if opcode is None:
                raise ValueError(f"byte {code!r} at {at} is no opcode")
            argument = None if opcode.arg is None else opcode.arg.reader(self._file)
            self._opcodes += 1
            if self._opcodes > _MOST_OPCODES or len(self._stack) > _MOST_STACK:
                raise ValueError("the stream is too long to be followed")
            if opcode.name == "STOP":
                return
            self._step(opcode.name, argument)

    # Opcodes

    def _step(self, name: str, argument: Any) -> None:
        handler = getattr(self, f"_op_{name.lower()}", None)
        stack = self._stack
        if handler is not None:
            handler(argument)
        elif name in _PUSHES_ARGUMENT:
            stack.append(argument)
        elif name in _PUSHES_CONSTANT:
            stack.append(_PUSHES_CONSTANT[name]())
        elif name in _FROM_MARK:
            stack.append(_FROM_MARK[name](self._pop_mark()))
        elif name in _PUTS:
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = self._top()
        elif name in _GETS:
            stack.append(self._memo.get(argument, _Symbol(_UNKNOWN)))
        elif name not in {"FRAME", "READONLY_BUFFER"}:
            raise ValueError(f"the opcode {name} is unknown")

    def _pop(self) -> Any:
        return self._stack.pop() if self._stack else _Symbol(_UNKNOWN)

    def _top(self) -> Any:
        return self._stack[-1] if self._stack else _Symbol(_UNKNOWN)

    def _pop_mark(self) -> list[Any]:
        found = []
        while self._stack and self._stack[-1] is not _MARK:
            found.append(self._stack.pop())
        if self._stack:
            self._stack.pop()
        return found[::-1]

    def _import(self, module: Any, name: Any) -> _Symbol:
        if isinstance(module, str) and isinstance(name, str):
            if self._protocol < 3:
                module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
                module = _compat_pickle.IMPORT_MAPPING.get(module, module)
            full = f"{module}.{name}"
        else:
            full = f"{_text(module)}.{_text(name)}"
        self.names.append(full)
        return _Symbol(full)

    def _op_proto(self, argument: Any) -> None:
        self._protocol = argument

    def _op_mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _op_pop(self, _: Any) -> None:
        self._pop()

    def _op_pop_mark(self, _: Any) -> None:
        self._pop_mark()

    def _op_dup(self, _: Any) -> None:
        self._stack.append(self._top())

    def _op_global(self, argument: str) -> None:
        self._stack.append(self._import(*argument.split(" ", 1)))

    def _op_stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        self._stack.append(self._import(module, name))

    def _op_inst(self, argument: str) -> None:
        arguments = self._pop_mark()
        self._stack.append(self._called(self._import(*argument.split(" ", 1)), tuple(arguments)))

    def _op_obj(self, _: Any) -> None:
        parts = self._pop_mark()
        self._stack.append(self._called(parts[0] if parts else _UNKNOWN, tuple(parts[1:])))

    def _op_reduce(self, _: Any) -> None:
        arguments = self._pop()
        self._stack.append(self._called(self._pop(), arguments))

    _op_newobj = _op_reduce

    def _op_newobj_ex(self, _: Any) -> None:
        self._pop()
        self._op_reduce(None)

    def _called(self, target: Any, arguments: Any) -> _Symbol:
        name = target.name if isinstance(target, _Symbol) else _UNKNOWN
        if name in _BY_NAME and isinstance(arguments, tuple):
            self._import_by_name(name, arguments)
        return _Symbol(f"{name}()", arguments)

    def _import_by_name(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Note what functions that import, or look attributes up, would be called with."""
        if name.endswith("getattr") and len(arguments) > 1 and isinstance(arguments[1], str):
            owner = arguments[0]
            base = owner.name if isinstance(owner, _Symbol) else type(owner).__name__
            self.names.append(f"{base}.{arguments[1]}")
        elif arguments and isinstance(arguments[0], str):
            self.names.append(arguments[0])

    def _op_build(self, _: Any) -> None:
        state = self._pop()
        target = self._top()
        if isinstance(target, _Symbol):
            target.state = state
            if target.name.startswith("joblib.numpy_pickle") and "Wrapper" in target.name:
                self._skip_array(state)

    def _op_append(self, _: Any) -> None:
        item = self._pop()
        if isinstance(self._top(), list):
            self._top().append(item)

    def _op_appends(self, _: Any) -> None:
        items = self._pop_mark()
        if isinstance(self._top(), list):
            self._top().extend(items)

    def _op_additems(self, _: Any) -> None:
        self._pop_mark()

    def _op_setitem(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set(key, value)

    def _op_setitems(self, _: Any) -> None:
        parts = self._pop_mark()
        for key, value in zip(parts[::2], parts[1::2], strict=False):
            self._set(key, value)

    def _set(self, key: Any, value: Any) -> None:
        target = self._top()
        if isinstance(target, dict) and isinstance(key, (str, int, bytes)):
            target[key] = value

    def _op_persid(self, argument: Any) -> None:
        self._stack.append(_Symbol("persistent", argument))

    def _op_binpersid(self, _: Any) -> None:
        self._stack.append(_Symbol("persistent", self._pop()))

    def _op_next_buffer(self, _: Any) -> None:
        self._stack.append(_Symbol("buffer"))

    def _op_tuple1(self, _: Any) -> None:
        self._stack.append((self._pop(),))

    def _op_tuple2(self, _: Any) -> None:
        second, first = self._pop(), self._pop()
        self._stack.append((first, second))

    def _op_tuple3(self, _: Any) -> None:
        third, second, first = self._pop(), self._pop(), self._pop()
        self._stack.append((first, second, third))

    def _extension(self, argument: Any) -> None:
        self._stack.append(self._import("copyreg", f"extension_{argument}"))

    _op_ext1 = _op_ext2 = _op_ext4 = _extension

    # joblib

    def _skip_array(self, state: Any) -> None:
        """Skip the raw array that follows a wrapper, or follow the pickle of an array of objects."""
        if not isinstance(state, dict):
            raise ValueError("an array has no description")  # noqa: TRY004 - of the data
        dtype, shape = state.get("dtype"), state.get("shape")
        text = _dtype_text(dtype)
        if text is None:
            raise ValueError("the dtype of an array is not known")
        if "O" in text:
            kept = self._stack, self._memo, self._protocol
            self._run_one()
            self._stack, self._memo, self._protocol = kept
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            padding = self._file.read(1)
            self._file.seek(padding[0] if padding else 0, io.SEEK_CUR)
        count = math.prod(shape) if isinstance(shape, tuple) else 0
        size = count * _item_size(text)
        if not 0 <= size <= len(self._data) - self._file.tell():
            raise ValueError("an array is cut off")
        self._file.seek(size, io.SEEK_CUR)


def _dtype_text(dtype: Any) -> str | None:
    if isinstance(dtype, _Symbol) and isinstance(dtype.arguments, tuple) and dtype.arguments:
        first = dtype.arguments[0]
        return first if isinstance(first, str) else None
    return None


_ITEM = re.compile(r"[<>|=]?([a-zA-Z?])(\d*)")


def _item_size(text: str) -> int:
    found = _ITEM.fullmatch(text)
    if found is None:
        raise ValueError(f"the dtype {text!r} of an array is not known")
    size = int(found[2]) if found[2] else 1
    return 4 * size if found[1] == "U" else size


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _UNKNOWN


_BY_NAME = frozenset(
    {
        "builtins.getattr", "builtins.__import__", "importlib.import_module",
        "importlib.__import__", "operator.attrgetter", "pydoc.locate", "pkgutil.resolve_name",
        "builtins.object.__getattribute__",
    }
)  # fmt: skip
_PUSHES_ARGUMENT = frozenset(
    {
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING",
        "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE",
        "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "FLOAT", "BINFLOAT",
    }
)  # fmt: skip
_PUSHES_CONSTANT: dict[str, Any] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
_FROM_MARK: dict[str, Any] = {
    "LIST": list,
    "TUPLE": tuple,
    "DICT": lambda items: {
        key: value
        for key, value in zip(items[::2], items[1::2], strict=False)
        if isinstance(key, (str, int, bytes))
    },
    "FROZENSET": list,
}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
