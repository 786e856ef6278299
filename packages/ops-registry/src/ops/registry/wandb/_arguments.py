"""The arguments of `init`: what is given, else what ``WANDB_...`` variables have; checked before anything is written."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from ops.registry.errors import InvalidValueError
from ops.registry.validators import check_text
from ops.registry.wandb._records import LABELS, NOTES, labels_text
from ops.registry.wandb.fields import config_values, default_config, mapping_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Arguments", "arguments", "check_reinit"]

_RESUME = {"allow", "must", "never", True, False, None}
_REINIT = {True, False, None, "default", "return_previous", "finish_previous", "create_new"}
_MODES = {"online", "offline", "disabled", "shared", "dryrun", "run", None}
#: Arguments about W&B's service that ask for nothing here.
_MEANINGLESS = {"anonymous", "force"}

# Environment WANDB_PROJECT, WANDB_NAME, WANDB_RUN_ID, WANDB_RUN_GROUP, WANDB_JOB_TYPE, WANDB_NOTES, WANDB_ENTITY: what
# `ops.registry.wandb.init` takes when it is not given them.
# Environment WANDB_TAGS: the labels of a run, with "," between, when `init` is given none.
# Environment WANDB_RESUME: "allow", "must" or "never", when `init` is given no *resume*.
# Environment WANDB_MODE: "disabled": `init` without a *mode* records nothing.
_VARIABLES = {
    "project": "WANDB_PROJECT",
    "name": "WANDB_NAME",
    "id": "WANDB_RUN_ID",
    "group": "WANDB_RUN_GROUP",
    "job_type": "WANDB_JOB_TYPE",
    "notes": "WANDB_NOTES",
    "entity": "WANDB_ENTITY",
    "tags": "WANDB_TAGS",
    "resume": "WANDB_RESUME",
    "mode": "WANDB_MODE",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Arguments:
    """What `init` was requested for: the *labels* are tags of the run, and *config* is what was given for it alone."""

    project: str
    name: str | None
    id: str | None
    resume: bool | str | None
    is_disabled: bool
    labels: dict[str, str]
    config: dict[str, Any]
    defaults: dict[str, Any]


def arguments(
    config: Any,
    tags: Sequence[str] | None,
    include: Sequence[str] | None,
    exclude: Sequence[str] | None,
    unknown: Mapping[str, Any],
    **given: Any,
) -> Arguments:
    """Return what is requested for, or refuse it, by the name of the argument."""
    _refuse_unknown(unknown)
    if tags is None and (text := os.environ.get("WANDB_TAGS")):
        tags = [one.strip() for one in text.split(",") if one.strip()]
    for name, variable in _VARIABLES.items():
        if name != "tags" and given[name] is None:
            given[name] = os.environ.get(variable) or None
    for name in ("project", "name", "id", "group", "job_type", "notes", "entity"):
        if given[name] is not None:
            check_text(name, given[name])
    _check_choices(given["mode"], given["resume"], given["id"])
    labels = {
        "group": given["group"],
        "job_type": given["job_type"],
        "entity": given["entity"],
        NOTES: given["notes"],
        LABELS: labels_text(tags) if tags else None,
    }
    if include and exclude:
        raise InvalidValueError("init takes config_include_keys or config_exclude_keys, not both.")
    values = config_values(mapping_of(() if config is None else config))
    return Arguments(
        project=given["project"] or "uncategorized",
        name=given["name"],
        id=given["id"],
        resume=given["resume"],
        is_disabled=given["mode"] == "disabled",
        labels={key: value for key, value in labels.items() if value is not None},
        config={
            key: value
            for key, value in values.items()
            if (not include or key in include) and key not in (exclude or ())
        },
        defaults=config_values(default_config()),
    )


def check_reinit(reinit: object) -> None:
    """Refuse what *reinit* cannot be."""
    if not isinstance(reinit, (str, bool, type(None))) or reinit not in _REINIT:
        raise InvalidValueError(
            f"reinit={reinit!r:.40} is unknown; use 'finish_previous', 'create_new' or 'return_previous'."
        )


def _refuse_unknown(unknown: Mapping[str, Any]) -> None:
    requested = sorted(key for key, value in unknown.items() if value and key not in _MEANINGLESS)
    if requested:
        raise InvalidValueError(
            f"init takes no {', '.join(map(repr, requested))} here.",
            suggestions=("Leave out what is about W&B's service and its syncing.",),
        )


def _check_choices(mode: Any, resume: Any, own_id: str | None) -> None:
    if mode not in _MODES:
        raise InvalidValueError(f"mode={mode!r:.40} is unknown; use 'online' or 'disabled'.")
    if resume not in _RESUME:
        raise InvalidValueError(
            f"resume={resume!r:.40} is not offered; use 'allow', 'must' or 'never' with an id."
        )
    if resume in {True, "must"} and own_id is None:
        raise InvalidValueError(f"resume={resume!r} needs the id of the run: init(id=...).")
