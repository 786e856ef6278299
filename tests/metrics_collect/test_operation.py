"""The command line in the hands of cron: quiet, with exit codes, metrics and a way to forget."""

from __future__ import annotations

import datetime as dt
import json
import os
import sqlite3

import pyarrow as pa
import pytest

from ops.foundation.errors import LockTimeout
from ops.metrics_collect import (
    DataframeJobHostSummary,
    Extractor,
    Interval,
    Ledger,
    LedgerStorage,
    Outbox,
    StorageDirectory,
)
from ops.metrics_collect.__main__ import main
from ops.metrics_collect.tarballs import named

DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
SPAN = ("--since", "2026-10-01", "--until", "2026-10-03")


@pytest.fixture
def command(chain, tmp_path, capsys):
    chain.insert(0, 6)
    chain.insert(6, 6, day=1)
    sql = tmp_path / "runs.sql"
    sql.write_text("select * from runs where finished >= :since and finished < :until")
    source = ("--db", str(chain.folder / "source.db"), "--query", f"runs={sql}")

    def call(name, *arguments):
        more = (*source, "--primary-key", "id", *SPAN) if name in {"gather", "backfill"} else ()
        if name in {"backfill", "ship", "report", "rollup"}:
            more = (*more, "--ship", str(tmp_path / "ship"))
        try:
            code = main([name, *more, "--state", str(tmp_path / "state"), *arguments])
        except SystemExit as stopped:
            code = stopped.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    call.folder = tmp_path
    return call


def test_a_quiet_run_prints_nothing_while_all_is_well(command):
    assert command("backfill", "--quiet") == (0, "", "")
    (command.folder / "runs.sql").write_text("select * from gone where a >= :since and a < :until")
    code, out, err = command("backfill", "--quiet", "--until", "2026-10-04")
    assert code == 1
    assert "no such table: gone" in out
    assert "failed" in err


def test_a_size_of_tarballs_is_checked_at_once(command):
    assert command("backfill", "--max-size", "1K")[0] == 0
    code, _, err = command("gather", "--max-size", "lots")
    assert (code, "'lots' is no size" in err) == (2, True)


def test_wrong_usage_is_json_where_that_was_asked_for(command):
    code, out, err = command("gather", "--max-size", "lots", "--json")
    assert code == 2
    assert json.loads(out)["error"]["code"] == "USAGE"
    assert "usage:" in err
    code, out, _ = command("prune", "--state", str(command.folder / "none"), "--json")
    assert (code, json.loads(out)["error"]["code"]) == (2, "PARAMETER")


@pytest.mark.parametrize("name", ["status", "health", "prune", "ship", "replay"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_mistyped_state_creates_nothing(command, name, exists):
    state = command.folder / "typo"
    if exists:
        state.mkdir()
    metrics = command.folder / "usage.prom"
    code, _, err = command(name, "--state", str(state), "--metrics-file", str(metrics))
    assert (code, "--ledger" in err) == (2, True)
    assert not metrics.exists()
    assert not exists or list(state.iterdir()) == []


@pytest.mark.parametrize("name", ["gather", "backfill"])
def test_a_dry_run_makes_no_state(command, name):
    code, out, _ = command(name, "--dry-run")
    assert (code, "would gather" in out) == (0, True)
    assert not (command.folder / "state").exists()
    assert command("backfill")[0] == 0
    assert ": none" in command(name, "--dry-run")[1]


def test_what_was_gathered_with_a_ledger_elsewhere_is_not_shipped_without_it(command):
    ledger = ("--ledger", str(command.folder / "ledger"))
    assert command("gather", *ledger)[0] == 0
    assert command("ship")[0] == 2
    assert command("ship", *ledger)[0] == 0


def test_health_is_an_exit_code(command):
    command("backfill")
    young, old = "--max-age-hours=870000", "--max-age-hours=1"
    assert command("health", young, "--quiet") == (0, "", "")
    code, out, _ = command("health", old, "--json")
    assert code == 1
    assert json.loads(out)["failed"] == {"runs": "arrived last until 2026-10-03T00:00:00+00:00"}
    outbox = Outbox(command.folder / "state" / "outbox")
    with outbox.stage("p", {"collector": "runs", "since": "2026-10-03", "until": "2026-10-04"}):
        pass
    outbox.fail(next(outbox.send()), "gone", final=True)
    code, out, _ = command("health", young, "--quiet")
    assert (code, "is in the failed queue: gone" in out) == (1, True)


def test_metrics_of_the_collection_are_written_also_when_it_failed(command):
    file = command.folder / "collect.prom"
    command("backfill", "--metrics-file", str(file))
    lines = file.read_text().splitlines()
    assert 'ops_metrics_collect_outbox_parcels{state="done"} 2' in lines
    assert 'ops_metrics_collect_failed_slices{collector="runs"} 0' in lines
    end = dt.datetime(2026, 10, 3, tzinfo=dt.UTC).timestamp()
    assert (
        f'ops_metrics_collect_closed_until_timestamp_seconds{{collector="runs"}} {end:.0f}' in lines
    )
    (command.folder / "runs.sql").write_text("select * from gone where a >= :since and a < :until")
    command("backfill", "--until", "2026-10-04", "--metrics-file", str(file))
    lines = file.read_text().splitlines()
    assert any(line.startswith("ops_metrics_collect_failed_slices") for line in lines)
    assert not [line for line in lines if line.endswith('failed_slices{collector="runs"} 0')]


def test_what_is_pruned_is_not_gathered_again_and_finds_no_late_rows(command, chain):
    command("backfill")
    code, out, _ = command("prune", "--keep-days", "0", "--json")
    assert code == 0
    assert json.loads(out) == {"parcels": 2, "slices without keys": 2, "failed": {}}
    with sqlite3.connect(command.folder / "state" / "ledger.sqlite") as db:
        assert db.execute("select distinct key from keys").fetchall() == [('{"column": null}',)]
    db.close()
    chain.insert(50, 1)
    code, out, _ = command("backfill", "--lookback-days", "900", "--json")
    assert (code, json.loads(out)["gathered"]) == (0, [])
    assert json.loads(command("prune", "--keep-days", "0", "--json")[1])["parcels"] == 0


def test_a_ledger_in_a_storage_forgets_keys_too(tmp_path):
    ledger = LedgerStorage(StorageDirectory(tmp_path))
    slices = [Interval(DAY + dt.timedelta(days=n), DAY + dt.timedelta(days=n + 1)) for n in (0, 1)]
    for slice_ in slices:
        ledger.close("runs", slice_, 0, ['{"column": "id"}', '"1"'])
    assert ledger.forget_keys(DAY + dt.timedelta(days=1, hours=1)) == 1
    assert ledger.keys("runs", slices[0]) == {'{"column": null}'}
    assert ledger.keys("runs", slices[1]) == {'{"column": "id"}', '"1"'}
    assert ledger.closed("runs") == slices
    assert ledger.forget_keys(DAY + dt.timedelta(days=1, hours=1)) == 0


def test_a_ledger_that_forgot_is_a_smaller_file(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    ledger.close("runs", Interval(DAY, DAY + dt.timedelta(days=1)), 0, map(str, range(20_000)))
    before = ledger.path.stat().st_size
    ledger.forget_keys(DAY + dt.timedelta(days=9))
    assert ledger.path.stat().st_size < before / 4


def test_a_lock_that_is_held_names_its_holder(tmp_path):
    outbox = Outbox(tmp_path)
    with outbox.lock() as holder:
        assert holder.pid == os.getpid()
        note = json.loads((tmp_path / "outbox.json").read_text())
        assert (note["pid"], note["host"]) == (holder.pid, holder.host)
    assert issubclass(LockTimeout, TimeoutError)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("o-20261001T000000Z-20261002T000000Z-main_host-000000.tar.gz", {"main_host"}),
        ("p/x-y-20261001T000000Z-20261002T000000.5Z-runs-000001.tar.gz", None),
        ("a-20261001T000000.000005Z-all-my-runs-r2-000001.tar.gz", {"my-runs", "my-runs-r2"}),
        ("20261001T000000Z-20261002T000000Z-runs-000000.tar.gz", {"runs"}),
        ("20261331T000000Z-20261002T000000Z-runs-000000.tar.gz", None),
        ("upload.tar.gz", None),
    ],
)
def test_names_of_tarballs_say_their_slice_and_collection(name, keys):
    found = named(name)
    assert (found and found.keys) == keys


def test_only_tarballs_of_the_period_are_fetched(command, monkeypatch):
    command("backfill")
    rollup = ("--collection", "runs", "--by", "name", "-o", str(command.folder / "r.csv"))
    later = command("rollup", *rollup, "--since", "2026-10-02", "--dry-run", "--json")
    [read] = json.loads(later[1])["would read"]
    assert "20261002T000000Z-20261003T000000Z" in read
    code, out, _ = command("rollup", *rollup, "--since", "2026-10-02", "--json")
    assert (code, json.loads(out)["rows"]) == (0, 3)


def test_a_configuration_is_checked_before_the_first_byte_is_read(command):
    command("backfill")
    config = command.folder / "config.json"
    config.write_text('{"prise": 4}')
    for file in (command.folder / "ship").rglob("*.tar.gz"):
        file.write_bytes(b"no tarball")
    output = ("-o", str(command.folder / "x.xlsx"))
    code, _, err = command("report", "--report", "ccsp", "--config", str(config), *output)
    assert (code, "did you mean 'price'?" in err) == (2, True)
    nowhere = ("-o", str(command.folder / "none" / "x.xlsx"))
    code, _, err = command("report", "--report", "ccsp", *nowhere)
    assert (code, "There is no folder" in err) == (2, True)


def test_an_empty_report_is_a_failure_with_a_sentence(command):
    command("backfill")
    output = command.folder / "x.xlsx"
    code, _, err = command("report", "--report", "renewal", "-o", str(output))
    assert (code, "There is nothing to report: no rows of main_hostmetric" in err) == (1, True)
    assert not output.exists()


def test_a_report_is_made_of_stored_rollups(command):
    command("backfill")
    stored, output = command.folder / "runs.parquet", command.folder / "runs.xlsx"
    activity = ("--collection", "runs", "--by", "name")
    assert command("rollup", *activity, "-o", str(stored))[0] == 0
    state = ["--state", str(command.folder / "state")]
    report = ["report", *activity, "-o", str(output), "--stored", f"activity={stored}", *state]
    assert main(report) == 0
    assert output.exists()
    assert main([*report, "--stored", "jobs=x.parquet"]) == 2
    assert main(["report", *activity, "-o", str(output), *state]) == 2


@pytest.mark.parametrize(
    ("times", "values"),
    [
        ("iso", ["2026-10-01T23:59:59+00:00", "2026-10-02T00:00:00+00:00"]),
        ("sql", ["2026-10-01 23:59:59", "2026-10-02 00:00:00"]),
        ("seconds", [1790899199, 1790899200]),
        ("milliseconds", [1790899199999, 1790899200000]),
    ],
)
def test_a_database_may_write_times_in_its_own_way(command, chain, times, values):
    with chain.db:
        chain.db.execute("delete from runs")
        rows = [(n, "m", 1.0, value) for n, value in enumerate(values)]
        # Without a type, so that numbers stay numbers.
        chain.db.execute("drop table runs")
        chain.db.execute("create table runs (id integer, name text, seconds real, finished)")
        chain.db.executemany("insert into runs values (?, ?, ?, ?)", rows)
    assert command("backfill", "--times", times, "--until", "2026-10-03")[0] == 0
    shipped = [
        StorageDirectory(command.folder / "ship").base_path / n
        for n in os.listdir(command.folder / "ship")
    ]
    days = {
        payload.since.day: payload.batch.column("id").to_pylist()
        for payload in Extractor(shipped).payloads({"runs"})
    }
    assert days == {1: ["0"], 2: ["1"]}
    activity = ["--collection", "runs", "--by", "name", "--time", "finished"]
    output = command.folder / "first.json"
    assert command("rollup", *activity, "--until", "2026-10-02", "-o", str(output))[0] == 0
    assert json.loads(output.read_text())[0]["count"] == 1


@pytest.mark.parametrize(
    ("sql", "code", "reason"),
    [
        ("", 2, "is empty"),
        ("-- nothing\n", 2, "is empty"),
        ("delete from runs where finished >= :since and finished < :until", 1, "readonly"),
        ("begin", 1, "gives no rows"),
    ],
)
def test_a_query_that_is_none_is_one_sentence(command, sql, code, reason):
    (command.folder / "runs.sql").write_text(sql)
    got, out, err = command("gather")
    assert (got, reason in out + err, "Traceback" in err) == (code, True, False)


def test_two_queries_of_one_name_are_refused(command):
    again = f"runs={command.folder / 'runs.sql'}"
    code, _, err = command("gather", "--query", again)
    assert (code, "Two collectors have the key 'runs'" in err) == (2, True)


def test_files_of_other_editors_may_have_a_byte_order_mark(command):
    for name, text in {
        "runs.sql": "select * from runs where finished >= :since and finished < :until",
        "report.json": '{"title": "Läufe"}',
    }.items():
        (command.folder / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert command("backfill")[0] == 0
    activity = ["--collection", "runs", "--by", "name", "-o", str(command.folder / "r.xlsx")]
    assert command("report", *activity, "--config", str(command.folder / "report.json"))[0] == 0


@pytest.mark.parametrize("amount", ["-1", "nan", "soon", "1e9"])
def test_an_amount_that_is_none_names_what_is(command, amount):
    code, _, err = command("prune", f"--keep-days={amount}")
    assert (code, "is no number from 0 to 36525" in err) == (2, True)


def test_a_misspelt_organization_makes_no_empty_invoice(tmp_path, capsys):
    pytest.importorskip("xlsxwriter")
    stored, output = tmp_path / "stored.parquet", tmp_path / "ccsp.xlsx"
    rows = {"id": ["1", "2"], "host_name": ["a", "b"], "ok": ["1", "1"]}
    rows["organization_name"] = ["North", "South"]
    DataframeJobHostSummary().add_csv(pa.table(rows)).to_parquet(stored)

    def report(*organizations):
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"organizations": organizations, "price": 2}))
        code = main(
            [
                "report",
                "--report",
                "ccsp",
                "--stored",
                f"job_host_summary={stored}",
                "--config",
                str(config),
                "-o",
                str(output),
            ]
        )
        return code, capsys.readouterr().err

    code, err = report("Norht")
    assert (code, "'Norht'" in err, "did you mean 'North'?" in err) == (1, True, True)
    assert not output.exists()
    code, err = report("North", "Wset")
    assert (code, "no rows of the organization 'Wset'" in err) == (0, True)
    assert output.exists()


def test_which_version_of_a_row_counts_can_be_said_when_rows_are_read(command, chain):
    with chain.db:
        chain.db.execute("alter table runs add column attempt")
        chain.db.execute("delete from runs where id > 0")
    # The later version of the row is shipped with the earlier slice.
    for day, attempt, seconds in ((1, 2, 8.0), (2, 1, 3.0)):
        with chain.db:
            row = (f"2026-10-0{day}T05:00:00+00:00", attempt, seconds)
            chain.db.execute("update runs set finished = ?, attempt = ?, seconds = ?", row)
        span = ("--since", f"2026-10-0{day}", "--until", f"2026-10-0{day + 1}")
        assert command("backfill", *span)[0] == 0
    output = command.folder / "r.json"
    activity = ("--collection", "runs", "--by", "name", "--sum", "seconds", "-o", str(output))

    def total(*options):
        assert command("rollup", *activity, *options)[0] == 0
        [row] = json.loads(output.read_text())
        return row["count"], row["seconds_total"]

    assert total() == (1, 3.0)
    assert total("--order-by", "attempt") == (1, 8.0)
    assert total("--row-id", "name", "--order-by", "attempt", "--keep", "latest") == (1, 8.0)
    assert total("--keep", "all") == (2, 11.0)
    assert command("rollup", *activity, "--keep", "all", "--order-by", "attempt")[0] == 2
    code, _, err = command("rollup", *activity, "--order-by", "atempt")
    assert (code, "['atempt']" in err) == (2, True)


@pytest.mark.parametrize("name", ["status", "rollup", "report", "gather"])
def test_a_period_that_ends_before_it_begins_is_misuse(command, name):
    command("backfill")
    activity = ("--collection", "runs", "--by", "name", "-o", str(command.folder / "r.xlsx"))
    more = activity if name in {"rollup", "report"} else ()
    code, _, err = command(name, *more, "--since", "2026-11-01", "--until", "2026-10-01")
    assert (code, "must lie before" in err) == (2, True)


@pytest.mark.parametrize("option", ["--by", "--sum", "--time", "--row-id", "--order-by"])
def test_options_that_would_be_ignored_are_misuse(command, option):
    command("backfill")
    for made in (("rollup", "--dataframe", "main_host"), ("report", "--report", "ccsp")):
        code, _, err = command(*made, option, "name", "-o", str(command.folder / "r.xlsx"))
        assert (code, f"{option}: only for an activity" in err) == (2, True)


@pytest.mark.parametrize("place", ["", " ", "gs:bucket", "S3://bucket", "file:///srv", "a@b:/c"])
def test_what_is_no_destination_makes_no_folder(command, monkeypatch, place):
    work = command.folder / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    assert command("backfill", "--ship", place)[0] == 2
    assert list(work.iterdir()) == []
    assert command("backfill", "--ship", "./name:x")[0] == 0
    assert (work / "name:x").is_dir()
