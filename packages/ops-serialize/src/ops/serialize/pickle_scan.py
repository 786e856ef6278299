"""What a pickle would import, found by following its stack as the unpickler does, without running it.

Reading opcodes one by one is not enough: a name may come from the memo, be computed, or be pushed and
popped to mislead. So the stack is kept, with texts, numbers and containers as they are and everything that
would have been imported or called as a symbol. A stream that breaks off is scanned up to there, since the
unpickler would run that part, too. Behind a STOP the next stream is looked for (torch's old files hold
several), and the raw arrays in the middle of joblib's streams are skipped by the size that they would have.
What cannot be followed to its end is a finding of its own, never silence: code may hide behind it.
"""

from __future__ import annotations

import _compat_pickle
import codecs
import io
import pickletools
import re
from typing import Any

from ops.serialize.errors import CorruptDataError
from ops.serialize.pickled_dtypes import (
    DTYPE,
    UNKNOWN,
    Symbol,
    bounded_size,
    dtype_text,
    has_objects,
    is_plain_dtype,
    item_size,
)

__all__ = ["NOT_FOLLOWED", "findings_in", "may_be_stream", "names_in"]

NOT_FOLLOWED = "could not be followed"
_MOST_OPCODES = 20_000_000
_MOST_STACK = 5_000_000
_MOST_DOUBTS = 20
_FILLER = re.compile(rb"[\0\n]*")
_JOBLIB = "joblib.numpy_pickle"


class _BadValueError(Exception):
    """The argument of an opcode means nothing; what follows can still be read."""


_MARK = Symbol("mark")


def names_in(data: bytes) -> list[str]:
    """Return the dotted names that running the pickles in *data* would import, in order.

    Raises `CorruptDataError` when *data* is no pickle at all.
    """
    machine = _Machine(data)
    machine.run()
    return list(dict.fromkeys(machine.names))


def findings_in(data: bytes) -> list[str]:
    """Return `names_in` of *data*, and why what is behind could not be followed, if so.

    Raises `CorruptDataError` when *data* is no pickle at all.
    """
    machine = _Machine(data)
    machine.run()
    found = dict.fromkeys(machine.names)
    if any(name.startswith(_JOBLIB) for name in found):
        # pickle.load, unlike joblib.load, takes the bytes of an array for opcodes.
        plain = _Machine(data, skips_arrays=False)
        plain.run()
        found |= dict.fromkeys(plain.names)
    return [*found, *(f"{NOT_FOLLOWED}: {reason}" for reason in dict.fromkeys(machine.doubts))]


def may_be_stream(head: bytes) -> bool:
    """Say whether *head*, the start of something longer, starts a pickle that imports or goes on."""
    machine = _Machine(head)
    try:
        machine.run()
    except CorruptDataError:
        return machine.is_at_end()
    return bool(machine.names) or machine.is_at_end()


class _Machine:
    def __init__(self, data: bytes, *, skips_arrays: bool = True) -> None:
        self._data = data
        self._file = io.BytesIO(data)
        self._skips_arrays = skips_arrays
        self.names: list[str] = []
        self.doubts: list[str] = []
        self._opcodes = 0

    def is_at_end(self) -> bool:
        return self._file.tell() >= len(self._data)

    def _doubt(self, reason: str) -> None:
        if len(self.doubts) < _MOST_DOUBTS:
            self.doubts.append(reason)

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
                self._doubt(f"what starts at byte {start} ends in {str(error)[:200]!r}")
                return
            finished += 1
            if not self._skips_arrays and any(name.startswith(_JOBLIB) for name in self.names):
                return  # what is behind is the rest of joblib's own stream
            self._skip_filler()

    def _skip_filler(self) -> None:
        """Go to the next byte that could start another pickle."""
        self._file.seek(_FILLER.match(self._data, self._file.tell()).end())  # type: ignore[union-attr]

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
            argument = None if opcode.arg is None else self._argument(opcode)
            self._opcodes += 1
            if self._opcodes > _MOST_OPCODES or len(self._stack) > _MOST_STACK:
                raise ValueError("the stream is too long to be followed")
            if opcode.name == "STOP":
                return
            self._step(opcode.name, argument)

    def _argument(self, opcode: pickletools.OpcodeInfo) -> Any:
        """Read what stands behind an opcode, as leniently as the unpickler in C does."""
        name = opcode.name
        try:
            if name in {"GLOBAL", "INST"}:
                module, attribute = self._line(), self._line()
                return module.decode("utf-8", "replace"), attribute.decode("utf-8", "replace")
            if name in _NUMBERS:
                return _number(name, self._line())
            if name == "STRING":
                text = self._line().strip()
                return codecs.escape_decode(text[1:-1])[0].decode("latin-1")
            if name == "PERSID":
                return self._line().decode("latin-1")
            return opcode.arg.reader(self._file)  # type: ignore[union-attr]
        except _BadValueError as error:
            self._doubt(str(error))
        except UnicodeDecodeError:
            self._doubt(f"the text of {name} cannot be decoded")
        return Symbol(UNKNOWN)

    def _line(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise ValueError("a line is cut off")
        return line[:-1]

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
            if argument not in self._memo:
                self._doubt("the memo has no such item")
            stack.append(self._memo.get(argument, Symbol(UNKNOWN)))
        elif name not in {"FRAME", "READONLY_BUFFER"}:
            raise ValueError(f"the opcode {name} is unknown")

    def _pop(self) -> Any:
        return self._stack.pop() if self._stack else self._missing()

    def _top(self) -> Any:
        return self._stack[-1] if self._stack else self._missing()

    def _missing(self) -> Symbol:
        self._doubt("the stack is empty where an item is taken from it")
        return Symbol(UNKNOWN)

    def _pop_mark(self) -> list[Any]:
        found = []
        while self._stack and self._stack[-1] is not _MARK:
            found.append(self._stack.pop())
        if self._stack:
            self._stack.pop()
        else:
            self._doubt("there is no mark on the stack")
        return found[::-1]

    def _import(self, module: Any, name: Any) -> Symbol:
        if isinstance(module, str) and isinstance(name, str):
            if self._protocol < 3:
                module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
                module = _compat_pickle.IMPORT_MAPPING.get(module, module)
            full = f"{module}.{name}"
        else:
            full = f"{_text(module)}.{_text(name)}"
        self.names.append(full)
        return Symbol(full)

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

    def _op_global(self, argument: tuple[str, str]) -> None:
        self._stack.append(self._import(*argument))

    def _op_stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if not self._skips_arrays and not (_may_be_text(module) and _may_be_text(name)):
            raise ValueError("a name is no text")  # where the unpickler ends as well
        self._stack.append(self._import(module, name))

    def _op_inst(self, argument: tuple[str, str]) -> None:
        arguments = self._pop_mark()
        self._stack.append(self._called(self._import(*argument), tuple(arguments)))

    def _op_obj(self, _: Any) -> None:
        parts = self._pop_mark()
        self._stack.append(self._called(parts[0] if parts else UNKNOWN, tuple(parts[1:])))

    def _op_reduce(self, _: Any) -> None:
        arguments = self._pop()
        self._stack.append(self._called(self._pop(), arguments))

    _op_newobj = _op_reduce

    def _op_newobj_ex(self, _: Any) -> None:
        self._pop()
        self._op_reduce(None)

    def _called(self, target: Any, arguments: Any) -> Symbol:
        name = target.name if isinstance(target, Symbol) else UNKNOWN
        if name in _BY_NAME and isinstance(arguments, tuple):
            self._import_by_name(name, arguments)
        if isinstance(arguments, tuple) and any(
            isinstance(item, Symbol) and item.name.startswith(_JOBLIB) for item in arguments
        ):
            self._doubt(f"{name} makes an array of joblib")
        return Symbol(f"{name}()", arguments)

    def _import_by_name(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Note what functions that import, or look attributes up, would be called with."""
        if name.endswith("getattr") and len(arguments) > 1 and isinstance(arguments[1], str):
            owner = arguments[0]
            base = owner.name if isinstance(owner, Symbol) else type(owner).__name__
            self.names.append(f"{base}.{arguments[1]}")
        elif arguments and isinstance(arguments[0], str):
            self.names.append(arguments[0])

    def _op_build(self, _: Any) -> None:
        state = self._pop()
        target = self._top()
        if isinstance(target, Symbol):
            is_first = target.state is None
            target.state = state
            if target.name == DTYPE and not is_plain_dtype(target, state):
                self._doubt("the state of a numpy.dtype is not one that NumPy writes")
            if target.name.startswith(_JOBLIB) and self._skips_arrays:
                if not is_first:
                    raise ValueError("an array is described twice")
                self._skip_array(state)
                self._stack[-1] = Symbol("array")

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
        self._stack.append(Symbol("persistent", argument))

    def _op_binpersid(self, _: Any) -> None:
        self._stack.append(Symbol("persistent", self._pop()))

    def _op_next_buffer(self, _: Any) -> None:
        self._stack.append(Symbol("buffer"))

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
        if "shape" not in state:
            raise ValueError("an array has no shape")
        dtype = state.get("dtype")
        if not isinstance(dtype, Symbol) or dtype.name != DTYPE:
            raise ValueError("the dtype of an array is not known")
        if has_objects(dtype):
            kept = self._stack, self._memo, self._protocol
            self._run_one()
            self._stack, self._memo, self._protocol = kept
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            padding = self._file.read(1)
            self._file.seek(padding[0] if padding else 0, io.SEEK_CUR)
        rest = len(self._data) - self._file.tell()
        size = bounded_size(state["shape"], item_size(dtype_text(dtype)), rest)
        if size is None:
            raise ValueError("an array is cut off")
        self._file.seek(size, io.SEEK_CUR)


def _may_be_text(value: Any) -> bool:
    """Say whether *value* is a text, or something that only running the stream would make."""
    if not isinstance(value, Symbol):
        return isinstance(value, str)
    if value.name == DTYPE or value.name.startswith(_JOBLIB):
        return False
    return "." not in value.name or value.name.endswith("()")


def _number(name: str, line: bytes) -> Any:
    """Return the number in *line*: C takes other bases, blanks, and what stands before a NUL."""
    text = line.split(b"\0")[0].decode("latin-1").strip()
    if name == "INT" and text in {"00", "01"}:
        return text == "01"
    try:
        if name == "FLOAT":
            return float(text)
        if name in {"PUT", "GET"}:
            return int(text)
        if name == "INT" and _OCTAL.fullmatch(text):
            return int(text, 8)
        return int(text.removesuffix("L"), 0)
    except ValueError:
        raise _BadValueError(f"the number of {name} cannot be read") from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else UNKNOWN


_BY_NAME = frozenset(
    {
        "builtins.getattr", "builtins.__import__", "importlib.import_module",
        "importlib.__import__", "operator.attrgetter", "pydoc.locate", "pkgutil.resolve_name",
        "builtins.object.__getattribute__",
    }
)  # fmt: skip
_NUMBERS = frozenset({"INT", "LONG", "FLOAT", "PUT", "GET"})
_OCTAL = re.compile(r"[+-]?0[0-7]+")
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
