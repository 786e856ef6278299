"""Configurations of reports: what they select, and what of them is refused before anything is read."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
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

INSTALL = {"install_uuid": "u1"}
#: host, organization, job
RUNS = [("web", "North", "1"), ("db", "South", "2"), ("web", "South", "2"), ("vpn", "West", "3")]


def texts(names, rows):
    return pa.table(
        {n: pa.array(c, pa.string()) for n, c in zip(names, zip(*rows, strict=True), strict=True)}
    )


@pytest.fixture
def dataframes():
    names = ["id", "host_name", "organization_name", "job_remote_id", "ok"]
    runs = [(str(n), *run, "2") for n, run in enumerate(RUNS)]
    events = [(str(n), host, job, f"a.b.m{job}") for n, (host, _, job) in enumerate(RUNS)]
    hosts = [("web", "North"), ("db", "South"), ("idle", "West")]
    status = [("c", "2026-10-02T00:00:00Z", "2026-10-03T00:00:00Z", "ok")]
    return {
        "job_host_summary": DataframeJobHostSummary().add_csv(texts(names, runs), config=INSTALL),
        "main_jobevent": DataframeJobevent().add_csv(
            texts(["id", "host_name", "job_remote_id", "resolved_action"], events), config=INSTALL
        ),
        "main_host": DataframeMainHost().add_csv(
            texts(["host_name", "organization_name"], hosts), config=INSTALL
        ),
        "data_collection_status": DataframeDataCollectionStatus().add_csv(
            texts(["collector", "since", "until", "status"], status), config=INSTALL
        ),
    }


def sheets_of(report):
    return {sheet.title: [list(row) for row in sheet.rows()] for sheet in report.sheets()}


def test_only_the_organizations_that_are_asked_for_are_charged_and_shown(dataframes):
    report = ReportCCSPv2(dataframes, {"organizations": ["South", "West"], "price": 10})
    sheets = sheets_of(report)
    assert sheets["Usage Reporting"][0][1] == 3  # db, vpn, web
    assert [row[0] for row in sheets["Managed nodes"]] == ["db", "vpn", "web"]
    assert [row[0] for row in sheets["Inventory Scope"]] == ["db", "idle"]
    assert [row[:3] for row in sheets["Usage by modules"]] == [["a.b.m2", 2, 2], ["a.b.m3", 1, 1]]
    assert [row[0] for row in sheets["Jobs"]] == ["2", "3"]
    assert {"South", "West"} <= sheets.keys()
    nobody = sheets_of(ReportCCSP(dataframes, {"organizations": ["East"]}))
    assert nobody["Usage Reporting"] == nobody["Managed nodes"] == []


def test_only_the_sheets_that_are_asked_for_are_made_in_their_order(dataframes):
    config = {"sheets": ["jobs", "Usage Reporting", "Managed nodes by organization"]}
    assert list(sheets_of(ReportCCSPv2(dataframes, config))) == [
        "Usage Reporting",
        "Jobs",
        "North",
        "South",
        "West",
    ]


def test_the_first_sheet_shows_who_orders_and_the_period(dataframes):
    config = {
        "company": "ACME",
        "email": "billing@acme.example",
        "login": "acme",
        "purchase_order": "PO-7",
        "end_user": "Example Ltd",
        "since": "2026-10-01",
        "until": dt.datetime(2026, 11, 1, tzinfo=dt.UTC),
    }
    lines = {
        line[0]: line[1] for line in ReportCCSP(dataframes, config).sheets()[0].preface if line
    }
    assert lines == {
        "Company": "ACME",
        "SKU": "",
        "SKU description": "",
        "Period": "2026-10-01 to 2026-11-01",
        "Email": "billing@acme.example",
        "Login": "acme",
        "Purchase order": "PO-7",
        "End user": "Example Ltd",
    }


def test_the_period_decides_what_is_a_gap(dataframes):
    config = {"since": "2026-10-01", "until": "2026-10-05"}
    rows = sheets_of(ReportCCSPv2(dataframes, config))["Data collection status"]
    assert [row[4] for row in rows] == ["gap", "ok", "gap"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"prize": 5}, "unknown key 'prize'; did you mean 'price'?"),
        ({"organisation": ["A"]}, "did you mean 'organizations'?"),
        ({"sheets": ["Managed node"]}, "no sheet 'Managed node'; did you mean 'managed_nodes'?"),
        ({"sheets": []}, "write a list of names"),
        ({"organizations": "South"}, "write a list of names"),
        ({"deduplicate": "ccps"}, "did you mean 'ccsp'?"),
        ({"since": "2026-11-01", "until": "2026-10-01"}, "is not before"),
        ({"price": -1}, "no amount"),
        ({"company": ["ACME"]}, "no text"),
    ],
)
def test_what_is_misspelt_or_impossible_is_refused_when_the_report_is_made(
    dataframes, config, said
):
    with pytest.raises(ParameterError) as refused:
        ReportCCSPv2(dataframes, config)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "config", [{"ephemeral_days": "many"}, {"ephemeral_days": 0}, {"organizations": ["A"]}]
)
def test_the_renewal_report_refuses_what_it_does_not_know(config):
    with pytest.raises(ParameterError):
        ReportRenewalGuidance({"host_metric": DataframeHostMetric()}, config)


def test_a_sheet_of_the_second_report_is_unknown_to_the_first(dataframes):
    with pytest.raises(ParameterError, match="no sheet 'jobs'"):
        ReportCCSP(dataframes, {"sheets": ["jobs"]})
