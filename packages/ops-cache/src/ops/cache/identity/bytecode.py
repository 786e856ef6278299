"""What compiled code does, without how it was written down.

The code that runs is the code object in memory, whatever its file holds by now; so it is the code
object that is digested. Line numbers, comments and the hints of its own parameters are not in it.
Docstrings, constants in unused order, NOPs that only stand for lines, and the annotations of nested
functions are taken out here, so that editing them changes nothing.

The result depends on the minor version of Python, whose compilers differ. The source would not, but
it need not be what runs, is not always there, and takes 50 times as long to parse and compare.
"""

from __future__ import annotations

import dis
import hashlib
import marshal
from inspect import CO_OPTIMIZED
from itertools import accumulate
from types import CodeType
from typing import Any

__all__ = ["changed_by", "code_digest", "imports_of", "names_of"]


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(dis.opmap[name] for name in names if name in dis.opmap)


_CONSTANT = _numbers("LOAD_CONST", "RETURN_CONST", "KW_NAMES")
_IMPORT = dis.opmap["IMPORT_NAME"]
_MAKE = dis.opmap["MAKE_FUNCTION"]
_NOP = dis.opmap["NOP"]
_CACHE = dis.opmap["CACHE"]
_SKIPPED = _numbers("CACHE", "NOP", "EXTENDED_ARG")
_JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))
_BACKWARD = frozenset(op for op in _JUMPS if "BACKWARD" in dis.opname[op])
# A function with annotations is made with flag 4: of MAKE_FUNCTION, since 3.13 of its successor.
_ANNOTATING = frozenset((op, 4) for op in _numbers("MAKE_FUNCTION", "SET_FUNCTION_ATTRIBUTE"))
_STORES = _numbers("STORE_SUBSCR", "DELETE_SUBSCR")
_VARIABLES = _numbers("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
_ATTRIBUTES = _numbers("LOAD_ATTR", "LOAD_METHOD")
#: Methods by which lists, dicts, sets and deques change in place.
_CHANGING = frozenset(
    [
        "add",
        "append",
        "appendleft",
        "clear",
        "difference_update",
        "discard",
        "extend",
        "extendleft",
        "insert",
        "intersection_update",
        "pop",
        "popitem",
        "popleft",
        "remove",
        "reverse",
        "rotate",
        "setdefault",
        "sort",
        "symmetric_difference_update",
        "update",
    ]
)
#: Flags that say how code behaves: *args, **kwargs, generator, coroutine, async generator.
_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200


def code_digest(code: CodeType) -> str:
    """Return 32 hex digits that change when what *code* does changes."""
    return hashlib.blake2b(marshal.dumps(_described(code), 0), digest_size=16).hexdigest()


def names_of(code: CodeType) -> set[str]:
    """Return the names of globals and attributes that *code*, and code nested in it, uses."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= names_of(constant)
    return names


def imports_of(code: CodeType) -> set[tuple[str, int]]:
    """Return the modules that *code* imports when it runs, as (name, level of a relative import)."""
    found: set[tuple[str, int]] = set()
    if _IMPORT in code.co_code[::2]:
        instructions = [i for i in dis.get_instructions(code) if i.opcode not in _SKIPPED]
        for before, now in zip(instructions, instructions[2:], strict=False):
            if now.opcode == _IMPORT and isinstance(before.argval, int):
                found.add((str(now.argval), before.argval))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= imports_of(constant)
    return found


def changed_by(code: CodeType) -> set[str]:
    """Return the names of variables whose values *code* changes in place, as far as it shows.

    `calls.append(x)`, `count["n"] += 1` and the like: such a value is more an output than an input.
    """
    found: set[str] = set()
    if not _CHANGING.isdisjoint(code.co_names) or not _STORES.isdisjoint(code.co_code[::2]):
        instructions = [i for i in dis.get_instructions(code) if i.opcode not in _SKIPPED]
        for now, after, last in zip(instructions, instructions[1:], instructions[2:], strict=False):
            if now.opcode not in _VARIABLES:
                continue
            called = after.opcode in _ATTRIBUTES and after.argval in _CHANGING
            if called or last.opcode in _STORES or last.opname == "COPY":
                found.add(str(now.argval))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= changed_by(constant)
    return found


def _described(code: CodeType) -> tuple[Any, ...]:
    count = code.co_argcount + code.co_kwonlyargcount
    return (
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        code.co_flags & _FLAGS,
        code.co_varnames[: count + bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)],
        _annotated_body(code) if _defines(code) else _body(code),
    )


def _defines(code: CodeType) -> bool:
    """Say whether *code* makes functions that may have annotations: no lambdas or comprehensions."""
    return any(
        isinstance(constant, CodeType)
        and constant.co_flags & CO_OPTIMIZED
        and not constant.co_name.startswith("<")
        for constant in code.co_consts
    )


def _body(code: CodeType) -> tuple[Any, ...]:
    """Return the instructions of *code* as bytes, its constants numbered in the order of use."""
    body = bytearray(code.co_code)
    order: dict[int, int] = {}
    constants = code.co_consts
    if len(constants) < 256:
        for i, operation in enumerate(body[::2]):
            if operation in _CONSTANT:
                body[2 * i + 1] = order.setdefault(body[2 * i + 1], len(order))
        constants = tuple([constants[number] for number in order])
    table: Any = code.co_exceptiontable
    if _NOP in body[::2]:
        table = _drop_nops(code, body)
    names = (code.co_names, code.co_freevars, code.co_cellvars)
    return (bytes(body), names, tuple([_constant(value) for value in constants]), table)


def _drop_nops(code: CodeType, body: bytearray) -> tuple[Any, ...]:
    """Remove the NOPs of *body*; return the exception table, its offsets counted without them."""
    operations = bytes(body[::2])
    before = [0, *accumulate(operation == _NOP for operation in operations)]  # NOPs before a unit
    for i, operation in enumerate(operations):
        if operation not in _JUMPS:
            continue
        after = i + 1
        while after < len(operations) and operations[after] == _CACHE:
            after += 1
        distance = body[2 * i + 1]
        back = operation in _BACKWARD
        target = max(after - distance, 0) if back else min(after + distance, len(operations))
        body[2 * i + 1] = (distance - abs(before[target] - before[after])) & 255
    kept = [i for i, operation in enumerate(operations) if operation != _NOP]
    body[:] = bytes(byte for i in kept for byte in body[2 * i : 2 * i + 2])
    return tuple(
        tuple(
            offset // 2 - before[offset // 2] for offset in (entry.start, entry.end, entry.target)
        )
        for entry in dis._parse_exception_table(code)  # type: ignore[attr-defined] # noqa: SLF001
    )


def _annotated_body(code: CodeType) -> tuple[Any, ...]:
    """Return the instructions of *code* without those that make annotations of what it defines."""
    instructions = [i for i in dis.get_instructions(code) if i.opcode not in _SKIPPED]
    dropped = _annotations(instructions)
    kept = [i for n, i in enumerate(instructions) if n not in dropped]
    position = {i.offset: n for n, i in enumerate(kept)}
    starts = sorted(position)
    body: list[tuple[Any, ...]] = []
    for i in kept:
        argument: Any = i.arg
        if i.opcode in _CONSTANT:
            argument = _constant(code.co_consts[i.arg or 0])
        elif i.opcode in _JUMPS:
            argument = position[next((s for s in starts if s >= i.argval), starts[-1])]
        elif (i.opcode, (i.arg or 0) & 4) in _ANNOTATING:
            argument = (i.arg or 0) & ~4
        elif isinstance(i.argval, str):
            argument = (i.argval, i.argrepr)
        body.append((i.opcode, argument))
    return tuple(body)


def _annotations(instructions: list[dis.Instruction]) -> set[int]:
    """Return the positions of instructions that only make annotations of nested functions."""
    dropped: set[int] = set()
    for at, instruction in enumerate(instructions):
        if (instruction.opcode, (instruction.arg or 0) & 4) not in _ANNOTATING:
            continue
        made = at
        while instructions[made].opcode != _MAKE:
            made -= 1
        # Before the code of the function stands the tuple of its closure, if any, then this one.
        attributes = [i.arg or 0 for i in instructions[made : at + 1]]
        last = made - 2
        if any(flags & 8 for flags in attributes):
            last = _start(instructions, last) - 1
        dropped |= {*range(_start(instructions, last), last + 1)}
        if made != at:
            dropped.add(at)
    return dropped


def _start(instructions: list[dis.Instruction], last: int) -> int:
    """Return where the straight-line code begins whose one value the instruction *last* leaves."""
    wanted = 1
    for n in range(last, -1, -1):
        if instructions[n].opcode in _JUMPS:
            break
        wanted -= dis.stack_effect(instructions[n].opcode, instructions[n].arg)
        if wanted <= 0:
            return n
    return last + 1  # a conditional expression: it stays


def _constant(value: Any) -> Any:
    """Return a constant in a form of which `marshal` makes the same bytes in each process."""
    if isinstance(value, CodeType):
        return _described(value)
    if isinstance(value, tuple):
        return ("tuple", tuple([_constant(item) for item in value]))
    if isinstance(value, frozenset):
        return ("frozenset", tuple(sorted(repr(_constant(item)) for item in value)))
    return value
