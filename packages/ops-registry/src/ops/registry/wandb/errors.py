"""What of W&B is not here, each with what to use instead.

MLOpsException                           W&B's ``Error``
├── InvalidValueError                    W&B's ``UsageError``
├── CommError        (ConnectionError)   W&B's, which nothing raises here
├── NotInitializedError  (RuntimeError)    a call that needs a run before `init`
└── NotOfferedError      (AttributeError)  a name of W&B that this module does not have
"""

from __future__ import annotations

from ops.registry.errors import InvalidValueError, MLOpsException

__all__ = [
    "CommError",
    "Error",
    "NotInitializedError",
    "NotOfferedError",
    "UsageError",
    "not_offered",
]

_IN_A_BROWSER = "`ops-registry ui --path STORE` shows the run in a browser"
_VERSIONS = "register_model and set_alias of ops.registry name versions"
_SAMPLER = "a sampler such as Optuna proposes settings; a run each goes to one group"
_INSTEAD = {
    "Api": "search_runs of ops.registry.init_mlops(...).experiment_tracker finds runs, with their histories and files",
    "Artifact": "wandb.save keeps files with the run; register_model of ops.registry makes versions of models",
    "JoinedTable": "join the rows, and log one Table",
    "Molecule": "wandb.save keeps such files",
    "Object3D": "wandb.save keeps such files",
    "Plotly": "log the figure itself: it is kept as a page",
    "Settings": "give what it sets to init, as far as init takes it",
    "agent": _SAMPLER,
    "alert": "logging.getLogger(...).warning reports it to the operator of the job",
    "api": "search_runs of ops.registry.init_mlops(...).experiment_tracker finds runs",
    "controller": _SAMPLER,
    "display": _IN_A_BROWSER,
    "get_url": _IN_A_BROWSER,
    "link_artifact": _VERSIONS,
    "link_model": _VERSIONS,
    "log_artifact": "wandb.save keeps files with the run",
    "log_code": "wandb.save keeps files with the run",
    "log_model": "register_model of ops.registry makes versions of models",
    "mark_preempting": "init with id= and resume='allow' goes on with a run after it was stopped",
    "plot": "log a Table, or a figure of matplotlib",
    "plot_table": "log a Table, or a figure of matplotlib",
    "project_name": "run.project has it",
    "project_url": _IN_A_BROWSER,
    "restore": "download_run_artifact of ops.registry gets a file of a run",
    "sklearn": "ops.registry.autolog logs what scikit-learn fits",
    "status": "each call is on disk when it returns",
    "sweep": _SAMPLER,
    "sweep_url": _IN_A_BROWSER,
    "termerror": "use the module logging",
    "termlog": "use the module logging",
    "termwarn": "use the module logging",
    "to_html": _IN_A_BROWSER,
    "unwatch": "log the values themselves",
    "url": _IN_A_BROWSER,
    "use_artifact": "download_artifact of ops.registry gets the files of a version",
    "use_model": "load_model of ops.registry loads a version",
    "watch": "log the norms of gradients and weights that matter as numbers",
}

Error = MLOpsException
UsageError = InvalidValueError


class CommError(MLOpsException, ConnectionError):
    """W&B's service cannot be reached; nothing here raises it, and programs that catch it go on."""


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
