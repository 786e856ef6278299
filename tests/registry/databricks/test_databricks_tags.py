"""Tags of models and experiments on the volume and the table that hold them, and nothing else there."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.registry import InvalidValueError
from ops.registry.databricks.catalog_tags import literal, together

pytestmark = pytest.mark.service

HOSTILE = [
    "x'); DROP TABLE ops_runs; --",
    "\\",
    "a\\'b",
    'a"b',
    "a`b",
    "a\nb",
    "\0",
    "\ud800",
    "\u200b",
]


@pytest.fixture
def tags(warehouse, schema):
    """Return the tags of a securable of the schema."""
    return lambda name: warehouse.seen()["tags"].get(f"main.{schema}.{name}", {})


@pytest.fixture
def altered(warehouse):
    """Return how many statements changed tags since."""

    def count():
        return sum(" TAGS " in text for text in warehouse.seen()["statements"])

    before = count()
    return lambda: count() - before


def test_the_volume_says_what_the_tags_of_models_say(registry, artifact, tags, altered):
    registry.register_model("a", artifact, "binary", "mine", tags={"team": "ds", "pii": "no"})
    assert tags("ops_artifacts") == {"ops_team": "ds", "ops_pii": "no"}
    registry.register_model("b", artifact, "binary", "mine", tags={"team": "risk"})
    registry.set_tag("b", 1, "team", "risk")
    assert tags("ops_artifacts") == {"ops_team": "ds; risk", "ops_pii": "no"}
    assert altered() == 2
    registry.delete_model("a")
    assert tags("ops_artifacts") == {"ops_team": "risk"}


def test_the_table_of_runs_says_what_the_tags_of_experiments_say(tracker, tags):
    tracker.create_experiment("one", tags={"team": "ds"})
    tracker.create_experiment("two", tags={"domain": "credit"})
    assert tags("ops_runs") == {"ops_team": "ds", "ops_domain": "credit"}


def test_what_has_no_tags_asks_nothing(registry, tracker, artifact, altered, warehouse):
    registry.register_model("a", artifact, "binary", "mine")
    tracker.create_experiment("one")
    assert altered() == 0
    assert not any("information_schema" in s for s in warehouse.seen()["statements"][-10:])


def test_tags_of_others_stay(registry, artifact, tags):
    registry.list_models()
    volume = registry.warehouse.table("ops_artifacts")
    registry.warehouse.define(f"ALTER VOLUME {volume} SET TAGS ('team' = 'platform')")
    registry.register_model("a", artifact, "binary", "mine", tags={"team": "ds"})
    registry.delete_model("a")
    assert tags("ops_artifacts") == {"team": "platform"}


def test_without_the_privilege_work_goes_on_and_it_is_said_once(
    registry, artifact, tags, warehouse, caplog
):
    warehouse.control(deny_tags=True)
    with caplog.at_level(logging.WARNING, "ops.registry"):
        registry.register_model("a", artifact, "binary", "mine", tags={"team": "ds"})
        registry.set_tag("a", 1, "team", "risk")
    assert registry.get_model_version("a").metadata.tags == {"team": "risk"}
    assert len([r for r in caplog.records if "APPLY TAG" in r.getMessage()]) == 1
    assert tags("ops_artifacts") == {}


def test_mirroring_can_be_switched_off(new_context, artifact, tags, altered):
    registry = new_context(catalog_tags=False).model_registry
    registry.register_model("a", artifact, "binary", "mine", tags={"team": "ds"})
    assert altered() == 0


@pytest.mark.parametrize("text", HOSTILE)
def test_what_could_end_a_literal_is_not_said(text):
    with pytest.raises(InvalidValueError):
        literal(text)
    assert together([{"key": text}, {text: "value"}]) == {}


def test_hostile_tags_are_kept_and_not_mirrored(registry, artifact, tags):
    values = {f"k{n}": text for n, text in enumerate(HOSTILE)}
    registry.register_model("a", artifact, "binary", "mine", tags=values | {"mail": "me@ops_x.y"})
    assert registry.get_model_version("a").metadata.tags == values | {"mail": "me@ops_x.y"}
    assert tags("ops_artifacts") == {"ops_mail": "me@ops_x.y"}


@given(st.text())
def test_a_literal_is_one_whatever_it_has(text):
    try:
        said = literal(text)
    except InvalidValueError:
        return
    assert re.fullmatch(r"'[^'\"`\\\x00-\x1f\x7f]*'", said)
    assert said[1:-1] == text


def test_what_unity_catalog_does_not_allow_is_left_out():
    assert together([{"a.b": "1", "c-d": "1", "e=f": "1", "g/h": "1", "i:j": "1", "ok": "1"}]) == {
        "ops_ok": "1"
    }
    assert len(together([{f"k{n}": "v" for n in range(99)}])) == 50
    assert len(together([{"k": f"{n:0300}"} for n in range(9)])["ops_k"]) == 1000
