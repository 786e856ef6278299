"""W&B's calls on a store of ours: ``import ops.registry.wandb as wandb`` in place of ``import wandb``.

`init`, `log`, `config`, `summary`, `define_metric`, `Table`, `Image`, `Histogram`, `save` and `finish` write our runs, which
searches, the web pages and MLflow show like all others. What is not here raises `NotOfferedError`, which names what to
use instead. Nothing is sent anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.registry.wandb._run import Run
from ops.registry.wandb.errors import NotInitializedError, NotOfferedError, not_offered
from ops.registry.wandb.fields import Config, Summary
from ops.registry.wandb.media import Histogram, Image, Table
from ops.registry.wandb.session import (
    active_run,
    current_run,
    define_metric,
    finish,
    init,
    log,
    login,
    save,
)

if TYPE_CHECKING:
    #: The current run, None when there is none.
    run: Run | None
    #: The parameters of the current run.
    config: Config
    #: The summary of the current run.
    summary: Summary

__all__ = [
    "Config",
    "Histogram",
    "Image",
    "NotInitializedError",
    "NotOfferedError",
    "Run",
    "Summary",
    "Table",
    "config",
    "define_metric",
    "finish",
    "init",
    "log",
    "login",
    "run",
    "save",
    "summary",
]


def __getattr__(name: str) -> Any:
    if name == "run":
        return current_run()
    if name in {"config", "summary"}:
        return getattr(active_run(name), name)
    raise not_offered("wandb", name)
