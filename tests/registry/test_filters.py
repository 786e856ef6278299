"""The search language: what columns answer is what a naive evaluation of each row answers."""

from __future__ import annotations

import pathlib
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.registry import FilterError
from ops.registry.local.index import selection
from ops.registry.local.index.run_index import RunIndex
from ops.registry.search.filters import as_number
from ops.registry.search.parser import parse_filter
from ops.registry.search.query import KINDS, Query
from ops.registry.tracking.run_state import RunState

VALUES = st.one_of(
    st.sampled_from([1, 2, 10, "1", "10", "a", "b%", "true", True, False, None, 0.5, [1]]),
    st.text(max_size=3).filter(lambda t: t.isprintable()),
    st.floats(),
)
NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 2.5, float("nan"), float("inf"), 1e300])
TEXTS = st.sampled_from(["1", "10", "a", "true", "", "nan", "b%", "r1"])


@st.composite
def rows(draw):
    made = []
    for number in range(draw(st.integers(0, 6))):
        state = RunState(keep_history=False)
        start = {"e": "start", "v": 1, "run": f"r{number}", "exp": "e", "parent": None}
        name = draw(st.sampled_from(["r1", "10", "a", "aa"]))
        tags = {"t": draw(TEXTS)} if draw(st.booleans()) else {}
        when = draw(st.integers(0, 3))
        state.apply(start | {"name": name, "t": when, "tags": tags, "o": None})
        if draw(st.booleans()):
            state.apply({"p": {"p": draw(VALUES)}, "t": when})
        for step in range(draw(st.integers(0, 2))):
            state.apply({"m": [["m", draw(NUMBERS), step, when]]})
        state.apply({"e": "end", "status": "COMPLETED", "t": when + 1, "error": None})
        made.append(state.row)
    return made


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


SIGNS = st.sampled_from(["=", "==", "!=", "<>", "<", "<=", ">", ">="])
LITERALS = st.one_of(
    NUMBERS.filter(lambda n: abs(n) < 1e9).map(repr), st.sampled_from(["1", "10", "-3"])
)


@st.composite
def questions(draw):
    """Return the text of a comparison and what it says of a row, worked out on its own."""
    field = draw(st.sampled_from(["metrics.m", "metrics_max.m", "params.p", "tags.t", "name"]))
    if field.startswith("metrics"):
        literal = draw(LITERALS)
    else:
        literal = draw(st.one_of(LITERALS, TEXTS.map(quoted)))
    kind = draw(st.sampled_from(["compare", "null", "in"]))
    if kind == "null":
        negated = draw(st.booleans())
        text = f"{field} IS {'NOT ' if negated else ''}NULL"
        return text, lambda row: (value_of(row, field) is not None) is negated
    if kind == "in":
        return f"{field} IN ({literal})", lambda row: compares(row, field, "=", literal)
    sign = draw(SIGNS)
    return f"{field} {sign} {literal}", lambda row: compares(row, field, sign, literal)


def value_of(row, field):
    group, _, key = field.partition(".")
    if group == "metrics":
        return getattr(row.metrics.get(key), "last", None)
    if group == "metrics_max":
        return getattr(row.metrics.get(key), "maximum", None)
    found = getattr(row, group)
    if group == "params" and key in found and found[key] is None:
        return "null"  # it was logged, as None
    return found.get(key) if key else found


def compares(row, field, sign, literal):
    found = value_of(row, field)
    wanted = literal[1:-1].replace("''", "'") if literal.startswith("'") else literal
    if found is None:
        return False
    if field.startswith("metrics"):
        return python(sign, found, float(wanted))
    found = (
        {True: "true", False: "false"}.get(found, found)
        if found in (True, False) and isinstance(found, bool)
        else found
    )
    text = found if isinstance(found, str) else "[1]" if isinstance(found, list) else repr(found)
    if field == "name" or as_number(wanted) is None:
        return python(sign, text, wanted)
    number = as_number(text)
    return sign in {"!=", "<>"} if number is None else python(sign, number, as_number(wanted))


def python(sign, left, right):
    return {
        "=": left == right,
        "==": left == right,
        "!=": left != right,
        "<>": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[sign]


def combined(inner):
    pairs = st.tuples(inner, inner)
    return st.one_of(
        pairs.map(lambda p: (f"({p[0][0]}) AND ({p[1][0]})", lambda r: p[0][1](r) and p[1][1](r))),
        pairs.map(lambda p: (f"({p[0][0]}) or ({p[1][0]})", lambda r: p[0][1](r) or p[1][1](r))),
        inner.map(lambda p: (f"NOT ({p[0]})", lambda r: not p[1](r))),
    )


EXPRESSIONS = st.recursive(questions(), combined, max_leaves=4)
ORDERS = st.sampled_from(["metrics.m", "params.p", "tags.t", "name", "start_time", "end_time"])


@settings(max_examples=150)
@given(rows(), EXPRESSIONS, ORDERS, st.booleans(), st.integers(0, 4), st.integers(0, 6))
def test_columns_rows_and_a_naive_evaluation_agree(made, asked, field, descending, limit, split):
    text, holds = asked
    order = f"{field} {'DESC' if descending else 'ASC'}"
    with tempfile.TemporaryDirectory() as folder:
        ways = []
        for folded in (0, split, len(made)):  # nothing, some and all of it in the table
            index = RunIndex(pathlib.Path(folder) / f"{folded}-{len(ways)}")
            for row in made[:folded]:
                index.put(row)
            index.compact()
            for row in made[folded:]:
                index.put(row)
            found = selection.rows(Query(text), [index])
            asked_in_order = selection.rows(Query(text, order_by=order, limit=limit), [index])
            again = selection.rows(Query(text, order_by=order, limit=limit), [index])
            whole = selection.rows(Query(text, order_by=order), [index])
            size = limit or 1
            pages = [
                selection.rows(Query(text, order_by=order, limit=size, offset=place), [index])
                for place in range(0, len(made) + size, size)
            ]
            counted = selection.count(Query(text, limit=1), [index])
            index.close()
            ways.append([[r.run_id for r in f] for f in (found, asked_in_order, again)])
            assert [r.run_id for page in pages for r in page] == [r.run_id for r in whole]
            assert counted == len(found)
    expected = [r for r in made if holds(r)]
    expected.sort(key=lambda r: (r.start, r.run_id))
    assert ways[0][0] == [r.run_id for r in expected]
    assert ways[0] == ways[1] == ways[2]
    assert ways[0][1] == ways[0][2]


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("metrics.a = 'high'", 12, "compares with a number"),
        ("start_time > 'soon'", 13, "2026-01-31"),
        ("metrics.a like '1%'", 15, "no LIKE"),
        ("metrics.a in (1, 'x')", 17, "compares with a number"),
        ("groups.a = 1", 0, "no group"),
    ],
)
def test_what_a_field_cannot_be_compared_with_is_said(text, position, words):
    with pytest.raises(FilterError, match=words) as caught:
        parse_filter(text, KINDS)
    assert caught.value.position == position


def test_times_compare_with_dates(tracker, experiment):
    with tracker.run_context(experiment.experiment_id, "now"):
        pass
    tracker.compact()
    for text, names in [
        ("start_time > '2020-01-31'", ["now"]),
        ("start_time < '2020-01-31T10:00:00+01:00'", []),
        ("end_time < 1e999 and end_time > 0", ["now"]),
    ]:
        found = tracker.search_runs(experiment.experiment_id, filter=text)
        assert [r.name for r in found] == names


def test_long_whole_numbers_stay_exact(tracker, experiment):
    for name in ("1234567890123456788", "1234567890123456789"):
        with tracker.run_context(experiment.experiment_id, name, tags={"id": name}):
            pass
    text = "tags.id = 1234567890123456789"
    found = tracker.search_runs(experiment.experiment_id, filter=text)
    assert [r.name for r in found] == ["1234567890123456789"]
