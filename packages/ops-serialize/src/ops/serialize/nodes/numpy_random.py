"""Generators of random numbers of NumPy: their state is checked, since NumPy reads where it points to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.foundation.imports import LazyImport
from ops.serialize.errors import CorruptDataError, UnsupportedTypeError
from ops.serialize.nodes.parts import expect, int_between

if TYPE_CHECKING:
    from ops.serialize.nodes.parts import Reading

# Typed Any: the stubs know no internals, and differ between versions.
np: Any = LazyImport("numpy", "ops-serialize[numpy]").import_module()

__all__ = ["build_generator", "build_random_state", "encode_generator", "encode_random_state"]

_WORDS = (1 << 32) - 1
_MT_WORDS = 624
_STATE_BYTES = 4096  # more than any generator takes
_BIT_GENERATORS: dict[str, Any] = {
    cls.__name__: cls for cls in (np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM)
}


def encode_random_state(value: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the node of a `RandomState`."""
    state = value.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise UnsupportedTypeError("Only a RandomState of MT19937 is plain data.")
    inner = state["state"]
    return "np.randomstate", (
        inner["key"], int(inner["pos"]), int(state["has_gauss"]), float(state["gauss"]),
    )  # fmt: skip


def _mt19937(key: Any, at: Any) -> dict[str, Any]:
    if type(key) is not np.ndarray or key.shape != (_MT_WORDS,) or key.dtype != np.uint32:
        raise CorruptDataError("The key of a generator is none.")
    # Behind 624 the generator would read beyond its key.
    return {"key": key, "pos": int_between(at, 0, _MT_WORDS)}


def build_random_state(reading: Reading, key: Any, at: Any, has: Any, gauss: Any) -> Any:
    """Return the `RandomState` with this state, all of which is checked."""
    reading.budget.take(_STATE_BYTES)
    reading.budget.take_time(_STATE_BYTES)  # a generator is seeded before it gets its state
    made = np.random.RandomState(np.random.MT19937())
    made.set_state(
        {
            "bit_generator": "MT19937",
            "state": _mt19937(key, at),
            "has_gauss": int_between(has, 0, 1),
            "gauss": expect(gauss, float),
        }
    )
    return made


def encode_generator(value: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the node of a `Generator`."""
    state = value.bit_generator.state
    seed = value.bit_generator.seed_seq
    name, inner = state["bit_generator"], state["state"]
    if name not in _BIT_GENERATORS or type(seed) is not np.random.SeedSequence:
        raise UnsupportedTypeError(f"A generator of {name} is no plain data.")
    entropy = seed.entropy
    seeds = (
        tuple(map(int, entropy)) if isinstance(entropy, (list, tuple, np.ndarray)) else entropy,
        tuple(map(int, seed.spawn_key)),
        int(seed.pool_size),
        int(seed.n_children_spawned),
    )
    if name == "MT19937":
        return "np.generator", (name, seeds, inner["key"], int(inner["pos"]), 0, 0)
    return "np.generator", (
        name, seeds, inner["state"], inner["inc"], state["has_uint32"], state["uinteger"],
    )  # fmt: skip


def build_generator(
    reading: Reading, name: Any, seeds: Any, first: Any, second: Any, has: Any, word: Any
) -> Any:
    """Return the `Generator` with this state, all of which is checked."""
    reading.budget.take(_STATE_BYTES)
    seed = _seed_sequence(reading, *expect(seeds, tuple))
    generator = _BIT_GENERATORS[expect(name, str)](seed)
    if name == "MT19937":
        generator.state = {"bit_generator": name, "state": _mt19937(first, second)}
        return np.random.Generator(generator)
    most = (1 << 128) - 1
    generator.state = {
        "bit_generator": name,
        "state": {"state": int_between(first, 0, most), "inc": int_between(second, 0, most) | 1},
        "has_uint32": int_between(has, 0, 1),
        "uinteger": int_between(word, 0, _WORDS),
    }
    return np.random.Generator(generator)


def _seed_sequence(reading: Reading, entropy: Any, spawned: Any, pool: Any, children: Any) -> Any:
    most = (1 << 4096) - 1
    parts = (*(entropy if type(entropy) is tuple else (entropy,)), *expect(spawned, tuple))
    if len(parts) > 1024:
        raise CorruptDataError("The seed of a generator is too long.")
    for part in parts:
        if part is not None:
            reading.budget.take_time(64 + int_between(part, 0, most).bit_length())
    return np.random.SeedSequence(
        entropy,
        spawn_key=spawned,
        pool_size=int_between(pool, 4, 64),
        n_children_spawned=int_between(children, 0, (1 << 32) - 1),
    )
