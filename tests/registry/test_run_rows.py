"""Rows and frames of runs: what is written is read as it was, and nothing of another shape is."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.registry import RunStatus
from ops.registry.disk.journal import decode, encode
from ops.registry.run_frames import (
    ArtifactLogged,
    ExtraAdded,
    ParametersLogged,
    RunChanged,
    RunEnded,
    RunStarted,
    TagsSet,
    WriterAdded,
    frame_of,
)
from ops.registry.run_rows import KeptArtifact, RunningSummary, RunRow

FRAMES = [
    RunStarted("r", "e", "n", 5, "p", {"t": "x"}, ["boot", 1, 2], 30.0),
    RunStarted("r", "e", "n", 5, started_at=3),
    RunEnded(RunStatus.FAILED, 7, "ValueError: no"),
    RunChanged({"status": "RUNNING", "end": None}, 8),
    ExtraAdded("user", "me", 9),
    WriterAdded("w", None, 10),
    ParametersLogged({"depth": 3, "far": math.inf}, 11),
    TagsSet({"a": "b", "c": None}, 12),
    ArtifactLogged(KeptArtifact("m/x", 3, "ab"), 13),
    ArtifactLogged(KeptArtifact("m/x", 3, "ab", "s3://bucket/x")),
]


def whole():
    row = RunStarted("r", "e", "n", 5, "p", {"t": "x"}, ["boot", 1, 2], 30.0).row()
    row.params["depth"] = [1, {"x": None}]
    row.metrics["loss"] = RunningSummary.of(0.5, 1, 7)
    row.artifacts += [KeptArtifact("a", 1, "c"), KeptArtifact("b", 1, "c", "s3://bucket/b")]
    row.add_extra("user", "me")
    row.change("deleted", 9)
    row.change("of a later version", {"x": 1})
    return row


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_comes_back_as_it_was(frame):
    assert frame_of(decode(encode(frame.plain()))) == frame


def test_a_row_comes_back_as_it_was():
    text = encode(whole().plain())
    assert RunRow.from_plain(decode(text)) == whole()
    assert encode(RunRow.from_plain(decode(text)).plain()) == text


def test_a_row_of_a_version_without_heartbeats_is_read():
    plain = whole().plain()
    del plain["beat"]
    assert RunRow.from_plain(plain).heartbeat_seconds == 0


_BAD = {
    "run_id": [3, None],
    "name": [{}, 3],
    "status": ["DONE", None, []],
    "start": ["now", None],
    "end": ["now", []],
    "parent": [3],
    "error": [{}],
    "params": [[], None],
    "tags": ["x"],
    "metrics": [{"m": [1.0]}, {"m": 3}, {"m": ["1"] * 8}, []],
    "artifacts": [[["x"]], 3, [["a", 1, "c", "d", "e"]]],
    "owners": [None],
    "writers": ["main"],
    "beat": ["often"],
    "deleted": ["yes"],
    "extra": [[], {"user": "me"}],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, many in _BAD.items() for v in many])
def test_a_row_of_another_shape_is_refused(key, value):
    with pytest.raises(ValueError, match=r"run|valid RunStatus|summary"):
        RunRow.from_plain(whole().plain() | {key: value})


@pytest.mark.parametrize("found", [None, 3, "row", [], {}])
def test_what_is_no_row_is_refused(found):
    with pytest.raises(ValueError, match="no row of a run"):
        RunRow.from_plain(found)


@pytest.mark.parametrize("key", ["run_id", "params", "metrics", "artifacts", "extra", "beat"])
def test_a_change_cannot_replace_what_frames_of_their_own_are_for(key):
    with pytest.raises(ValueError, match="cannot be replaced"):
        whole().change(key, {})


def test_a_copy_is_not_changed_by_what_comes_later():
    row = whole()
    copy = row.copy()
    row.metrics["loss"].add(9.0, 9, 9)
    row.params["more"] = 1
    row.tags.clear()
    row.artifacts.clear()
    row.owners.append(None)
    row.writers.append("w")
    row.add_extra("user", "you")
    row.change("deleted", None)
    row.change("name", "other")
    assert copy == whole()


POINTS = st.lists(
    st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 3), st.integers(0, 3)),
    min_size=1,
    max_size=6,
)


@given(POINTS, st.randoms(use_true_random=False))
def test_a_summary_does_not_depend_on_the_order_of_points(points, chance):
    points = [one for one in points if not math.isnan(one[0])] or [(1.0, 0, 0)]
    others = list(points)
    chance.shuffle(others)
    found = []
    for order in (points, others):
        summary = RunningSummary.of(*order[0])
        for point in order[1:]:
            summary.add(*point)
        found.append(summary)
    assert found[0] == found[1]
    values = [value for value, _, _ in points]
    assert (found[0].minimum, found[0].maximum) == (min(values), max(values))
    assert found[0].count == len(points)
    assert found[0].last_step == max(step for _, step, _ in points)


def test_nan_counts_only_where_there_is_nothing_else():
    summary = RunningSummary.of(math.nan, 0, 0)
    assert math.isnan(summary.minimum)
    summary.add(2.0, 1, 1)
    summary.add(math.nan, 2, 2)
    kept = dataclasses.asdict(summary)
    assert (kept["minimum"], kept["maximum"], kept["count"]) == (2.0, 2.0, 3)
    assert (kept["minimum_step"], kept["maximum_step"]) == (1, 1)
    assert math.isnan(summary.last)
