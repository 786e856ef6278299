# mypy: disable-error-code="no-untyped-call"
# (MLflow's entities are not annotated throughout)
"""What MLflow asks a tracking store about assessments: what people, code and judges say about traces."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ops.registry.mlflow.errors import exists, invalid, missing
from ops.registry.mlflow.trace_calls import TraceCalls
from ops.registry.mlflow.trace_entities import assessment_fields, to_assessment

if TYPE_CHECKING:
    from mlflow.entities import Assessment
    from mlflow.entities.assessment import ExpectationValue, FeedbackValue

    from ops.registry.traces.state import Trace

__all__ = ["AssessmentCalls"]


class AssessmentCalls(TraceCalls):
    """Creates, changes, returns and deletes assessments."""

    def create_assessment(self, assessment: Assessment) -> Assessment:
        """Add an assessment to its trace; the one that it overrides is invalid from then on."""
        trace = self._trace(str(assessment.trace_id))
        if assessment.overrides and assessment.overrides not in trace.assessments:
            raise _no_assessment(assessment.overrides, trace.trace_id)
        fields = assessment_fields(assessment)
        if fields["id"] in trace.assessments:
            raise exists(f"Trace {trace.trace_id!r} has an assessment {fields['id']!r} already.")
        self.traces.change(trace, "assess", a=fields)
        return self.get_assessment(trace.trace_id, fields["id"])

    def get_assessment(self, trace_id: str, assessment_id: str) -> Assessment:
        """Return an assessment of a trace."""
        return to_assessment(trace_id, self._assessment(self._trace(trace_id), assessment_id))

    def update_assessment(
        self,
        trace_id: str,
        assessment_id: str,
        name: str | None = None,
        expectation: ExpectationValue | None = None,
        feedback: FeedbackValue | None = None,
        rationale: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Assessment:
        """Change what is given, and of *metadata* the keys that it has; the kind, source and span stay."""
        trace = self._trace(trace_id)
        fields = dict(self._assessment(trace, assessment_id))
        if expectation is not None and feedback is not None:
            raise invalid("Cannot specify both `expectation` and `feedback` parameters.")
        if expectation is not None and fields["kind"] != "expectation":
            raise invalid("Cannot update expectation value on a Feedback assessment.")
        if feedback is not None and fields["kind"] == "expectation":
            raise invalid("Cannot update feedback value on an Expectation assessment.")
        if expectation is not None:
            fields["value"] = expectation.value
        if feedback is not None:
            fields["value"] = feedback.value
            fields["error"] = (feedback.error and feedback.error.to_dictionary()) or None
        fields["name"] = fields["name"] if name is None else name
        if rationale is not None and fields["kind"] != "expectation":
            fields["rationale"] = rationale
        fields["metadata"] = {**(fields["metadata"] or {}), **(metadata or {})} or None
        fields["updated"] = int(time.time() * 1000)
        self.traces.change(trace, "assess", a=fields)
        return self.get_assessment(trace_id, assessment_id)

    def delete_assessment(self, trace_id: str, assessment_id: str) -> None:
        """Delete an assessment, if it is there; the one that it overrode is valid again."""
        trace = self._trace(trace_id)
        if assessment_id in trace.assessments:
            self.traces.change(trace, "unassess", a=assessment_id)

    def _assessment(self, trace: Trace, assessment_id: str) -> dict[str, Any]:
        found = trace.assessments.get(assessment_id)
        if found is None:
            raise _no_assessment(assessment_id, trace.trace_id)
        return found


def _no_assessment(assessment_id: str, trace_id: str) -> Exception:
    return missing(f"Assessment with ID '{assessment_id}' not found for trace '{trace_id}'")
