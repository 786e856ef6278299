"""The bytes of a data tree: plain values and typed nodes, in tables; nothing in it can be executed.

A pickle is a program for a stack machine. A tree is five tables that are read in bulk:

    leaves    integers, floats, texts, bytes, and the buffers of the container around it
    lists     how many items each list has; they are made empty first and filled last
    dicts     the same for dicts
    nodes     tuples, sets and typed nodes, each after all the nodes that it refers to
    refs      for every container the numbers of what it holds

Everything has a number: constants, then leaves, lists, dicts and nodes, in this order. A list or dict may
hold anything, itself included, and an object that is referred to twice comes back as one. A node refers
only to what has a lower number, so a reader never waits for one and never recurses. Only the reader's own
functions (`ops.serialize.nodes`) decide what a typed node becomes. docs/serialize.md has the bytes.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any, Final

__all__ = ["CONSTANTS", "HEAD", "MAGIC", "MAX_DEPTH", "Kind", "Mode", "Section", "is_tree"]

MAGIC: Final = b"opsT"
TREE_VERSION: Final = 1
# magic, version, flags, 2 zero bytes, the counts of `Section`, bytes of texts, bytes of all bytes
HEAD: Final = struct.Struct("<4sBB2x13IQQ")
SPLIT_BY_NUL: Final = 1  # flag: texts are joined by NUL, and have no lengths
MAX_DEPTH: Final = 100  # nodes within nodes; lists and dicts may nest without end
CONSTANTS: Final[tuple[Any, ...]] = (None, False, True, Ellipsis, NotImplemented, 0.0, -0.0)


class Section(IntEnum):
    """The counts in the head of a tree, in order."""

    INTEGERS = 0
    FLOATS = 1
    INTEGER_RUNS = 2
    FLOAT_RUNS = 3
    LARGE_INTEGERS = 4
    TEXTS = 5
    BYTES = 6
    BUFFERS = 7
    LISTS = 8
    DICTS = 9
    NODES = 10
    REFS = 11
    ROOT = 12


class Kind(IntEnum):
    """What a node is; of `TYPED` the first reference is the name of the type."""

    TUPLE = 0
    SET = 1
    FROZENSET = 2
    TYPED = 3


class Mode(IntEnum):
    """How the items of a list are written: as references, or as numbers of a run in order."""

    REFS = 0
    INTEGERS = 1
    FLOATS = 2


def is_tree(stream: Any) -> bool:
    """Say whether *stream* starts like a tree; a pickle never does."""
    return bytes(stream[:4]) == MAGIC
