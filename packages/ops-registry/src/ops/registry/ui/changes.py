"""What a form of a page changes, where `--allow-writes` lets it.

Each change is a POST to ``/change/NAME``, which the gate has checked (`security`): a form of ours, from our origin. It
is done by the same calls as in a program, so hooks may veto it and it stands in the audit log. Then the browser is sent
back to the page that shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse
from starlette.routing import Route

from ops.foundation.errors import ValidationError
from ops.registry.records import ModelStage
from ops.registry.ui.saved_views import drop_view, save_view

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from ops.registry.context import MLOpsContext

__all__ = ["NOTE", "REASON", "Changes"]

#: The tag with the note about a run, which MLflow's pages show too.
NOTE = "mlflow.note.content"
#: The tag of a version with the reason of its last change of stage.
REASON = "ops.stage.reason"


class Changes:
    """The handlers of the forms; each takes the fields and returns the address of the page to show."""

    def __init__(self, context: MLOpsContext) -> None:
        self._context = context
        self._tracker = context.experiment_tracker
        self._registry = context.model_registry

    def routes(self) -> list[Route]:
        """Return a route for each change."""
        changes = {
            "note": self._note,
            "tag": self._tag,
            "untag": self._untag,
            "rename-run": self._rename_run,
            "delete-run": self._delete_run,
            "restore-run": self._restore_run,
            "rename-experiment": self._rename_experiment,
            "delete-experiment": self._delete_experiment,
            "restore-experiment": self._restore_experiment,
            "save-view": self._save_view,
            "drop-view": self._drop_view,
            "stage": self._stage,
            "rollback": self._rollback,
            "alias": self._alias,
            "unalias": self._unalias,
            "describe": self._describe,
        }
        return [
            Route(f"/change/{name}", _handler(change), methods=["POST"])
            for name, change in changes.items()
        ]

    # Runs

    def _note(self, form: _Form) -> str:
        run_id, text = form.needed("run_id"), form.text("text").replace("\r\n", "\n").strip()
        if text:
            self._tracker.set_tag(run_id, NOTE, text)
        else:
            self._tracker.delete_tag(run_id, NOTE)
        return f"/runs/{run_id}"

    def _tag(self, form: _Form) -> str:
        run_id = form.needed("run_id")
        self._tracker.set_tag(run_id, form.needed("key").strip(), form.text("value"))
        return f"/runs/{run_id}"

    def _untag(self, form: _Form) -> str:
        run_id = form.needed("run_id")
        self._tracker.delete_tag(run_id, form.needed("key"))
        return f"/runs/{run_id}"

    def _rename_run(self, form: _Form) -> str:
        run_id = form.needed("run_id")
        self._tracker.rename_run(run_id, form.needed("name").strip())
        return f"/runs/{run_id}"

    def _delete_run(self, form: _Form) -> str:
        run_id = form.needed("run_id")
        self._tracker.delete_run(run_id)
        return f"/runs/{run_id}"

    def _restore_run(self, form: _Form) -> str:
        run_id = form.needed("run_id")
        self._tracker.restore_run(run_id)
        return f"/runs/{run_id}"

    # Experiments

    def _rename_experiment(self, form: _Form) -> str:
        experiment_id = form.needed("experiment_id")
        self._tracker.rename_experiment(experiment_id, form.needed("name").strip())
        return _experiment(experiment_id)

    def _delete_experiment(self, form: _Form) -> str:
        self._tracker.delete_experiment(form.needed("experiment_id"))
        return "/"

    def _restore_experiment(self, form: _Form) -> str:
        experiment_id = form.needed("experiment_id")
        self._tracker.restore_experiment(experiment_id)
        return _experiment(experiment_id)

    def _save_view(self, form: _Form) -> str:
        experiment_id = form.needed("experiment_id")
        saved = save_view(
            self._tracker,
            experiment_id,
            form.needed("name"),
            form.needed("kind"),
            form.text("query"),
        )
        return _experiment(experiment_id) + saved.address

    def _drop_view(self, form: _Form) -> str:
        experiment_id = form.needed("experiment_id")
        drop_view(self._tracker, experiment_id, form.needed("name"))
        return _experiment(experiment_id)

    # Models

    def _stage(self, form: _Form) -> str:
        name, version = form.needed("name"), form.version()
        stages = {str(stage): stage for stage in ModelStage}
        if form.needed("stage") not in stages:
            raise ValidationError(f"stage is one of {', '.join(stages)}.")
        made = self._registry.promote_model(name, version, stages[form.needed("stage")])
        self._give_reason(form, name, version, str(made.stage))
        return _model(name, version)

    def _rollback(self, form: _Form) -> str:
        name = form.needed("name")
        made = self._registry.rollback(name)
        self._give_reason(form, name, made.version, f"{made.stage} by rollback")
        return _model(name, made.version)

    def _give_reason(self, form: _Form, name: str, version: int, what: str) -> None:
        reason = form.text("reason").strip()
        if reason:
            self._registry.set_tag(name, version, REASON, f"{what}: {reason}")

    def _alias(self, form: _Form) -> str:
        name, version = form.needed("name"), form.version()
        self._registry.set_alias(name, form.needed("alias").strip(), version)
        return _model(name, version)

    def _unalias(self, form: _Form) -> str:
        name = form.needed("name")
        self._registry.delete_alias(name, form.needed("alias"))
        return _model(name)

    def _describe(self, form: _Form) -> str:
        name, version = form.needed("name"), form.version()
        self._registry.annotate(
            name, version, form.text("description").replace("\r\n", "\n").strip()
        )
        return _model(name, version)


class _Form:
    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def text(self, name: str) -> str:
        """Return a field that may be empty."""
        return self._fields.get(name, "")

    def needed(self, name: str) -> str:
        """Return a field; raises `ValidationError` where it is empty."""
        text = self.text(name)
        if not text.strip():
            raise ValidationError(f"The form lacks {name}.")
        return text

    def version(self) -> int:
        """Return the number of a version."""
        text = self.needed("version")
        if not text.isdecimal() or len(text) > 9:
            raise ValidationError(f"version is a whole number, not {text!r:.80}.")
        return int(text)


def _handler(change: Callable[[_Form], str]) -> Callable[[Request], object]:
    async def handle(request: Request) -> Response:
        body = (await request.body()).decode("utf-8", "replace")
        form = _Form(dict(parse_qsl(body, keep_blank_values=True)))
        return RedirectResponse(await run_in_threadpool(change, form), 303)

    return handle


def _experiment(experiment_id: str) -> str:
    return f"/experiments/{quote(experiment_id, safe='')}"


def _model(name: str, version: int | None = None) -> str:
    return f"/models/{quote(name, safe='')}" + (f"#v{version}" if version else "")
