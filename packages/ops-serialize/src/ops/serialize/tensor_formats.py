"""`torch.save` for tensors and trees of them, read with `weights_only`, so nothing executes."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

from ops.foundation.imports import LazyImport
from ops.serialize.formats import BuiltinFormat, SerializationFormat

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
        torch.save(obj, sink)
        return sink.getvalue()

    def loads(self, data: Any, /) -> Any:
        """Return the tensors."""
        return torch.load(io.BytesIO(data), weights_only=True)
