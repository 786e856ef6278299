"""Nodes of torch: tensors and parameters, as the elements that they show, and nothing of their storage.

Only tensors that share their storage are views of it, whose offsets are checked before torch uses them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from typing import TYPE_CHECKING, Any

from ops.foundation.imports import LazyImport
from ops.serialize.errors import CorruptDataError, UnsupportedTypeError
from ops.serialize.nodes import known_encoders
from ops.serialize.nodes.parts import Raw, expect, int_between

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.serialize.nodes.parts import Reading

torch: Any = LazyImport("torch", "ops-serialize[torch]")

__all__ = ["BUILDERS", "View", "encoder_of"]

_NAMES = (
    "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8",
    "uint16", "uint32", "uint64", "bool", "complex32", "complex64", "complex128", "float8_e4m3fn",
    "float8_e5m2",
)  # fmt: skip
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d{1,3})?", re.ASCII)


def encoder_of(kind: type) -> Callable[[Any], tuple[str, tuple[Any, ...]]] | None:
    """Return the encoder of exactly this type, or None."""
    return {
        torch.Tensor: _tensor,
        torch.nn.Parameter: _tensor,
        torch.dtype: _dtype,
        torch.Size: lambda size: ("torch.size", tuple(size)),
    }.get(kind)


@functools.cache
def _dtypes() -> dict[str, Any]:
    return {name: getattr(torch, name) for name in _NAMES if hasattr(torch, name)}


def _dtype(value: Any) -> tuple[str, tuple[Any, ...]]:
    name = str(value).partition(".")[2]
    if name not in _dtypes():
        raise UnsupportedTypeError(f"{value} is no plain data.")
    return "torch.dtype", (name,)


def _tensor(tensor: Any) -> tuple[str, tuple[Any, ...]]:
    name = str(tensor.dtype).partition(".")[2]
    if tensor.layout != torch.strided or tensor.is_quantized or name not in _dtypes():
        raise UnsupportedTypeError(f"A {tensor.layout} tensor of {tensor.dtype} is no plain data.")
    if set(vars(tensor)):
        raise UnsupportedTypeError("A tensor with attributes of its own is no plain data.")
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    data = memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")
    return "torch.tensor", (
        name,
        Raw(data, max(1, tensor.element_size())),
        type(tensor) is torch.nn.Parameter,
        bool(tensor.requires_grad),
        str(tensor.device),
        *tensor.shape,
    )


def _build_tensor(
    reading: Reading,
    name: Any,
    content: Any,
    is_parameter: Any,
    gradient: Any,
    device: Any,
    *shape: Any,
) -> Any:
    dtype = _dtypes()[expect(name, str)]
    if len(shape) > 64 or not _DEVICE.fullmatch(expect(device, str)):
        raise CorruptDataError("A tensor is described in no known way.")
    lengths = [int_between(length, 0, (1 << 62)) for length in shape]
    data = memoryview(content).cast("B")
    count = math.prod(lengths)
    size = torch.empty(0, dtype=dtype).element_size()
    if data.nbytes != count * size:
        raise CorruptDataError(f"A tensor of {count} elements has {data.nbytes} bytes.")
    if data.readonly or isinstance(content, bytes):  # torch would write through it
        reading.budget.take(data.nbytes)
        data = memoryview(bytearray(data))
    if dtype == torch.bool and count and torch.frombuffer(data, dtype=torch.uint8).max() > 1:
        raise CorruptDataError("A truth value of a tensor is neither 0 nor 1.")
    flat = torch.frombuffer(data, dtype=dtype) if count else torch.empty(0, dtype=dtype)
    tensor = flat.reshape(lengths)
    if device != "cpu":
        tensor = tensor.to(device)
    if expect(is_parameter, bool):
        return torch.nn.Parameter(tensor, requires_grad=expect(gradient, bool))
    return tensor.requires_grad_(expect(gradient, bool)) if gradient else tensor


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """A tensor that looks at *storage*, the bytes of which several tensors share."""

    tensor: Any
    storage: Any


def _view(view: View) -> tuple[str, tuple[Any, ...]]:
    tensor = view.tensor
    name = str(tensor.dtype).partition(".")[2]
    if name not in _dtypes() or vars(tensor) or tensor.is_conj() or tensor.is_neg():
        raise UnsupportedTypeError(f"This tensor of {tensor.dtype} is no plain data; clone it.")
    return "torch.view", (
        view.storage,
        name,
        type(tensor) is torch.nn.Parameter,
        bool(tensor.requires_grad),
        tensor.storage_offset(),
        tuple(tensor.shape),
        tuple(tensor.stride()),
    )


known_encoders[View] = _view


def _build_view(
    _: Reading,
    storage: Any,
    name: Any,
    is_parameter: Any,
    gradient: Any,
    offset: Any,
    shape: Any,
    strides: Any,
) -> Any:
    if type(storage) is not torch.Tensor or storage.dtype != torch.uint8 or storage.dim() != 1:
        raise CorruptDataError("The storage of a tensor is none.")
    dtype = _dtypes()[expect(name, str)]
    size = torch.empty(0, dtype=dtype).element_size()
    count = storage.numel() // size
    lengths = [int_between(length, 1, 1 << 62) for length in expect(shape, tuple)]
    steps = [int_between(step, 0, 1 << 62) for step in expect(strides, tuple)]
    first = int_between(offset, 0, 1 << 62)
    if len(lengths) != len(steps) or len(lengths) > 64:
        raise CorruptDataError("A tensor is described in no known way.")
    last = first + sum((n - 1) * step for n, step in zip(lengths, steps, strict=True))
    if last >= count:
        raise CorruptDataError("A tensor reaches beyond its storage.")
    tensor = storage[: count * size].view(dtype).as_strided(lengths, steps, first)
    if dtype == torch.bool and storage.max() > 1:
        raise CorruptDataError("A truth value of a tensor is neither 0 nor 1.")
    if expect(is_parameter, bool):
        return torch.nn.Parameter(tensor, requires_grad=expect(gradient, bool))
    return tensor.requires_grad_(requires_grad=True) if expect(gradient, bool) else tensor


BUILDERS: dict[str, Any] = {
    "torch.view": _build_view,
    "torch.tensor": _build_tensor,
    "torch.dtype": lambda _, name: _dtypes()[expect(name, str)],
    "torch.size": lambda _, *shape: torch.Size([int_between(n, 0, 1 << 62) for n in shape]),
}
