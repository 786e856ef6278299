import json

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
        == 1
    )
    assert "unable to open" in capsys.readouterr().err
    assert not source.exists()
