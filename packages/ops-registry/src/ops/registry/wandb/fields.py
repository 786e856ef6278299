"""What a run shows as `config` and `summary`: mappings that are read and written by item or by attribute."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NoReturn

from ops.registry.configuration import load_yaml
from ops.registry.errors import InvalidValueError
from ops.registry.plain_values import copied, plain_parameters
from ops.registry.wandb.errors import NotInitializedError
from ops.registry.wandb.media import Media

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.registry.wandb._run import Run

__all__ = ["Config", "Summary", "Unstarted", "config_values", "default_config", "mapping_of"]

#: What the objects themselves have; every other attribute is an item.
_OWN = {"_run", "_prefix"}
_DEFAULTS = "config-defaults.yaml"


class _Fields(MutableMapping[str, Any]):
    """A mapping whose keys are attributes too."""

    def __init__(self, run: Run) -> None:
        object.__setattr__(self, "_run", run)

    def __getattr__(self, name: str) -> Any:
        # Of an object that is being copied, what it has itself may not be there yet.
        if name in _OWN or name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"{type(self).__name__} has no {name!r}.") from error

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delitem__(self, key: str) -> None:
        raise InvalidValueError(f"What was logged stays: {key!r} cannot be removed.")

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())

    def __repr__(self) -> str:
        return repr(self.as_dict())

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of all of it."""
        raise NotImplementedError


class Config(_Fields):
    """The parameters of a run; one that has a value gets another only if it is allowed."""

    def __getitem__(self, key: str) -> Any:
        return self.as_dict()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def update(  # type: ignore[override]  # W&B's signature
        self,
        values: Any = (),
        allow_val_change: bool | None = None,  # noqa: FBT001 - W&B's signature
        **more: Any,
    ) -> None:
        """Log parameters: a mapping, an object with attributes such as ``argparse`` returns, or the path of a YAML file.

        Values that JSON has no form for are kept as W&B keeps them, by their text.

        Raises:
            InvalidValueError: one has another value already, and *allow_val_change* is not set.
        """
        given = config_values(mapping_of(values) | more)
        known = self.as_dict()
        for key, value in given.items():
            if key in known and not _is_same(known[key], value) and not allow_val_change:
                raise InvalidValueError(
                    f"config.{key} is {known[key]!r:.80} already, and would become {value!r:.80}.",
                    suggestions=("Pass allow_val_change=True to update.",),
                )
        self._run.log_parameters(given)

    def setdefaults(self, values: Any) -> None:
        """Log those parameters that the run has not."""
        known = self.as_dict()
        missing = {k: v for k, v in config_values(mapping_of(values)).items() if k not in known}
        self.update(missing)

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of all parameters."""
        return dict(self._run.record().parameters)

    def keys(self) -> Any:
        """Return the names."""
        return self.as_dict().keys()


class Summary(_Fields):
    """What stands for each metric: its last value, or what `define_metric` asks for; other values beside them.

    Values below one name are read by "a.b" and by ``["a"]["b"]``.
    """

    def __init__(self, run: Run, prefix: str = "") -> None:
        super().__init__(run)
        object.__setattr__(self, "_prefix", prefix)

    def __getitem__(self, key: str) -> Any:
        known = self.as_dict()
        if key in known:
            return known[key]
        if any(name.startswith(f"{key}.") for name in known):
            return Summary(self._run, f"{self._prefix}{key}.")
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(name == key or name.startswith(f"{key}.") for name in self.as_dict())

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def update(self, values: Any = (), **more: Any) -> None:  # type: ignore[override]  # as W&B's
        """Set several values: numbers count as the last values of their metrics."""
        given = mapping_of(values) | more
        self._run.summarize({f"{self._prefix}{key}": value for key, value in given.items()})

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of all of it, with "." in names below others."""
        begin = self._prefix
        found = self._run.summary_values().items()
        return {k.removeprefix(begin): copied(v) for k, v in found if k.startswith(begin)}

    def keys(self) -> Any:
        """Return the names."""
        return self.as_dict().keys()


class Unstarted:
    """`config` or `summary` of a run that is not there: it can be imported and passed on, and refuses every use."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __getattr__(self, name: str) -> Any:
        if name == "_name" or name.startswith("__"):
            raise AttributeError(name)
        self._refuse(f".{name}")

    def __setattr__(self, name: str, value: object) -> None:
        self._refuse(f".{name}")

    def __getitem__(self, key: object) -> Any:
        self._refuse(f"[{key!r}]")

    def __setitem__(self, key: object, value: object) -> None:
        self._refuse(f"[{key!r}]")

    def __iter__(self) -> Iterator[str]:
        self._refuse("")

    def __contains__(self, key: object) -> bool:
        self._refuse("")

    def __len__(self) -> int:  # noqa: PLE0303 - it never returns
        self._refuse("")

    def _refuse(self, used: str) -> NoReturn:
        raise NotInitializedError(f"wandb.{self._name}{used} needs a run: call wandb.init() first.")


def mapping_of(values: Any) -> dict[str, Any]:
    """Return what was given as a configuration as a dictionary.

    It is a mapping, pairs, an object with attributes (``argparse.Namespace``, a dataclass), the flags of absl, or the
    path of a YAML file in the layout of W&B's ``config-defaults.yaml``.
    """
    if isinstance(values, (str, os.PathLike)):
        return _from_file(values)
    if isinstance(values, Mapping):
        return dict(values)
    if hasattr(values, "flag_values_dict"):  # absl
        return dict(values.flag_values_dict())
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        return {f.name: getattr(values, f.name) for f in dataclasses.fields(values)}
    pairs: Any = values
    try:
        return dict(pairs)
    except (TypeError, ValueError) as error:
        if hasattr(values, "__dict__") and not callable(values):
            return dict(vars(values))
        raise InvalidValueError(
            f"A configuration is a mapping such as {{'lr': 0.1}}, not {values!r:.80}."
        ) from error


def config_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as they are kept, or refuse the one that cannot be, by its key.

    As in W&B dashes around a name go: ``--lr`` is ``lr``.
    """
    names = {_undashed(k): _friendly(v) for k, v in values.items()}
    return plain_parameters("config", names)


def _undashed(name: Any) -> Any:
    return name.strip("-") if isinstance(name, str) else name


def default_config() -> dict[str, Any]:
    """Return what ``config-defaults.yaml`` of the current folder has, nothing without it."""
    return _from_file(_DEFAULTS) if os.path.isfile(_DEFAULTS) else {}  # noqa: PTH113 - of the current folder


def _from_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    tree = dict(load_yaml(path))
    tree.pop("wandb_version", None)
    found = {}
    for key, entry in tree.items():
        if not isinstance(entry, Mapping) or "value" not in entry:
            raise InvalidValueError(
                f"{os.fspath(path)!r:.200} has no value for {key!r:.80}.",
                suggestions=("W&B's files have a line 'value:' below each name.",),
            )
        found[str(key)] = entry["value"]
    return found


def _friendly(value: Any) -> Any:
    """Return a value in a form that parameters have; a third-party object that has none as its text, as in W&B."""
    if isinstance(value, Mapping):
        return {key: _friendly(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_friendly(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _friendly(mapping_of(value))
    if isinstance(value, Media):
        raise InvalidValueError(
            f"A {type(value).__name__} is no parameter.", suggestions=("Log it.",)
        )
    if isinstance(value, slice):
        return {
            "slice_start": value.start,
            "slice_step": value.step,
            "slice_stop": value.stop,
        }
    if type(value).__module__ == "builtins":
        return value
    try:
        plain_parameters("config", {"value": value})
    except InvalidValueError:
        return str(value)
    return value


def _is_same(one: Any, other: Any) -> bool:
    return bool(one == other) or repr(one) == repr(other)  # NaN is not itself
