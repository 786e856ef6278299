"""W&B's calls on a store of ours: ``import ops.registry.wandb as wandb`` in place of ``import wandb``.

`init`, `log`, `config`, `summary`, `define_metric`, `Table`, `Image`, `Histogram`, `save` and `finish` write our runs, which
searches, the web pages and MLflow show like all others. What is not here raises `NotOfferedError`, which names what to
use instead. Nothing is sent anywhere.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

from ops.registry.errors import InvalidValueError
from ops.registry.wandb._rules import Metric
from ops.registry.wandb._run import Run
from ops.registry.wandb.errors import (
    CommError,
    Error,
    NotInitializedError,
    NotOfferedError,
    UsageError,
    not_offered,
)
from ops.registry.wandb.fields import Config, Summary, Unstarted
from ops.registry.wandb.media import Audio, Histogram, Html, Image, Video
from ops.registry.wandb.session import (
    current_run,
    define_metric,
    finish,
    init,
    log,
    login,
    save,
    setup,
    teardown,
)
from ops.registry.wandb.tables import Table

if TYPE_CHECKING:
    #: The current run, None when there is none.
    run: Run | None
    #: The parameters of the current run.
    config: Config
    #: The summary of the current run.
    summary: Summary

__all__ = [
    "Audio",
    "CommError",
    "Config",
    "Error",
    "Histogram",
    "Html",
    "Image",
    "Metric",
    "NotInitializedError",
    "NotOfferedError",
    "Run",
    "Summary",
    "Table",
    "UsageError",
    "Video",
    "config",
    "define_metric",
    "finish",
    "init",
    "join",
    "log",
    "login",
    "run",
    "save",
    "setup",
    "summary",
    "teardown",
]

#: W&B's older name of `finish`.
join = finish


def __getattr__(name: str) -> Any:
    if name == "run":
        return current_run()
    if name in {"config", "summary"}:
        here = current_run()
        return Unstarted(name) if here is None else getattr(here, name)
    raise not_offered("wandb", name)


class _Module(types.ModuleType):
    """The module: what belongs to the current run is not to be replaced, which would lose what is set there."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in {"run", "config", "summary"}:
            raise InvalidValueError(
                f"wandb.{name} cannot be replaced.",
                suggestions=()
                if name == "run"
                else (f"wandb.{name}.update({{...}}) sets values of the current run.",),
            )
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Module
