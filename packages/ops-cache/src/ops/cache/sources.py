"""What identifies the code of a function: its source text, or its bytecode where there is none."""

from __future__ import annotations

import functools
import inspect
import textwrap
from types import CodeType
from typing import TYPE_CHECKING, Any

from ops.serialize.digests import digest

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["fingerprint"]


@functools.lru_cache(maxsize=1024)  # one function object never changes its source
def fingerprint(func: Callable[..., Any]) -> str:
    """Return a digest that changes when the body of *func* does."""
    plain = inspect.unwrap(func)
    try:
        return digest(textwrap.dedent(inspect.getsource(plain)), algorithm="blake2b")
    except (OSError, TypeError):  # typed into a prompt, made by exec, or a C function
        code = getattr(plain, "__code__", None)
        described = repr(plain.__qualname__) if code is None else _describe(code)
        return digest(described, algorithm="blake2b")


def _describe(code: CodeType) -> str:
    constants = [_describe(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_code, code.co_names, code.co_varnames, constants))
