"""Tensors and trees of them, as a tree of data whose buffers are their elements."""

from __future__ import annotations

import copy
import io
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ops.foundation.imports import LazyImport
from ops.serialize.errors import UnsupportedTypeError
from ops.serialize.formats import BuiltinFormat, SerializationFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

torch: Any = LazyImport("torch", extra="ops-serialize[torch]")

__all__ = ["TorchSerializer"]

_MAX_DEPTH = 64


class TorchSerializer(BuiltinFormat):
    """A tree of data with tensors in it; before format 2 a file of `torch.save`."""

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

    def dumps(self, obj: Any, /) -> bytes:  # noqa: ARG002 - the shared shape
        """Refuse: `smart` writes the tree, whose buffers belong to the container."""
        raise UnsupportedTypeError("TORCH is written by SmartSerializer alone.")

    def loads(self, data: Any, /) -> Any:
        """Return the tensors of a file of `torch.save`, as containers of format 1 have them."""
        return torch.load(io.BytesIO(data), weights_only=True)


def with_shared_storages(obj: Any) -> Any:
    """Return *obj* with views in the stead of those tensors that look at the storage of another one.

    A tensor alone is written as the elements that it shows. Several that share a storage must do so
    again, and so the whole storage is written, once.
    """
    from ops.serialize.nodes.torch_nodes import View

    tensors = {id(tensor): tensor for tensor in _tensors(obj)}
    users: dict[int, int] = {}
    for tensor in tensors.values():
        if tensor.layout == torch.strided and tensor.numel():
            users[_storage(tensor)] = users.get(_storage(tensor), 0) + 1
    made: dict[int, Any] = {}
    storages: dict[int, Any] = {}
    for key, tensor in tensors.items():
        if tensor.layout == torch.strided and tensor.numel() and users[_storage(tensor)] > 1:
            whole = tensor.detach().untyped_storage()
            storage = storages.setdefault(
                _storage(tensor),
                torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(whole),
            )
            made[key] = View(tensor, storage)
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
