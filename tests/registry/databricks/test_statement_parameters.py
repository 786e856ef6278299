"""Values of statements: 64 bits for floats, and never more parameters than Databricks takes."""

from __future__ import annotations

import ast
import json
import math
import pathlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ops.registry.databricks
from ops.registry.databricks.parameters import MOST_PARAMETERS, Values, bound, fitted
from ops.registry.databricks.runsql import RunSearch
from ops.registry.search.filters import Kind, comparison

SOURCE = pathlib.Path(ops.registry.databricks.__file__).parent


@pytest.fixture
def old_connector(monkeypatch):
    """Let the connector infer 32 bits for floats, as it does before version 4.2.6."""
    native = pytest.importorskip("databricks.sql.parameters.native")
    infer = native.dbsql_parameter_from_primitive

    def inferred(value, name=None):
        kind = native.FloatParameter if isinstance(value, float) else infer
        return kind(value=value, name=name)

    monkeypatch.setattr(native, "dbsql_parameter_from_primitive", inferred)


def kinds(parameters):
    _, made = bound("SELECT 1", parameters)
    return {one.name: type(one).__name__ for one in made}


def test_a_float_is_bound_with_64_bits_whatever_the_connector_infers(old_connector):
    found = kinds({"f": 0.9, "nan": math.nan, "i": 1, "t": "x", "b": True, "n": None})
    assert (found["f"], found["nan"]) == ("DoubleParameter", "DoubleParameter")
    assert found["i"] == "IntegerParameter"
    assert (found["t"], found["b"], found["n"]) == (
        "StringParameter",
        "BooleanParameter",
        "VoidParameter",
    )


def test_a_statement_without_values_has_none():
    assert bound("SELECT 1", {}) == ("SELECT 1", None)


@given(st.integers(0, 3 * MOST_PARAMETERS))
def test_no_statement_has_more_parameters_than_databricks_takes(count):
    values = {f"p{n}": n for n in range(count)}
    text = " + ".join(f":{name}" for name in values) or "1"
    statement, parameters = fitted(f"SELECT {text}", values)
    assert len(parameters) <= MOST_PARAMETERS
    markers = set(re.findall(r":(\w+)", statement))
    assert markers == set(parameters)


def test_what_is_beyond_keeps_its_value_and_its_type():
    values: dict[str, object] = {f"p{n}": "x" for n in range(MOST_PARAMETERS - 1)}
    values |= {"f": 0.1, "i": 2**60, "b": False, "n": None, "t": 'it\'s "ü" \\ :f'}
    statement, parameters = fitted("SELECT :f, :i, :b, :n, :t, :p1, ':p1x'", values)
    packed = json.loads(parameters["packed_values"])
    assert packed == ["0.1", str(2**60), "false", None, 'it\'s "ü" \\ :f']
    elements = [f"element_at(from_json(:packed_values, 'array<string>'), {n})" for n in range(1, 6)]
    assert statement == (
        f"SELECT CAST({elements[0]} AS DOUBLE), CAST({elements[1]} AS BIGINT), "
        f"CAST({elements[2]} AS BOOLEAN), {elements[3]}, {elements[4]}, :p1, ':p1x'"
    )


@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_short_list_stays_one(count):
    values = Values()
    assert values.among([f"e{n}" for n in range(count)]).count(":p") == count


def test_a_long_list_is_one_parameter():
    values = Values()
    listed = [f"e{n}" for n in range(300)]
    assert values.among(listed) == "(SELECT explode(from_json(:p0, 'array<string>')))"
    assert json.loads(values.parameters["p0"]) == listed


def test_a_search_over_many_experiments_with_many_comparisons_can_be_sent():
    from ops.registry.search.filters import Either

    tests = tuple(comparison(f"metrics.m{n}", Kind.NUMBER, ">", n + 0.5) for n in range(200))
    search = RunSearch([f"e{n}" for n in range(300)], Either(tests), None, 10)
    for text in (search.statement, search.counting):
        statement, parameters = fitted(text, search.parameters)
        assert len(parameters) <= MOST_PARAMETERS
        assert set(re.findall(r"(?<!:):([a-z]\w*)", statement)) <= set(parameters)


def calls_of(name):
    """Yield (file, function) of each call of a method *name* in the backend."""
    for path in sorted(SOURCE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if is_method and node.func.attr == name:
                yield path.name, ast.unparse(node)


def test_every_statement_passes_the_one_function_that_cuts_it():
    assert list(calls_of("execute")) == [
        ("warehouse.py", "cursor.execute(*bound(statement, parameters))")
    ]
    for other in ("executemany", "execute_async", "callproc"):
        assert list(calls_of(other)) == []
