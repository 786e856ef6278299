import json

import pytest

from ops.metrics_collect.__main__ import main


def test_the_commands_carry_rows_from_a_database_to_a_rollup(chain, tmp_path, capsys):
    chain.insert(0, 30)
    sql = tmp_path / "runs.sql"
    sql.write_text("select * from runs where finished >= :since and finished < :until")
    state = ["--state", str(tmp_path / "state"), "--json"]
    ship = ["--ship", str(tmp_path / "ship")]
    span = ["--since", "2026-10-01", "--until", "2026-10-02"]
    output = tmp_path / "runs.json"

    assert (
        main(
            [
                "gather",
                "--db",
                str(chain.folder / "source.db"),
                "--query",
                f"runs={sql}",
                *span,
                *state,
            ]
        )
        == 0
    )
    assert main(["ship", *ship, *state]) == 0
    assert (
        main(["rollup", *ship, "--collection", "runs", "--by", "name", "-o", str(output), *state])
        == 0
    )
    capsys.readouterr()
    assert main(["status", *state]) == 0

    assert [row["count"] for row in json.loads(output.read_text())] == [10, 10, 10]
    status = json.loads(capsys.readouterr().out)
    assert status["closed"] == {
        "runs": [["2026-10-01T00:00:00+00:00", "2026-10-02T00:00:00+00:00"]]
    }
    assert status["outbox"]["done"] == 1


def test_a_missing_source_is_reported_and_not_created(tmp_path, capsys):
    sql = tmp_path / "q.sql"
    sql.write_text("select 1 where :since < :until")
    state = ["--state", str(tmp_path / "state")]
    source = tmp_path / "missing.db"
    assert (
        main(
            ["gather", "--db", str(source), "--query", f"q={sql}", "--since", "2026-10-01", *state]
        )
        == 2
    )
    assert "There is no database file" in capsys.readouterr().err
    assert not source.exists()


class Line:
    """The command line with a state of its own."""

    def __init__(self, chain, folder, capsys):
        self.chain, self.folder, self.capsys = chain, folder, capsys
        self.sql = folder / "runs.sql"
        self.sql.write_text("select * from runs where finished >= :since and finished < :until")
        self.place = str(folder / "ship")

    def __call__(self, command, *arguments, code=0):
        state = ["--state", str(self.folder / "state"), "--json"]
        assert main([command, *arguments, *state]) == code
        captured = self.capsys.readouterr()
        self.progress = captured.err
        return json.loads(captured.out) if captured.out else None

    @property
    def source(self):
        query = ("--query", f"runs={self.sql}", "--primary-key", "id")
        return ("--db", str(self.chain.folder / "source.db"), *query)


SPAN = ("--since", "2026-10-01", "--until", "2026-10-04")


@pytest.fixture
def line(chain, tmp_path, capsys):
    chain.insert(0, 10)
    chain.insert(10, 10, day=2)
    return Line(chain, tmp_path, capsys)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(line):
    plan = line("gather", *line.source, *SPAN, "--dry-run")["would gather"]
    assert [piece[1][:10] for piece in plan] == ["2026-10-01", "2026-10-02", "2026-10-03"]
    line("status", code=2)  # there is no state yet
    line("gather", *line.source, *SPAN)
    assert len(line("ship", "--ship", line.place, "--dry-run")["would ship"]) == 3
    assert line("status")["outbox"]["new"] == 3


def test_backfill_gathers_and_ships_with_progress(line):
    done = line("backfill", *line.source, *SPAN, "--ship", line.place)
    assert len(done["gathered"]) == len(done["shipped"]) == 3
    assert "[6/6] shipped" in line.progress
    assert line("backfill", *line.source, *SPAN, "--ship", line.place)["gathered"] == []


def test_status_shows_the_gaps(line):
    day = ("--since", "2026-10-01", "--until", "2026-10-02")
    last = ("--since", "2026-10-03", "--until", "2026-10-04")
    for span in (day, last):
        line("backfill", *line.source, *span, "--ship", line.place)
    assert line("status")["gaps"] == {
        "runs": [["2026-10-02T00:00:00+00:00", "2026-10-03T00:00:00+00:00"]]
    }
    assert len(line("status", "--since", "2026-09-30")["gaps"]["runs"]) == 2


def test_replay_sends_what_was_put_aside(line):
    line("gather", *line.source, *SPAN)
    blocked = line.folder / "file"
    blocked.write_text("no folder")
    for _ in range(5):
        line("ship", "--ship", str(blocked), code=1)
    status = line("status", code=1)
    assert (status["outbox"]["failed"], len(status["failed"])) == (3, 3)
    assert len(line("replay", "--ship", line.place, "--dry-run")["would ship"]) == 3
    assert len(line("replay", "--ship", line.place)["shipped"]) == 3


def test_the_ledger_can_be_kept_with_the_destination(line):
    there = ("--ship", line.place, "--ledger", line.place)
    line("backfill", *line.source, *SPAN, *there)
    assert len(line("status", "--ledger", line.place)["closed"]["runs"]) == 3
    line("status", code=2)  # here is none


def test_what_cannot_be_collected_is_one_sentence(line):
    source = ("--db", line.source[1])
    line("gather", *source, "--since", "2026-10-01", code=2)
    assert line.progress == (
        "ops-metrics-collect: Nothing to collect: give --query (or --collect, from PostgreSQL).\n"
    )


def test_results_are_lines_for_people(line, capsys):
    state = ["--state", str(line.folder / "state")]
    assert main(["backfill", *line.source, *SPAN, "--ship", line.place, *state]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "gathered: 3"
    assert printed[1].endswith("-20261001T000000Z-20261002T000000Z-runs")
    assert printed[-1] == "failed: none"
    assert main(["status", *state]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "outbox: new 0, sending 0, done 3, failed 0",
        "closed:",
        "  runs: 1",
        "    2026-10-01T00:00:00+00:00  2026-10-04T00:00:00+00:00",
        "gaps:",
        "  runs: none",
        "failures: none",
        "failed: none",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "'yesterday' is no timestamp"),
        (["--since", "2026-10-01", "--query", "runs"], "'runs' is not NAME=FILE.sql"),
    ],
)
def test_wrong_usage_says_what_would_be_right(line, arguments, said):
    with pytest.raises(SystemExit) as stopped:
        line("gather", *line.source, *arguments)
    assert stopped.value.code == 2
    assert said in line.capsys.readouterr().err


def test_an_interval_that_ends_before_it_starts_is_refused(line):
    span = ("--since", "2026-10-04", "--until", "2026-10-01")
    line("gather", *line.source, *span, code=2)
    assert "must lie before" in line.progress


def test_a_destination_that_is_none_is_refused(line):
    line("backfill", *line.source, *SPAN, "--ship", "gopher://x", code=2)
    assert "'gopher://x' is no destination" in line.progress


def test_what_cannot_be_read_or_written_is_refused_before_the_work(line):
    line("backfill", *line.source, *SPAN, "--ship", line.place)
    rows = ("rollup", "--collection", "runs", "--by", "name")
    line(*rows, "--ship", line.place, "-o", str(line.folder / "x.xlsx"), code=2)
    assert "has to end in .parquet or .csv or .json" in line.progress
    none = ("rollup", "--collection", "runz", "--by", "name", "-o", str(line.folder / "x.csv"))
    line(*none, "--ship", line.place, code=2)
    assert "No tarball is of 'runz'; did you mean 'runs'?" in line.progress
    assert not (line.folder / "x.csv").exists()
    early = ("--until", "2026-09-01", "-o", str(line.folder / "x.csv"))
    assert line(*rows, *early, "--ship", line.place)["rows"] == 0
    assert "There are no rows of 'runs'" in line.progress
    line(*rows, "--ship", str(line.folder / "none"), "-o", str(line.folder / "x.csv"), code=2)
    assert "There are no tarballs at" in line.progress
    config = line.folder / "config.json"
    ccsp = ("report", "--report", "ccspv2", "--ship", line.place, "--config", str(config))
    for text, said in {"{": "is no JSON", "[]": "holds no JSON object"}.items():
        config.write_text(text)
        line(*ccsp, "-o", str(line.folder / "x.xlsx"), code=2)
        assert said in line.progress


def test_a_collector_that_fails_is_one_line_and_no_traceback(line):
    line.sql.write_text("select * from absent where a >= :since and a < :until")
    line("gather", *line.source, "--since", "2026-10-01", "--until", "2026-10-02", code=1)
    assert "no such table: absent" in line.progress
    assert "Traceback" not in line.progress


@pytest.mark.service
def test_a_controller_is_reported_on_by_two_commands(
    controller_dsn, s3, s3_prefix, line, monkeypatch
):
    openpyxl = pytest.importorskip("openpyxl")
    for name in ("endpoint", "region", "access_key", "secret_key"):
        monkeypatch.setenv(f"OPS_METRICS_BUCKET_{name.upper()}", getattr(s3, name))
    place = f"s3://{s3.bucket}/{s3_prefix}"
    there = ("--ship", place, "--ledger", place)
    span = ("--since", "2026-10-01", "--until", "2026-10-03")
    done = line("backfill", "--db", controller_dsn, *span, *there)
    assert len(done["shipped"]) == 11
    config = line.folder / "config.json"
    config.write_text('{"company": "ACME", "price": 2}')
    book = line.folder / "ccsp.xlsx"
    line("report", "--report", "ccspv2", "--config", str(config), "-o", str(book), "--ship", place)
    sheets = openpyxl.load_workbook(book)
    assert sheets["Usage Reporting"]["B1"].value == "ACME"
    assert "Data collection status" in sheets.sheetnames
    bad = ("--db", "host=127.0.0.1 port=9 dbname=none", "--since", "2026-10-01")
    line("gather", *bad, code=1)
    assert "ops-metrics-collect: " in line.progress
