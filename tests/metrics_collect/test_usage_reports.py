"""The three reports, opened again with openpyxl."""

import datetime as dt
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.metrics_collect import (
    DataframeDataCollectionStatus,
    DataframeHostMetric,
    DataframeJobevent,
    DataframeJobHostSummary,
    DataframeMainHost,
    ParameterError,
    ReportCCSP,
    ReportCCSPv2,
    ReportRenewalGuidance,
)

openpyxl = pytest.importorskip("openpyxl")
pytest.importorskip("xlsxwriter")

DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
CONFIG = {"company": "ACME", "sku": "S1", "price": 10}


def table(rows):
    names = {name: None for row in rows for name in row}
    return pa.table({n: pa.array([r.get(n) for r in rows], pa.string()) for n in names})


def moment(day, hour=0):
    return (DAY + dt.timedelta(days=day, hours=hour)).isoformat()


@pytest.fixture
def dataframes():
    hosts = DataframeJobHostSummary()
    hosts.add_csv(
        table(
            [
                {
                    "id": str(number),
                    "host_name": f"h{number % 4}",
                    "ok": "2",
                    "organization_name": ["=Evil", "Org/B", "Org:B"][number % 3],
                    "job_template_name": "T",
                    "job_remote_id": str(number % 2),
                    "created": moment(0, number),
                    "modified": moment(0, number),
                    "job_created": moment(0),
                }
                for number in range(12)
            ]
        )
    )
    facts = '{"infra_type": "Public Cloud", "infra_bucket": "Compute", "device_type": "VM"}'
    hosts.add_csv(
        table(
            [
                {"id": str(n), "host_name": f"vm{n}", "task_runs": "1", "facts": facts}
                | {"organization_name": "=Evil", "created": moment(0), "job_remote_id": "0"}
                for n in range(3)
            ]
        ),
        collection="main_indirectmanagednodeaudit",
    )
    inventory = DataframeMainHost()
    same = '{"ansible_product_serial": "S", "ansible_machine_id": "m"}'
    inventory.add_csv(
        table(
            [
                {
                    "host_name": f"h{n}",
                    "organization_name": "O",
                    "inventory_name": "I",
                    "canonical_facts": same if n < 2 else "{}",
                }
                for n in range(5)
            ]
        )
    )
    events = DataframeJobevent()
    events.add_csv(
        table(
            [
                {
                    "id": str(n),
                    "host_name": f"h{n % 2}",
                    "resolved_action": ["a.b.c", "d.e.f"][n % 2],
                    "resolved_role": "r" if n < 2 else "",
                    "duration": "1.5",
                }
                for n in range(6)
            ]
        )
    )
    status = DataframeDataCollectionStatus()
    status.add_csv(
        table(
            [
                {"collector": "c", "since": moment(d), "until": moment(d + 1), "status": s}
                | {"elapsed": "1", "collection_start_timestamp": moment(d + 1)}
                for d, s in ((0, "ok"), (1, "failed"), (2, "empty"))
            ]
        )
    )
    return {
        "job_host_summary": hosts,
        "main_host": inventory,
        "main_jobevent": events,
        "data_collection_status": status,
    }


def book_of(report, tmp_path):
    report.save(tmp_path / "report.xlsx")
    return openpyxl.load_workbook(tmp_path / "report.xlsx")


def rows_of(book, sheet, skip=1):
    return list(book[sheet].iter_rows(values_only=True, min_row=skip + 1))


def test_ccsp_has_its_sheets_and_those_without_data_are_left_out(dataframes, tmp_path):
    assert book_of(ReportCCSP(dataframes, CONFIG), tmp_path).sheetnames == [
        "Usage Reporting",
        "Summary",
        "Managed nodes",
        "Indirectly Managed nodes",
        "Inventory Scope",
        "Usage by collections",
        "Usage by roles",
        "Usage by modules",
    ]
    alone = {"job_host_summary": dataframes["job_host_summary"]}
    assert len(book_of(ReportCCSP(alone, CONFIG), tmp_path).sheetnames) == 4
    with pytest.raises(ParameterError, match="'job_host_summary'"):
        ReportCCSP({}, CONFIG)


def test_what_ccsp_charges_and_shows_is_right(dataframes, tmp_path):
    book = book_of(ReportCCSP(dataframes, CONFIG), tmp_path)
    assert rows_of(book, "Usage Reporting", 6) == [
        ("=Evil", 4, 10, "=B7*C7"),
        ("Org/B", 4, 10, "=B8*C8"),
        ("Org:B", 4, 10, "=B9*C9"),
        ("Sum", None, None, "=SUM(D7:D9)"),
    ]
    assert book["Usage Reporting"]["A7"].data_type == "s"
    managed = rows_of(book, "Managed nodes")
    assert [r[:4] for r in managed] == [(f"h{n}", 3, 3, 6) for n in range(4)]
    assert managed[0][4:] == (dt.datetime(2026, 10, 1), dt.datetime(2026, 10, 1, 8))
    indirect = rows_of(book, "Indirectly Managed nodes")
    assert [r[:4] for r in indirect] == [(f"vm{n}", 1, 1, 1) for n in range(3)]
    assert rows_of(book, "Inventory Scope")[0] == ("h0", "O", "I", "S", "m", None, "")
    assert rows_of(book, "Usage by collections") == [("a.b", 1, 3, 4.5), ("d.e", 1, 3, 4.5)]
    assert rows_of(book, "Usage by roles") == [("No role used", 2, 4, 6), ("r", 2, 2, 3)]
    assert rows_of(book, "Usage by modules") == [("a.b.c", 1, 3, 4.5), ("d.e.f", 1, 3, 4.5)]


def test_the_summary_has_charts_of_its_figures(dataframes, tmp_path):
    book = book_of(ReportCCSP(dataframes, CONFIG), tmp_path)
    assert rows_of(book, "Summary") == [
        ("=Evil", 4, 3, 2, 7, 11),
        ("Org/B", 4, 0, 2, 4, 8),
        ("Org:B", 4, 0, 2, 4, 8),
    ]
    charts = book["Summary"]._charts
    assert len(charts) == 3
    reference = charts[0].series[0].val.numRef.f
    assert reference == "Summary!$B$2:$B$4"


def test_a_machine_with_two_names_is_charged_once(dataframes, tmp_path):
    config = {**CONFIG, "deduplicate": "ccsp"}
    book = book_of(ReportCCSP(dataframes, config), tmp_path)
    assert [r[1] for r in rows_of(book, "Usage Reporting", 6)] == [3, 3, 3, None]
    assert [r[0] for r in rows_of(book, "Managed nodes")] == ["h0", "h2", "h3"]
    with pytest.raises(ParameterError, match="main_host"):
        ReportCCSP({"job_host_summary": dataframes["job_host_summary"]}, config).save(
            tmp_path / "x"
        )


def test_ccsp_v2_adds_jobs_infrastructure_organizations_and_gaps(dataframes, tmp_path):
    book = book_of(ReportCCSPv2(dataframes, CONFIG), tmp_path)
    assert book.sheetnames[8:] == [
        "Jobs",
        "Infrastructure Summary",
        "Usage by organizations",
        "Data collection status",
        "=Evil",
        "Org B",
        "Org B (2)",
    ]
    jobs = rows_of(book, "Jobs")
    assert sum(r[5] for r in jobs) == 15
    assert rows_of(book, "Infrastructure Summary") == [("Public Cloud", "Compute", "VM", 3)]
    assert [r[0] for r in rows_of(book, "=Evil")] == ["h0", "h1", "h2", "h3"]
    status = [(r[2].day, r[3].day, r[4]) for r in rows_of(book, "Data collection status")]
    assert status == [(1, 2, "ok"), (2, 3, "failed"), (2, 3, "gap"), (3, 4, "empty")]


@pytest.mark.parametrize("config", [{"price": "cheap"}, {"since": "today"}, {"until": 7}])
def test_a_configuration_that_makes_no_sense_names_what_does_not(dataframes, config):
    [name] = config
    with pytest.raises(ParameterError, match=f"{name}="):
        ReportCCSPv2(dataframes, config).sheets()


@pytest.mark.parametrize(
    "period",
    [
        {"since": DAY - dt.timedelta(days=1), "until": DAY + dt.timedelta(days=5)},
        {"since": "2026-09-30", "until": "2026-10-06T00:00:00+00:00"},  # as a file of JSON has it
    ],
)
def test_gaps_reach_to_the_ends_of_the_reports_period(dataframes, tmp_path, period):
    book = book_of(ReportCCSPv2(dataframes, {**CONFIG, **period}), tmp_path)
    rows = rows_of(book, "Data collection status")
    gaps = [(r[2].day, r[3].day) for r in rows if r[4] == "gap"]
    assert gaps == [(30, 1), (2, 3), (4, 6)]


@pytest.fixture
def metrics():
    def host(name, first, last, **more):
        moments = {"first_automation": moment(first), "last_automation": moment(last)}
        return {
            "hostname": name,
            **moments,
            "automated_counter": "3",
            "deleted_counter": "0",
        } | more

    rollup = DataframeHostMetric()
    rollup.add_csv(
        table(
            [
                host("old", 0, 90),
                host("also-old", 0, 80),
                host("brief", 3, 5),
                host("short", 5, 5),
                host("gone", 0, 50, last_deleted=moment(60), deleted_counter="1"),
                host("back", 0, 70, last_deleted=moment(60), deleted_counter="1"),
            ]
        )
    )
    return rollup


def test_renewal_tells_managed_ephemeral_and_deleted_nodes_apart(metrics, tmp_path):
    book = book_of(ReportRenewalGuidance({"host_metric": metrics}, CONFIG), tmp_path)
    assert book.sheetnames == [
        "Usage Reporting",
        "Managed nodes",
        "Managed nodes ephemeral",
        "Managed nodes ephemeral usage",
        "Deleted Managed nodes",
    ]
    names = {title: [r[0] for r in rows_of(book, title)] for title in book.sheetnames}
    assert names["Managed nodes"] == ["also-old", "back", "old"]
    assert names["Managed nodes ephemeral"] == ["brief", "short"]
    assert names["Deleted Managed nodes"] == ["gone"]
    usage = [(r[0].day, r[1]) for r in rows_of(book, "Managed nodes ephemeral usage")]
    assert usage == [(4, 1), (5, 1), (6, 2)]
    assert [r[1] for r in rows_of(book, "Usage Reporting", 6)] == [3, 2, 2, 1]
    assert len(book["Managed nodes ephemeral usage"]._charts) == 1


def test_tables_are_to_be_had_as_parquet_csv_and_json_too(dataframes, tmp_path):
    report = ReportCCSPv2(dataframes, CONFIG)
    parquet, csvs = report.to_parquet(tmp_path / "p"), report.to_csv(tmp_path / "c")
    assert len({p.name for p in parquet}) == len(csvs) == len(report.sheets()) == 15
    by_name = {p.stem: p for p in parquet}
    managed = pq.read_table(by_name["Managed_nodes"])
    assert managed["Task runs"].to_pylist() == [6] * 4
    assert managed["First automation"].to_pylist()[0] == DAY
    report.to_json(tmp_path / "r.json")
    tables = json.loads((tmp_path / "r.json").read_text())
    assert tables["Usage Reporting"][-1]["Extended fee"] == 40  # each of four nodes once


def test_reports_of_nothing_can_be_opened(tmp_path):
    empty = {"job_host_summary": DataframeJobHostSummary(), "main_jobevent": DataframeJobevent()}
    for report in (
        ReportCCSPv2(empty, {}),
        ReportRenewalGuidance({"host_metric": DataframeHostMetric()}, {}),
    ):
        assert book_of(report, tmp_path).sheetnames
        assert report.to_parquet(tmp_path / type(report).__name__)
