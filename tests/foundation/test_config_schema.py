"""Configurations and pipelines against their schemas: every difference, with its place."""

from types import NoneType

import pytest

from ops.foundation import ConfigValidator, Field, PipelineValidator

SCHEMA = {
    "name": Field(str, pattern=r"[a-z]+"),
    "epochs": Field(int, at_least=1, at_most=100, required=False),
    "rate": float,
    "stages": Field(list, at_least=1, items={"kind": Field(str, choices=("load", "fit"))}),
}
GOOD = {"name": "a", "epochs": 3, "rate": 1, "stages": [{"kind": "fit"}]}


def problems(**changes):
    result = ConfigValidator(SCHEMA).validate({**GOOD, **changes})
    assert result.valid == (not result.issues)
    return [(i.field, i.code) for i in result.issues]


def test_a_configuration_that_fits_has_no_issues():
    assert problems() == []
    assert problems(epochs=100) == []


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"name": "A1"}, "name", "BAD_FORM"),
        ({"name": 5}, "name", "WRONG_TYPE"),
        ({"epochs": 0}, "epochs", "OUT_OF_RANGE"),
        ({"epochs": 101}, "epochs", "OUT_OF_RANGE"),
        ({"epochs": True}, "epochs", "WRONG_TYPE"),
        ({"rate": "fast"}, "rate", "WRONG_TYPE"),
        ({"stages": []}, "stages", "OUT_OF_RANGE"),
        ({"stages": [{"kind": "fit"}, {"kind": "fly"}]}, "stages[1].kind", "NOT_A_CHOICE"),
        ({"stages": [{}]}, "stages[0].kind", "MISSING"),
        ({"stages": ["fit"]}, "stages[0]", "WRONG_TYPE"),
        ({"more": 1}, "more", "UNKNOWN"),
    ],
)
def test_each_difference_has_its_place_and_code(changes, field, code):
    assert problems(**changes) == [(field, code)]


def test_all_differences_are_reported_together():
    assert len(problems(name=1, epochs=0, rate=None, stages=5, more=1)) == 5


def test_not_a_number_is_out_of_every_range():
    schema = ConfigValidator({"x": Field(float, at_least=0)})
    assert not schema.validate({"x": float("nan")}).valid


def test_a_misspelt_name_gets_the_near_one_suggested():
    result = ConfigValidator({"learning_rate": float}).validate({"learning_rat": 0.1})
    hints = {i.code: i.suggestion for i in result.issues}
    assert hints == {"MISSING": None, "UNKNOWN": "Did you mean 'learning_rate'?"}
    loose = ConfigValidator({}, allow_unknown=True)
    assert loose.validate({"anything": 1}).valid
    assert not loose.validate(["no mapping"]).valid


def test_a_check_of_ones_own_says_what_is_wrong():
    even = Field(int, check=lambda n: f"{n} is odd." if n % 2 else None)
    schema = ConfigValidator({"n": even})
    assert schema.validate({"n": 2}).valid
    assert schema.validate({"n": 3}).issues[0].message == "3 is odd."


def load(path: str) -> list[int]:
    return [len(path)]


def test_a_pipeline_is_checked_with_its_functions_resources_and_python():
    validator = PipelineValidator({"load": load, "fit": lambda *rows: rows})
    steps = [
        {"name": "load", "resources": {"cpu": "500m"}},
        {"name": "fit", "depends_on": ["load"], "resources": {"memory": "lots"}},
        {"name": "save", "resources": "all"},
        {"name": "send", "function": load, "depends_on": ["nowhere"]},
    ]
    result = validator.validate({"steps": steps, "python": "<3"})
    assert {(i.field, i.code) for i in result.get_errors()} == {
        ("python", "PYTHON_VERSION"),
        ("steps[1].function.rows", "VAR_POSITIONAL"),
        ("steps[1].resources.memory", "BAD_QUANTITY"),
        ("steps[2].function", "UNKNOWN_FUNCTION"),
        ("steps[2].resources", "BAD_RESOURCES"),
        ("send", "UNKNOWN_STEP"),
    }
    assert not result.valid


def test_without_functions_at_hand_they_are_not_looked_for():
    assert PipelineValidator().validate({"steps": [{"name": "load"}]}).valid
    assert not PipelineValidator().validate({"steps": 5}).valid
    assert not PipelineValidator().validate({"steps": [{"name": "a", "depends_on": [{}]}]}).valid


def test_a_value_that_may_be_none_has_neither_bounds_nor_form_then():
    optional = Field((int, str, list, NoneType), at_least=1, pattern="x", items=int)
    assert ConfigValidator({"a": optional}).validate({"a": None}).valid
