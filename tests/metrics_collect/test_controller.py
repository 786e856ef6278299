"""The controller collectors on a real database, against plain computations from its tables."""

import contextlib
import csv
import datetime as dt
import json
import os
import re
import socket
import threading

import pytest
from tests.metrics_collect.services import controller_sql

from ops.metrics_collect import Extractor, Package, ParameterError, StateError, query_collector
from ops.metrics_collect.collectors import controller
from ops.metrics_collect.collectors.controller._events import _COLUMNS, events_query
from ops.metrics_collect.snapshots import snapshot

psycopg = pytest.importorskip("psycopg")
pytestmark = pytest.mark.service

DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
WINDOW = {"since": DAY + dt.timedelta(hours=2), "until": DAY + dt.timedelta(hours=12)}


def rows_of(files):
    """Rows of CSV files as the csv module reads them: NULL and empty text are one."""
    rows = []
    for file in files:
        with open(file, encoding="utf-8", newline="") as source:
            rows += csv.DictReader(source)
    return rows


def table(db, name):
    cursor = db.cursor(row_factory=psycopg.rows.dict_row)
    return list(cursor.execute(f"select * from {name}"))


def by_id(db, name, key="id"):
    return {row[key]: row for row in table(db, name)}


def shown(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, dt.datetime):
        text = value.astimezone(dt.UTC).isoformat(" ", "microseconds").removesuffix("+00:00")
        return text.rstrip("0").rstrip(".") + "+00"
    return str(value)


def in_window(moment):
    return moment is not None and WINDOW["since"] <= moment < WINDOW["until"]


def ordered(rows):
    return sorted(rows, key=lambda row: int(row["id"]))


class Tables:
    def __init__(self, db):
        self.jobs = by_id(db, "main_unifiedjob")
        self.details = by_id(db, "main_job", "unifiedjob_ptr_id")
        self.templates = by_id(db, "main_unifiedjobtemplate")
        self.inventories = by_id(db, "main_inventory")
        self.organizations = by_id(db, "main_organization")
        self.hosts = by_id(db, "main_host")

    def job(self, job_id):
        job, detail = self.jobs[job_id], self.details[job_id]
        return {
            "job_created": shown(job["created"]),
            "job_remote_id": str(job_id),
            "job_template_remote_id": str(job["unified_job_template_id"]),
            "job_template_name": self.templates[job["unified_job_template_id"]]["name"],
            "project_remote_id": str(detail["project_id"]),
            "project_name": self.templates[detail["project_id"]]["name"],
        }

    def place(self, inventory_id, organization_id):
        return {
            "inventory_remote_id": str(inventory_id),
            "inventory_name": self.inventories[inventory_id]["name"],
            "organization_remote_id": str(organization_id),
            "organization_name": self.organizations[organization_id]["name"],
        }


def settings_of(variables):
    """What the fixture writes into variables, read with patterns of the fixture."""
    host = re.search(r'ansible_host"?: ?"([^"]*)"', variables)
    connection = re.search(r'ansible_connection"?: ?"([^"]*)"', variables)
    return {
        "ansible_host_variable": host[1] if host else "",
        "ansible_connection_variable": connection[1] if connection else "",
    }


@pytest.mark.parametrize("service", [False, True])
def test_job_host_summaries_are_those_of_a_plain_join(controller_db, tmp_path, service):
    collector = controller.job_host_summary_service if service else controller.job_host_summary
    tables = Tables(controller_db)
    names = "id created modified host_name changed dark failures ok processed skipped failed"
    expected = []
    for s in table(controller_db, "main_jobhostsummary"):
        job = tables.jobs[s["job_id"]]
        inventory = tables.details[s["job_id"]]["inventory_id"]
        if in_window(job["finished"] if service else s["modified"]):
            expected.append(
                {
                    **{name: shown(s[name]) for name in [*names.split(), "ignored", "rescued"]},
                    "host_remote_id": str(s["host_id"]),
                    **tables.job(s["job_id"]),
                    **tables.place(inventory, job["organization_id"]),
                    **settings_of(tables.hosts[s["host_id"]]["variables"]),
                }
            )
    rows = rows_of(collector(db=controller_db, **WINDOW, output_dir=tmp_path).gather())
    assert ordered(rows) == ordered(expected)
    assert {r["ansible_host_variable"][:4] for r in rows} == {"", "10.0", "yaml"}


def test_main_host_has_the_hosts_with_their_facts(controller_db, tmp_path):
    tables = Tables(controller_db)
    expected = {}
    for host in tables.hosts.values():
        organization = tables.inventories[host["inventory_id"]]["organization_id"]
        job = tables.jobs.get(host["last_job_id"])
        expected[str(host["id"])] = {
            "host_name": host["name"],
            "last_automation": shown(job["finished"]) if job else "",
            **tables.place(host["inventory_id"], organization),
            **settings_of(host["variables"]),
        }
    rows = rows_of(controller.main_host(db=controller_db, output_dir=tmp_path).gather())
    for row in rows:
        number = row.pop("host_id")
        assert json.loads(row.pop("canonical_facts"))["ansible_product_serial"] == f"S{number}"
        assert row.pop("facts") == "{}"
        assert row == expected.pop(number)
    assert not expected


def test_a_disabled_host_is_not_collected(postgres, tmp_path):
    dsn = postgres.database(controller_sql(4, 2, 2, hours=2))
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("update main_host set enabled = false where id = 2")
        rows = rows_of(controller.main_host(db=db, output_dir=tmp_path).gather())
        assert sorted(r["host_id"] for r in rows) == ["1", "3", "4"]


def test_indirectly_managed_nodes_are_those_of_a_plain_join(controller_db, tmp_path):
    tables = Tables(controller_db)
    expected = [
        {
            "id": str(a["id"]),
            "created": shown(a["created"]),
            "host_name": a["name"],
            "host_remote_id": str(a["host_id"]),
            "task_runs": str(a["count"]),
            **tables.job(a["job_id"]),
            **tables.place(a["inventory_id"], a["organization_id"]),
            **{name: a[name] for name in ("canonical_facts", "facts", "events")},
        }
        for a in table(controller_db, "main_indirectmanagednodeaudit")
    ]
    collector = controller.main_indirectmanagednodeaudit
    window = {"since": DAY, "until": DAY + dt.timedelta(days=9)}
    rows = rows_of(collector(db=controller_db, **window, output_dir=tmp_path).gather())
    for row in rows:
        row |= {name: json.loads(row[name]) for name in ("canonical_facts", "facts", "events")}
    assert ordered(rows) == ordered(expected)
    assert rows


@pytest.mark.parametrize("service", [False, True])
def test_events_are_those_of_tasks_of_the_jobs_in_the_window(controller_db, tmp_path, service):
    collector = controller.main_jobevent_service if service else controller.main_jobevent
    jobs = by_id(controller_db, "main_unifiedjob")
    summaries = {
        (s["job_id"], s["host_name"]): s for s in table(controller_db, "main_jobhostsummary")
    }
    names = "id created modified job_created event failed changed playbook play task role host_name"
    parsed = ("task_action", "resolved_action", "resolved_role", "duration")
    expected = {}
    for e in table(controller_db, "main_jobevent"):
        summary, job = summaries[e["job_id"], e["host_name"]], jobs[e["job_id"]]
        chosen = in_window(job["finished"] if service else summary["modified"])
        if chosen and e["event"] in {"runner_on_ok", "runner_on_failed", "runner_on_skipped"}:
            data = json.loads(e["event_data"])
            row = expected[str(e["id"])] = {
                "job_host_summary_id": str(summary["id"]),
                "job_host_summary_created": shown(summary["created"]),
                **{name: shown(e[name]) for name in names.split()},
                "job_remote_id": str(e["job_id"]),
                "host_remote_id": str(e["host_id"]),
                **{n: data[n] for n in parsed},
            }
            if service:
                warnings = json.dumps(data["res"]["warnings"], ensure_ascii=False)
                row |= {
                    "job_finished": shown(job["finished"]),
                    "uuid": e["uuid"],
                    "warnings": warnings,
                    **dict.fromkeys(("parent_uuid", "start", "end", "deprecations"), ""),
                }
    rows = rows_of(collector(db=controller_db, **WINDOW, output_dir=tmp_path).gather())
    assert {r["id"]: r for r in rows} == expected
    assert len(rows) == len(expected) > 0


def test_only_the_partitions_of_the_jobs_hours_are_opened(controller_db):
    window = {"since": DAY + dt.timedelta(hours=3), "until": DAY + dt.timedelta(hours=5)}
    query = events_query(controller_db, **window, by="s.modified", columns=_COLUMNS)
    cursor = psycopg.ClientCursor(controller_db)
    plan = "\n".join(row[0] for row in cursor.execute(f"explain {query}", window))
    opened = set(re.findall(r" on (main_jobevent_\w+)", plan))
    # Jobs run for ten minutes: those that ended from 3 to 5 o'clock began from 2:50 on.
    assert opened == {f"main_jobevent_20261001_0{hour}" for hour in (3, 4)}


def test_a_window_without_jobs_gives_no_file(controller_db, tmp_path):
    window = {"since": DAY - dt.timedelta(days=9), "until": DAY - dt.timedelta(days=8)}
    assert controller.main_jobevent(db=controller_db, **window, output_dir=tmp_path).gather() == []
    assert list(tmp_path.iterdir()) == []


def test_unified_jobs_are_those_that_finished_in_the_window(controller_db, tmp_path):
    tables = Tables(controller_db)
    collector = controller.unified_jobs(db=controller_db, **WINDOW, output_dir=tmp_path)
    rows = rows_of(collector.gather())
    expected = {str(j["id"]): j for j in tables.jobs.values() if in_window(j["finished"])}
    assert {r["id"] for r in rows} == set(expected)
    for row in rows:
        job = expected[row["id"]]
        assert row["model"] == "job"
        assert row["job_template_name"] == tables.templates[job["unified_job_template_id"]]["name"]
        assert row["organization_name"] == tables.organizations[job["organization_id"]]["name"]
        assert row["execution_environment_image"] == "quay.io/x:latest"
        assert (row["forks"], row["elapsed"], row["status"]) == ("5", "600.000", "successful")


def test_jobs_that_synchronize_projects_are_left_out(postgres, tmp_path):
    dsn = postgres.database(controller_sql(2, 4, 1, hours=2))
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("update main_unifiedjob set launch_type = 'sync' where id = 2")
        window = {"since": DAY, "until": DAY + dt.timedelta(days=1)}
        rows = rows_of(controller.unified_jobs(db=db, **window, output_dir=tmp_path).gather())
    assert sorted(r["id"] for r in rows) == ["1", "3", "4"]


def test_config_tells_identity_and_licence(controller_db):
    found = controller.config(db=controller_db, billing_provider_params={"a": 1}).gather()
    assert found["install_uuid"] == "11111111-2222-3333-4444-555555555555"
    assert (found["controller_version"], found["sku"]) == ("4.6.0", "MCT1")
    assert found["total_licensed_instances"] == 100
    assert found["license_expiry"] == "2030-01-01T00:00:00+00:00"
    assert found["logging_aggregators"] == ["awx", "activity_stream"]
    assert found["billing_provider_params"] == {"a": 1}
    assert set(found["platform"]) == {"system", "release", "dist", "type"}


def test_execution_environments_are_all_of_them(controller_db, tmp_path):
    collector = controller.execution_environments(db=controller_db, output_dir=tmp_path)
    [row] = rows_of(collector.gather())
    assert (row["name"], row["image"], row["managed"]) == ("EE", "quay.io/x:latest", "f")


def test_parts_are_split_by_bytes_and_each_has_the_header(controller_db, tmp_path):
    options = {"db": controller_db, **WINDOW, "output_dir": tmp_path}
    whole = controller.unified_jobs(**options).gather()
    parts = controller.unified_jobs(**options, max_part_bytes=2000).gather()
    assert len(parts) > 1
    assert all(os.path.getsize(part) <= 2000 for part in parts)
    assert rows_of(parts) == rows_of(whole)


def test_parquet_has_the_rows_of_csv(controller_db, tmp_path):
    def rows(**options):
        collector = controller.job_host_summary(db=controller_db, **WINDOW, **options)
        files = list(map(str, Package([collector], {}, directory=tmp_path, keep=True)))
        return Extractor(files).frame("job_host_summary")

    assert len(rows()) > 0
    assert rows(output_format="parquet").equals(rows())
    with pytest.raises(ParameterError, match="csv or parquet"):
        controller.main_host(db=controller_db, output_format="xml").gather()


def test_variables_and_events_survive_everything_that_people_write(postgres, tmp_path):
    variables = [
        r'{"ansible_host": "comma, \"quote\"\nand line", "ansible_connection": null}',
        "ansible_host: 'single ''quoted'''  # comment\nansible_connection: local\n",
        '"ansible\\x5fhost": 10.1\n',
        "ansible_host: [broken",
        r'{"ansible_host": "nul\u0000l"}',
        "- ansible_host",
        "ansible_host: {{ inventory }}\n",
    ]
    event = r'{"task_action": "nul\u0000l", "res": {"stdout": "\u0000"}, "duration": 1.5}'
    dsn = postgres.database(controller_sql(len(variables), 3, len(variables), hours=2))
    with psycopg.connect(dsn, autocommit=True) as db:
        for number, text in enumerate(variables, 1):
            db.execute("update main_host set variables = %s where id = %s", (text, number))
        db.execute("update main_jobevent set event_data = %s where job_id = 1", (event,))
        db.execute("update main_jobevent set event_data = 'no json' where job_id = 2")
        hosts = rows_of(controller.main_host(db=db, output_dir=tmp_path).gather())
        window = {"since": DAY, "until": DAY + dt.timedelta(days=1)}
        events = rows_of(controller.main_jobevent(db=db, **window, output_dir=tmp_path).gather())
    names = ("ansible_host_variable", "ansible_connection_variable")
    assert [tuple(r[n] for n in names) for r in sorted(hosts, key=lambda r: int(r["host_id"]))] == [
        ('comma, "quote"\nand line', ""),
        ("single 'quoted'", "local"),
        ("10.1", ""),
        ("", ""),
        ("nul\0l", ""),
        ("", ""),
        ("", ""),
    ]
    found = {e["job_remote_id"]: (e["task_action"], e["duration"]) for e in events}
    assert (found["1"], found["2"]) == (("nul\0l", "1.5"), ("", ""))


def test_parts_that_cannot_be_made_parquet_leave_nothing(controller_db, tmp_path, monkeypatch):
    def full(path):
        path.with_suffix(".parquet").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ops.metrics_collect.collectors._copy.csv_to_parquet", full)
    hosts = controller.main_host(
        db=controller_db, output_dir=tmp_path, output_format="parquet", max_part_bytes=2000
    )
    with pytest.raises(OSError, match="No space"):
        hosts.gather()
    assert list(tmp_path.iterdir()) == []


def test_all_collectors_of_a_package_see_one_moment(postgres, tmp_path):
    dsn = postgres.database(controller_sql(3, 2, 2, hours=2))
    query = "select id from main_executionenvironment where id > 0"
    first, second = (query_collector(name, query) for name in ("first", "second"))
    gather = first.__wrapped__

    with psycopg.connect(dsn) as db, psycopg.connect(dsn, autocommit=True) as other:

        def gather_and_meddle(**kwargs):
            found = gather(**kwargs)
            other.execute(
                "insert into main_executionenvironment (name, image) values ('new', 'new')"
            )
            return found

        first.__wrapped__ = gather_and_meddle
        package = Package([first(db=db), second(db=db)], {}, directory=tmp_path, keep=True)
        files = list(map(str, package))
        assert len(Extractor(files).frame("second")) == 1
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert len(rows_of(second(db=db, output_dir=tmp_path).gather())) == 2


def test_a_collector_that_fails_leaves_the_snapshot_to_the_others(controller_db, tmp_path):
    bad = query_collector("bad", "select 1 / (id - 1) as x from main_executionenvironment")
    good = controller.execution_environments(db=controller_db)
    package = Package([bad(db=controller_db), good], {}, directory=tmp_path)
    assert len(list(package)) == 1
    assert [s.status for s in package.statuses] == ["failed", "ok"]
    assert "division by zero" in package.statuses[0].error


def test_nothing_can_be_written_and_a_statement_ends_in_time(controller_db):
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), snapshot(controller_db):
        controller_db.execute("create table mine (id int)")
    with (
        pytest.raises(psycopg.errors.QueryCanceled),
        snapshot(controller_db, statement_timeout_seconds=0.05),
    ):
        controller_db.execute("select pg_sleep(60)")


def test_a_connection_in_another_transaction_is_refused(controller_dsn):
    with psycopg.connect(controller_dsn) as db:
        db.execute("select 1")
        with pytest.raises(StateError, match="in a transaction"):
            controller.main_host(db=db).gather()


def test_any_row_factory_and_encoding_will_do(controller_dsn, tmp_path):
    factory = psycopg.rows.dict_row
    with psycopg.connect(controller_dsn, row_factory=factory, client_encoding="latin1") as db:
        controller.config(db=db).gather()
        collector = controller.main_jobevent(db=db, **WINDOW, output_dir=tmp_path)
        assert rows_of(collector.gather())


def test_a_bad_connection_raises(controller_dsn):
    db = psycopg.connect(controller_dsn)
    db.close()
    with pytest.raises(psycopg.OperationalError):
        controller.main_host(db=db).gather()


@pytest.mark.service
def test_a_server_that_stops_responding_in_a_copy_ends_the_wait(postgres, controller_dsn, tmp_path):
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from ops.metrics_collect.collectors import _watchdog
    from ops.metrics_collect.collectors._copy import copy_to_parts

    known = conninfo_to_dict(controller_dsn)
    with SilentRelay((known["host"], int(known["port"])), after=200_000) as relay:
        address = make_conninfo(
            controller_dsn, host="127.0.0.1", port=relay.port, sslmode="disable"
        )
        grace, _watchdog._GRACE_SECONDS = _watchdog._GRACE_SECONDS, 0.1
        try:
            db = psycopg.connect(address, autocommit=True)
            with pytest.raises(psycopg.OperationalError):
                copy_to_parts(
                    db,
                    "big",
                    "select repeat('x', 1000) from generate_series(1, 100000)",
                    folder=tmp_path,
                    timeout_seconds=1,
                )
            db.close()
        finally:
            _watchdog._GRACE_SECONDS = grace
    assert list(tmp_path.iterdir()) == []


class SilentRelay:
    """Passes bytes between its own port and *target*, until *after* bytes came from there: then none."""

    def __init__(self, target, after):
        self._target, self._left = target, after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ended = threading.Event()
        self._sockets = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for pump in (
                    lambda c=client, s=server: self._pump(c, s, None),
                    lambda c=client, s=server: self._pump(s, c, self._left),
                ):
                    threading.Thread(target=pump, daemon=True).start()

    def _pump(self, source, target, left):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if left is not None:
                    left -= len(data)
                    if left < 0:
                        self._ended.wait(60)
                        return
                target.sendall(data)


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        (
            "ansible_host: 10.1.1.1\nansible_password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  61\n",
            "10.1.1.1",
        ),
        ("ansible_host: !unsafe 10.1.1.2\n", "10.1.1.2"),
        ("ansible_host: 2026-10-01\n", "2026-10-01"),
        ("ansible_host: 2026-10-01 12:00:00\n", "2026-10-01 12:00:00"),
        ("other: !seq [1]\nansible_host: web\n", "web"),
    ],
)
def test_host_variables_are_read_as_people_write_them(variables, address):
    from ops.metrics_collect.collectors.controller._variables import connection_fields

    fields = connection_fields(variables.encode().hex().encode()).decode()
    assert fields.split(",")[0] == address
