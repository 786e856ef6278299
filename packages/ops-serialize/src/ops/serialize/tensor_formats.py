"""`torch.save` for tensors and trees of them, read with `weights_only`, so nothing executes."""

from __future__ import annotations

import copy
import io
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ops.foundation.imports import LazyImport
from ops.serialize.formats import BuiltinFormat, SerializationFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

torch: Any = LazyImport("torch", extra="ops-serialize[torch]")

__all__ = ["TorchSerializer"]

_MAX_DEPTH = 64


class TorchSerializer(BuiltinFormat):
    """`torch.save`, read with `weights_only`, so nothing executes."""

    format = SerializationFormat.TORCH

    def holds(self, obj: Any) -> bool:
        """Whether *obj* is a tensor, or a tree with tensors in it, as a module's state is.

        Modules carry code, so they are a FRAME and need a trust that allows it.
        """
        kinds: set[str] = set()
        return self._is_tree(obj, kinds, 0) and "tensor" in kinds

    def _is_tree(self, obj: Any, kinds: set[str], depth: int) -> bool:
        kind = type(obj)
        if kind in {str, int, float, bool, type(None)}:
            return True
        if depth >= _MAX_DEPTH:
            return False
        if kind is dict or kind is OrderedDict:
            return all(type(key) in {str, int} for key in obj) and all(
                self._is_tree(value, kinds, depth + 1) for value in obj.values()
            )
        if kind is list or kind is tuple:
            return all(self._is_tree(value, kinds, depth + 1) for value in obj)
        if kind.__name__ in {"Tensor", "Parameter"} and isinstance(obj, torch.Tensor):
            kinds.add("tensor")
            return True
        return False

    def dumps(self, obj: Any, /) -> bytes:
        """Return the tensors as `torch.save` writes them."""
        self.require(obj)
        sink = io.BytesIO()
        torch.save(_without_hidden(obj), sink)
        return sink.getvalue()

    def loads(self, data: Any, /) -> Any:
        """Return the tensors."""
        return torch.load(io.BytesIO(data), weights_only=True)


def _without_hidden(obj: Any) -> Any:
    """Return *obj* with copies of those tensors that show only a part of their storage.

    `torch.save` writes storages whole: ten rows of a large tensor would take all of it along, and what
    it holds. Storages that several tensors of the tree look at stay shared, and whole.
    """
    tensors = {id(tensor): tensor for tensor in _tensors(obj)}
    users: dict[int, int] = {}
    for tensor in tensors.values():
        if tensor.layout == torch.strided:
            users[_storage(tensor)] = users.get(_storage(tensor), 0) + 1
    made: dict[int, Any] = {}
    for key, tensor in tensors.items():
        if tensor.layout == torch.strided and users[_storage(tensor)] == 1 and _hides(tensor):
            shown = tensor.detach().clone()
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            made[key] = torch.nn.Parameter(shown) if is_parameter else shown
            made[key].requires_grad_(tensor.requires_grad)
    return _replaced(obj, made, {}) if made else obj


def _tensors(obj: Any) -> Iterator[Any]:
    if isinstance(obj, torch.Tensor):
        yield obj
    elif isinstance(obj, dict):
        for value in obj.values():
            yield from _tensors(value)
    elif isinstance(obj, list | tuple):
        for value in obj:
            yield from _tensors(value)


def _storage(tensor: Any) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _hides(tensor: Any) -> bool:
    shown = tensor.numel() * tensor.element_size()
    return bool(shown < tensor.untyped_storage().nbytes()) and not getattr(tensor, "__dict__", None)


def _replaced(obj: Any, made: dict[int, Any], seen: dict[int, Any]) -> Any:
    """Return a copy of the containers of *obj* with other tensors in them; what is shared stays so."""
    if id(obj) in made:
        return made[id(obj)]
    if not isinstance(obj, dict | list | tuple):
        return obj
    if id(obj) not in seen:
        if isinstance(obj, dict):
            again = copy.copy(obj)  # with the attributes of a module's state
            for key, value in obj.items():
                again[key] = _replaced(value, made, seen)
            seen[id(obj)] = again
        else:
            seen[id(obj)] = type(obj)(_replaced(value, made, seen) for value in obj)
    return seen[id(obj)]
