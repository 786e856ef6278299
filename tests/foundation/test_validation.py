"""Every issue is reported, with its place."""

import pytest

from ops.foundation import (
    PipelineValidator,
    ValidationError,
    validate_pipeline_config,
    validate_python_version,
    validate_resource_requirements,
)


@pytest.mark.parametrize(
    ("specifier", "valid"),
    [(">=3.11,<3.15", True), ("<3.11", False), ("==3.12.*", True), ("~=3.11", True), ("x", False)],
)
def test_python_versions(specifier, valid):
    assert validate_python_version(specifier, (3, 12, 1)).valid is valid


def test_all_issues_of_a_pipeline_are_reported_and_the_cycle_is_named():
    steps = [
        {"name": "a", "depends_on": ["b"]},
        {"name": "b", "depends_on": ["a", "nowhere"]},
        {"name": "a"},
        {},
    ]
    result = validate_pipeline_config({"steps": steps})
    assert {i.code for i in result.get_errors()} == {
        "CYCLE",
        "UNKNOWN_STEP",
        "DUPLICATE",
        "NO_NAME",
    }
    assert any("a -> b -> a" in i.message for i in result.issues)
    with pytest.raises(ValidationError, match="nowhere"):
        result.raise_if_invalid()


def test_a_long_chain_without_a_cycle_is_valid():
    steps = [{"name": str(i), "depends_on": [str(i + 1)]} for i in range(5000)]
    assert validate_pipeline_config({"steps": [*steps, {"name": "5000"}]}).valid


def test_kubernetes_quantities():
    good = {"cpu": "500m", "memory": "512Mi", "gpu": 1}
    assert validate_resource_requirements(good).valid
    bad = {"cpu": "half", "memory": "512MB", "gpu": -1, "soul": 1}
    assert len(validate_resource_requirements(bad).get_errors()) == 4
    assert not validate_resource_requirements({"cpu": 0}).valid


@pytest.mark.parametrize(
    "check",
    [
        validate_pipeline_config,
        validate_resource_requirements,
        PipelineValidator().validate,
    ],
)
def test_an_empty_document_is_an_issue_and_no_crash(check):
    assert [i.code for i in check(None).issues] == ["WRONG_TYPE"]


def test_every_cycle_is_reported():
    steps = [
        {"name": "a", "depends_on": ["b"]},
        {"name": "b", "depends_on": ["a", "c"]},
        {"name": "c", "depends_on": ["c"]},
    ]
    messages = [i.message for i in validate_pipeline_config({"steps": steps}).issues]
    assert [m.removeprefix("The steps form a cycle: ") for m in messages] == [
        "a -> b -> a.",
        "c -> c.",
    ]
