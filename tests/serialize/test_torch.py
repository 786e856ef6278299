"""Tensors, trees of them and modules; runs where torch is installed (it is too heavy for CI)."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from ops.serialize import (
    CorruptDataError,
    SerializationFormat,
    Signed,
    SmartSerializer,
    UnsupportedTypeError,
    UntrustedDataError,
    deserialize_data,
    digest,
    dump,
    load,
    serialize_data,
)

torch = pytest.importorskip("torch")

DTYPES = ["float32", "float64", "bfloat16", "float16", "int8", "int64", "bool", "complex64"]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_tensors_of_every_kind_come_back(name: str, shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape, dtype=getattr(torch, name))
    assert SmartSerializer().detect_format(tensor) == SerializationFormat.TORCH
    back = deserialize_data(serialize_data(tensor))
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(back, tensor)


def test_the_state_of_a_module_is_safe_to_load(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    state = module.state_dict()
    checkpoint: dict[str, Any] = {"state": state, "epoch": 3, "losses": [0.5, (1, None)]}
    dump(checkpoint, tmp_path / "c.opsf")
    for back in (deserialize_data(serialize_data(checkpoint)), load(tmp_path / "c.opsf")):
        assert back["epoch"] == 3
        assert back["losses"] == [0.5, (1, None)]
        assert type(back["state"]) is OrderedDict
        assert back["state"]._metadata == state._metadata
        other = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
        other.load_state_dict(back["state"])
        assert all(
            torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True)
        )


def test_parameters_keep_that_they_want_gradients() -> None:
    back = deserialize_data(serialize_data(torch.nn.Parameter(torch.ones(2))))
    assert isinstance(back, torch.nn.Parameter)
    assert back.requires_grad


def test_a_module_needs_a_trust_that_allows_code() -> None:
    module = torch.nn.Linear(2, 2)
    with pytest.raises(UnsupportedTypeError, match="Linear"):
        serialize_data(module)
    with pytest.raises(UntrustedDataError):
        deserialize_data(serialize_data(module, trust="all"))
    for trust in (Signed(b"k" * 32), "user"):
        back = deserialize_data(serialize_data(module, trust=trust), trust=trust)
        assert torch.equal(back.weight, module.weight)


def test_a_pickle_gadget_beside_tensors_does_not_run() -> None:
    class Gadget:
        def __reduce__(self) -> Any:
            return print, ("ran",)

    data = serialize_data({"t": torch.ones(1), "g": Gadget()}, trust="all")
    with pytest.raises(UntrustedDataError, match="vouches"):
        deserialize_data(data)


def test_every_flipped_byte_of_a_tensor_is_found() -> None:
    data = bytearray(serialize_data(torch.arange(4)))
    for at in range(0, len(data), 7):
        data[at] ^= 1
        with pytest.raises(CorruptDataError):
            deserialize_data(bytes(data))
        data[at] ^= 1


def test_digests_are_of_the_elements_and_not_of_the_storage() -> None:
    whole = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    for part in (whole[1], whole.t(), whole[:, ::2], whole[0, 0]):
        assert digest(part) == digest(part.clone().contiguous())
    tensors = [whole, whole.double(), whole.reshape(4, 3), whole + 1, whole.requires_grad_()]
    assert len({digest(t) for t in tensors}) == 4  # the first has become the last
    assert digest(torch.nn.Linear(2, 2).state_dict()) != digest(torch.nn.Linear(2, 2).state_dict())


def test_views_of_large_tensors_write_only_what_they_show() -> None:
    large = torch.arange(1_000_000)
    state = OrderedDict(part=large[5:8], grid=large[:100].reshape(10, 10).T)
    state._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    alone = {"rows": torch.randn(1000, 1000, requires_grad=True)[:2]}
    weights = torch.nn.Parameter(torch.zeros(1_000_000)[:4], requires_grad=False)
    for tree in ({"a": [large[:3]]}, alone, large[::100_000], weights, [torch.zeros(1 << 20)[:0]]):
        data = serialize_data(tree, compression=None)
        assert len(data) < 20_000
        assert digest(deserialize_data(data)) == digest(tree)
    back = deserialize_data(serialize_data(state))
    assert back._metadata == state._metadata
    assert torch.equal(back["grid"], state["grid"])


def test_tensors_that_share_memory_still_do() -> None:
    weight = torch.zeros(10)
    tied = {"a": weight, "b": weight[:5], "c": [weight]}
    back = deserialize_data(serialize_data(tied))
    back["a"][0] = 7
    assert back["b"][0] == 7
    assert back["c"][0] is back["a"]
