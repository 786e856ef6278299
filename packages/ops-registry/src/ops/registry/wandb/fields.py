"""What a run shows as `config` and `summary`: mappings that are read and written by item or by attribute."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from ops.registry.errors import InvalidValueError
from ops.registry.plain_values import copied, plain_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.registry.wandb._run import Run

__all__ = ["Config", "Summary"]


class _Fields(MutableMapping[str, Any]):
    """A mapping whose keys are attributes too; those with an underscore are the object's own."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"{type(self).__name__} has no {name!r}.") from error

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self[name] = value

    def __delitem__(self, key: str) -> None:
        raise InvalidValueError(f"What was logged stays: {key!r} cannot be removed.")

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())

    def __repr__(self) -> str:
        return repr(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of all of it."""
        raise NotImplementedError


class Config(_Fields):
    """The parameters of a run; one that has a value gets another only if it is allowed."""

    def __init__(self, run: Run) -> None:
        self._run = run

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
        """Log parameters: a mapping, or what ``argparse`` returns.

        Raises:
            InvalidValueError: one has another value already, and *allow_val_change* is not set.
        """
        given = plain_parameters("config", mapping_of(values) | more)
        known = self.as_dict()
        for key, value in given.items():
            if key in known and known[key] != value and not allow_val_change:
                raise InvalidValueError(
                    f"config.{key} is {known[key]!r:.80} already, and would become {value!r:.80}.",
                    suggestions=("Pass allow_val_change=True to update.",),
                )
        self._run.log_parameters(given)

    def setdefaults(self, values: Any) -> None:
        """Log those parameters that the run has not."""
        known = self.as_dict()
        missing = {k: v for k, v in mapping_of(values).items() if k not in known}
        self.update(missing)

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of all parameters."""
        return dict(self._run.record().parameters)

    def keys(self) -> Any:
        """Return the names."""
        return self.as_dict().keys()


class Summary(_Fields):
    """What stands for each metric: its last value, or what `define_metric` asks for; other values beside them."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getitem__(self, key: str) -> Any:
        return self.as_dict()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._run.summarize({key: value})

    def update(self, values: Any = (), **more: Any) -> None:  # type: ignore[override]  # as W&B's
        """Set several values: numbers count as the last values of their metrics."""
        self._run.summarize(mapping_of(values) | more)

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of all of it."""
        return copied(self._run.summary_values())  # type: ignore[no-any-return]

    def keys(self) -> Any:
        """Return the names."""
        return self.as_dict().keys()


def mapping_of(values: Any) -> dict[str, Any]:
    """Return what was given as a configuration: a mapping, pairs, or the result of ``argparse``."""
    if isinstance(values, argparse.Namespace):
        return dict(vars(values))
    if isinstance(values, Mapping):
        return dict(values)
    try:
        return dict(values)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"A configuration is a mapping such as {{'lr': 0.1}}, not {values!r:.80}."
        ) from error
