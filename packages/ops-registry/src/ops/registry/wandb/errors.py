"""What of W&B is not here, each with what to use instead.

MLOpsException
├── NotInitializedError  (RuntimeError)    a call that needs a run before `init`
└── NotOfferedError      (AttributeError)  a name of W&B that this module does not have
"""

from __future__ import annotations

from ops.registry.errors import MLOpsException

__all__ = ["NotInitializedError", "NotOfferedError", "not_offered"]

_INSTEAD = {
    "Api": "search_runs of ops.registry.init_mlops(...).experiment_tracker finds runs, with their histories and files",
    "Artifact": "wandb.save keeps files with the run; register_model of ops.registry makes versions of models",
    "Audio": "wandb.save keeps sounds as files",
    "Html": "wandb.save keeps pages as files",
    "Molecule": "wandb.save keeps such files",
    "Object3D": "wandb.save keeps such files",
    "Plotly": "log the figure itself: it is kept as a page",
    "Video": "wandb.save keeps videos as files",
    "agent": "a sampler such as Optuna proposes settings; a run each goes to one group",
    "alert": "logging.getLogger(...).warning reports it to the operator of the job",
    "link_artifact": "register_model and set_alias of ops.registry name versions",
    "link_model": "register_model and set_alias of ops.registry name versions",
    "log_artifact": "wandb.save keeps files with the run",
    "log_code": "wandb.save keeps files with the run",
    "log_model": "register_model of ops.registry makes versions of models",
    "mark_preempting": "init with id= and resume='allow' goes on with a run after it was stopped",
    "plot": "log a Table, or a figure of matplotlib as an Image",
    "restore": "download_run_artifact of ops.registry gets a file of a run",
    "sklearn": "ops.registry.autolog logs what scikit-learn fits",
    "sweep": "a sampler such as Optuna proposes settings; a run each goes to one group",
    "unwatch": "log the values themselves",
    "url": "`ops-registry ui --path STORE` shows the run in a browser",
    "get_url": "`ops-registry ui --path STORE` shows the run in a browser",
    "use_artifact": "download_artifact of ops.registry gets the files of a version",
    "use_model": "load_model of ops.registry loads a version",
    "watch": "log the norms of gradients and weights that matter as numbers",
}


class NotInitializedError(MLOpsException, RuntimeError):
    """There is no run: `init` comes first."""


class NotOfferedError(MLOpsException, AttributeError):
    """W&B has this name, and a store in a folder has not; the message names what to use instead."""


def not_offered(owner: str, name: str) -> NotOfferedError:
    """Return what to raise for an attribute of *owner* that is not here."""
    instead = _INSTEAD.get(name)
    if instead is None:
        return NotOfferedError(f"{owner} has no {name!r} in ops.registry.wandb.")
    return NotOfferedError(f"{owner}.{name} is not in ops.registry.wandb: {instead}.")
