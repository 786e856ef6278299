"""``mlflow.genai.evaluate`` runs from its data to its scores on a store of ours: in the process, and through a server."""

from __future__ import annotations

import ast

import pytest

PROGRAM = """
import sys, uuid, warnings
warnings.simplefilter("ignore")
sys.modules["pyspark"] = None  # pyspark-client ends the process where MLflow looks for a cluster
import mlflow
from mlflow.entities import Feedback
from mlflow.genai.datasets import create_dataset, get_dataset
from mlflow.genai.scorers import scorer

mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_registry_uri(sys.argv[1])
experiment = mlflow.set_experiment(f"evaluation-{uuid.uuid4().hex}")

@scorer
def exact(outputs, expectations):
    return outputs == expectations["expected_response"]

@scorer
def length(outputs):
    return Feedback(name="length", value=len(outputs), rationale="counted")

@mlflow.trace
def answer(question):
    with mlflow.start_span("look up", span_type="RETRIEVER") as span:
        span.set_inputs({"q": question})
    return "Paris" if "France" in question else "?"

rows = [
    {"inputs": {"question": "France?"}, "expectations": {"expected_response": "Paris"}},
    {"inputs": {"question": "Spain?"}, "expectations": {"expected_response": "Madrid"}},
]
made = create_dataset("capitals", experiment_id=[experiment.experiment_id], tags={"team": "ds"})
made.merge_records(rows)
dataset = get_dataset(dataset_id=made.dataset_id)
found = {}
for name, data in (("rows", rows), ("dataset", dataset)):
    done = mlflow.genai.evaluate(data=data, predict_fn=answer, scorers=[exact, length])
    traces = mlflow.search_traces(locations=[experiment.experiment_id], run_id=done.run_id, return_type="list")
    found[name] = {
        "metrics": {key: float(value) for key, value in done.metrics.items()},
        "run": mlflow.get_run(done.run_id).data.metrics,
        # Whole numbers go over HTTP as floats.
        "scores": sorted((a.name, f"{a.value:g}" if type(a.value) in (int, float) else str(a.value)) for t in traces for a in t.info.assessments),
        "spans": sorted(s.name for t in traces for s in t.data.spans),
        "states": [str(t.info.state.value) for t in traces],
    }
best = mlflow.search_traces(
    locations=[experiment.experiment_id], filter_string="feedback.exact = 'true'", return_type="list"
)
found["right"] = len(best)
mlflow.set_trace_tag(best[0].info.trace_id, "checked", "yes")
found["tag"] = mlflow.get_trace(best[0].info.trace_id).info.tags["checked"]
mlflow.log_feedback(trace_id=best[0].info.trace_id, name="human", value="good")
found["human"] = mlflow.get_trace(best[0].info.trace_id).search_assessments("human")[0].value
mlflow.MlflowClient().delete_traces(experiment.experiment_id, trace_ids=[best[0].info.trace_id])
found["left"] = len(mlflow.search_traces(locations=[experiment.experiment_id], return_type="list"))
print("FOUND", found)
"""


@pytest.mark.parametrize("address", ["uri", "our_server"])
def test_an_evaluation_runs_end_to_end(address, request, elsewhere):
    """Predictions become traces, scorers assess them, the run has the means; a dataset gives the same."""
    code, text = elsewhere.run(PROGRAM, request.getfixturevalue(address))
    assert code == 0, text[-3000:]
    found = ast.literal_eval(text.rpartition("FOUND ")[2])
    means = {"exact/mean": 0.5, "length/mean": 3.0}
    scores = [("exact", "False"), ("exact", "True"), ("length", "1"), ("length", "5")]
    for name in ("rows", "dataset"):
        one = found[name]
        assert (one["metrics"], one["run"]) == (means, means)
        assert set(scores) <= set(one["scores"])
        assert one["spans"] == ["answer", "answer", "look up", "look up"]
        assert one["states"] == ["OK", "OK"]
    assert (found["right"], found["tag"], found["human"]) == (2, "yes", "good")
    assert found["left"] == 3
