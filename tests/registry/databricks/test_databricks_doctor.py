"""`ops-registry doctor`: every step on a workspace that works, and what a step reports where one does not."""

from __future__ import annotations

import json

import pytest

from ops.registry.__main__ import main
from ops.registry.databricks.tables import FORMAT

pytestmark = pytest.mark.service

STEPS = [
    "packages",
    "settings",
    "credentials",
    "workspace",
    "session",
    "latency",
    "parameters",
    "schema",
    "tables",
    "conflicts",
    "volume",
    "files",
    "tags",
]


@pytest.fixture
def doctor(warehouse, capsys, monkeypatch):
    """Examine a schema; return the exit code and the steps by their names."""
    for name in ("BACKEND", "CATALOG", "SCHEMA"):
        monkeypatch.delenv(f"OPS_MLOPS_{name}", raising=False)

    def examine(schema):
        code = main(["doctor", "--catalog", "main", "--schema", schema, "--json", "--quiet"])
        found = json.loads(capsys.readouterr().out)
        assert [step["name"] for step in found["steps"]] == STEPS
        return code, {step["name"]: step for step in found["steps"]}

    return examine


def statuses(steps):
    return {name: step["status"] for name, step in steps.items()}


def test_a_workspace_that_works_passes_every_step(doctor, schema, warehouse):
    code, steps = doctor(schema)
    assert (code, set(statuses(steps).values())) == (0, {"ok"}), steps
    assert f"format {FORMAT}" in steps["schema"]["found"]
    assert "type PRO" in steps["workspace"]["found"]
    assert "two sessions took 5 names once each" in steps["conflicts"]["found"]


def test_it_leaves_nothing_behind(doctor, schema, new_context):
    doctor(schema)
    context = new_context()
    tables = context.storage.warehouse.rows(f"SHOW TABLES IN {context.storage.warehouse.scope}")
    assert [row for row in tables if "doctor" in str(row)] == []
    volume = context.model_registry._artifacts.volume
    assert list(volume.files("doctor")) == []
    assert context.experiment_tracker.list_experiments() == []


def test_a_schema_that_is_not_there_is_made_and_tried(doctor, fresh_schema, schema):
    code, steps = doctor(schema)
    assert (code, set(statuses(steps).values())) == (0, {"ok"}), steps
    assert "no tables of ops-registry" in steps["schema"]["found"]


def test_without_credentials_the_first_step_fails_and_the_rest_is_skipped(
    doctor, schema, monkeypatch
):
    monkeypatch.delenv("DATABRICKS_TOKEN")
    code, steps = doctor(schema)
    assert code == 1
    assert steps["settings"]["status"] == "failed"
    assert "DATABRICKS_TOKEN" in steps["settings"]["found"]
    assert set(statuses(steps).values()) == {"ok", "failed", "skipped"}


def test_a_token_that_is_refused_is_reported_without_it(doctor, schema, warehouse, capsys):
    warehouse.control(token="another")
    code, steps = doctor(schema)
    assert (code, steps["workspace"]["status"]) == (1, "failed")
    assert steps["session"]["status"] == "failed"
    assert steps["latency"]["status"] == "skipped"
    assert "dapi-test" not in json.dumps(steps)


def test_no_report_names_the_host_or_a_secret(doctor, schema, warehouse, capsys):
    host = warehouse.host.removeprefix("http://").partition(":")[0]
    for faults in ({}, {"token": "another"}, {"deny": "CREATE"}):
        warehouse.control(**faults)
        _, steps = doctor(schema)
        said = json.dumps(steps)
        assert host not in said, said
        assert "dapi-test" not in said


@pytest.mark.parametrize(
    ("deny", "expected"),
    [
        ("CREATE TABLE", {"tables": "limited", "conflicts": "limited", "volume": "ok"}),
        ("ALTER VOLUME", {"tags": "limited", "volume": "ok"}),
        ("UPDATE|MERGE", {"tables": "failed", "conflicts": "skipped", "volume": "ok"}),
        ("PUT", {"volume": "failed", "files": "skipped", "tables": "ok"}),
    ],
)
def test_a_missing_privilege_is_found_by_the_step_that_needs_it(
    doctor, schema, warehouse, deny, expected
):
    warehouse.control(deny=deny)
    code, steps = doctor(schema)
    assert {name: statuses(steps)[name] for name in expected} == expected
    assert code == int("failed" in expected.values())
    for name in expected:
        if steps[name]["status"] == "failed":
            assert "privilege" in steps[name]["advice"]


def test_a_schema_that_may_not_be_made_fails(doctor, fresh_schema, schema, warehouse):
    warehouse.control(deny="CREATE SCHEMA")
    code, steps = doctor(schema)
    assert (code, steps["schema"]["status"], steps["tables"]["status"]) == (1, "failed", "skipped")


def test_people_read_lines_and_get_what_to_send(warehouse, schema, capsys):
    assert main(["doctor", "--catalog", "main", "--schema", schema]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[: len(STEPS)]] == STEPS
    assert "send us" in lines[-1]
    assert json.loads(last)["is_sound"] is True


def test_a_warehouse_that_starts_is_waited_for_in_sight(warehouse, schema, capsys):
    warehouse.control(starting=1)
    assert main(["doctor", "--catalog", "main", "--schema", schema, "--json"]) == 0
    assert "not ready yet; waited 0 s of at most 900 s" in capsys.readouterr().err


def test_a_catalog_must_be_named(doctor, warehouse, capsys):
    assert main(["doctor", "--json", "--quiet"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert "--catalog" in found["steps"][1]["advice"]
