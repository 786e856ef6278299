"""Testing a real workspace step by step: what works, how long it takes, and which privilege is missing.

This backend is tested against a stand-in, so the first look at a workspace is a test of the backend too. Each step does
with objects of its own (``ops_doctor_…``) what the backend does with its tables and its volume, and removes them. A
step whose requirement failed is skipped. What comes out is a report that can be sent to the maintainers: it has no
secret, no name of a host and no row of the store.

Steps, in their order: packages, settings, credentials, workspace (REST and TLS), session (a cold start), latency,
parameters (64 bits, 255 of them), schema, tables, conflicts (two sessions at once), volume, files (Files API), tags.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any, Literal

from ops.foundation.errors import OpsError
from ops.foundation.files import temporary_directory
from ops.registry.databricks.failures import Failure, failure_in
from ops.registry.databricks.workspace_steps import Limited, WorkspaceSteps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ops.registry.configuration import MLOpsConfig

__all__ = ["Examination", "Step", "examine"]

_LONGEST = 300


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """What one step found.

    Attributes:
        name: Which step.
        status: "ok"; "failed"; "limited" where something does not work that the backend can do without;
            "skipped" where a step before it failed.
        seconds: How long it took.
        found: A sentence.
        advice: What to do, empty where there is nothing.
    """

    name: str
    status: Literal["ok", "failed", "limited", "skipped"]
    seconds: float
    found: str
    advice: str = ""


@dataclasses.dataclass(slots=True)
class Examination:
    """The steps in their order, and the versions of what took part."""

    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    steps: list[Step] = dataclasses.field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether no step failed."""
        return all(step.status != "failed" for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values; there is no secret in it."""
        return dataclasses.asdict(self) | {"is_sound": self.is_sound}


def examine(
    config: MLOpsConfig,
    *,
    environ: Mapping[str, str] | None = None,
    progress: Callable[[Step], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Examination:
    """Test the workspace that *config* and the environment name.

    Args:
        config: Its catalog and schema count, and how long a warehouse may take to start.
        environ: The variables; by default those of the process.
        progress: Is called with each step when it is done.
        clock: Seconds that only differences are taken of.
    """
    examination = Examination()
    with temporary_directory() as folder:
        steps = WorkspaceSteps(config, environ, folder, examination.versions, clock)
        with contextlib.closing(steps):
            for name, needs, work in steps.in_order():
                done = {step.name: step.status for step in examination.steps}
                if needs and done[needs] not in {"ok", "limited"}:
                    step = Step(name, "skipped", 0.0, f"{needs} must work first")
                else:
                    step = _done(name, work, steps.hidden, clock)
                examination.steps.append(step)
                if progress is not None:
                    progress(step)
    return examination


def _done(
    name: str,
    work: Callable[[], str],
    hidden: Callable[[str], str],
    clock: Callable[[], float],
) -> Step:
    """Do one step and return what it found."""
    began = clock()
    status: Literal["ok", "failed", "limited"] = "ok"
    advice = ""
    try:
        found = work()
    except Limited as limit:
        status, found = "limited", str(limit)
    except OpsError as error:
        status, found, advice = "failed", error.message, " ".join(error.suggestions)
        if failure_in(error) is Failure.DENIED:
            advice = "Ask for the privilege that the message names."
    except Exception as error:  # noqa: BLE001 - what does not work is what is reported
        status, found = "failed", f"{type(error).__name__}: {error}"
    seconds = round(clock() - began, 3)
    return Step(name, status, seconds, hidden(found)[:_LONGEST], hidden(advice)[:_LONGEST])
