"""What is charged and shown: the rules of the reports, on small hand-made usage."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

from ops.metrics_collect import (
    DataframeHostMetric,
    DataframeJobevent,
    DataframeJobHostSummary,
    DataframeMainHost,
    ReportCCSP,
    ReportCCSPv2,
    ReportRenewalGuidance,
)

INSTALL = {"install_uuid": "u1"}
FACTS = '{"ansible_product_serial":"S1","ansible_machine_id":"M1"}'
TODAY = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def rows_of(report, title):
    [sheet] = [s for s in report.sheets() if s.title == title]
    return [list(row) for row in sheet.rows()]


def summaries(hosts, organizations, addresses=None):
    count = len(hosts)
    columns = {
        "id": [str(n) for n in range(count)],
        "host_name": hosts,
        "ok": ["1"] * count,
        "organization_name": organizations,
        "job_remote_id": ["7"] * count,
    }
    if addresses:
        columns["ansible_host_variable"] = addresses
    return DataframeJobHostSummary().add_csv(pa.table(columns), config=INSTALL)


def test_the_second_report_charges_a_node_once_however_many_organizations_used_it():
    dataframes = {"job_host_summary": summaries(["web"] * 5, list("ABCDE"))}
    [line, total] = rows_of(ReportCCSPv2(dataframes, {"price": 10}), "Usage Reporting")
    assert (line[1], total[0], total[3].value) == (1, "Sum", 10)
    by_organization = rows_of(ReportCCSP(dataframes, {"price": 10}), "Usage Reporting")
    assert by_organization[-1][3].value == 50


def events(hosts, actions, roles):
    count = len(hosts)
    columns = {
        "id": [str(n) for n in range(count)],
        "host_name": hosts,
        "resolved_action": actions,
        "resolved_role": roles,
        "job_remote_id": ["7"] * count,
    }
    return DataframeJobevent().add_csv(pa.table(columns), config=INSTALL)


def test_the_sheets_of_usage_add_up_with_rows_for_what_used_nothing():
    dataframes = {
        "job_host_summary": summaries(["web"], ["O"]),
        "main_jobevent": events(
            ["web"] * 3, ["ansible.builtin.copy", "yum", "yum"], ["ns.col.r", "", ""]
        ),
    }
    report = ReportCCSP(dataframes, {})
    runs = {
        title: {row[0]: row[2] for row in rows_of(report, f"Usage by {title}")}
        for title in ("collections", "roles", "modules")
    }
    assert runs == {
        "collections": {"No collection used": 2, "ansible.builtin": 1},
        "roles": {"No role used": 2, "ns.col.r": 1},
        "modules": {"ansible.builtin.copy": 1, "yum": 2},
    }


@pytest.mark.parametrize(
    ("addresses", "config"),
    [(["10.0.0.1", "10.0.0.1"], {}), (["10.0.0.1", "10.0.0.2"], {"deduplicate": "ccsp"})],
)
def test_a_machine_is_one_node_on_every_sheet(addresses, config):
    names = ["web-a", "web-b"]
    hosts = pa.table(
        {
            "host_name": names,
            "ansible_host_variable": addresses,
            "canonical_facts": [FACTS, FACTS],
        }
    )
    dataframes = {
        "job_host_summary": summaries(names, ["O", "O"], addresses),
        "main_host": DataframeMainHost().add_csv(hosts, config=INSTALL),
        "main_jobevent": events(names, ["ansible.builtin.copy"] * 2, ["", ""]),
    }
    report = ReportCCSP(dataframes, config)
    assert len(rows_of(report, "Managed nodes")) == 1
    assert rows_of(report, "Usage by modules")[0][1] == 1


def ago(days):
    return None if days is None else (TODAY - dt.timedelta(days=days)).isoformat()


def renewal(nodes, hosts=None, **config):
    """Return the totals for nodes of (name, first, last, deleted, installation), in days ago."""
    metric = DataframeHostMetric()
    for name, first, last, deleted, install in nodes:
        columns = {
            "hostname": [name],
            "first_automation": [ago(first)],
            "last_automation": [ago(last)],
            "last_deleted": [ago(deleted)],
            "deleted": ["f" if deleted is None else "t"],
        }
        metric.add_csv(pa.table(columns), config={"install_uuid": install})
    dataframes = {"host_metric": metric}
    if hosts is not None:
        dataframes["main_host"] = DataframeMainHost().add_csv(pa.table(hosts), config=INSTALL)
    report = ReportRenewalGuidance(dataframes, {"reference_date": TODAY, **config})
    return {row[0]: row[1] for row in rows_of(report, "Usage Reporting")}


def test_a_node_that_is_too_young_to_be_known_as_ephemeral_is_managed():
    assert renewal([("new", 5, 0, None, "u1")])["Managed nodes"] == 1
    assert renewal([("gone", 50, 45, None, "u1")])["Managed nodes ephemeral"] == 1


def test_a_node_is_deleted_when_all_installations_have_deleted_it():
    there = ("web", 300, 10, None, "u1")
    assert renewal([there, ("web", 300, 60, 2, "u2")])["Deleted Managed nodes"] == 0
    gone = [("web", 300, 60, 2, "u1"), ("web", 300, 60, 2, "u2")]
    assert renewal(gone)["Deleted Managed nodes"] == 1


def test_the_flag_of_deletion_is_believed_before_the_dates():
    columns = {
        "hostname": ["web"],
        "first_automation": [ago(300)],
        "last_automation": [ago(60)],
        "last_deleted": [ago(2)],
        "deleted": ["f"],  # it was added again, and has not been automated since
    }
    metric = DataframeHostMetric().add_csv(pa.table(columns), config=INSTALL)
    report = ReportRenewalGuidance({"host_metric": metric}, {"reference_date": TODAY})
    assert dict(rows_of(report, "Usage Reporting"))["Deleted Managed nodes"] == 0


def test_deduplication_knows_hosts_by_the_names_of_their_inventories():
    hosts = {
        "host_name": ["web-a", "web-b"],
        "ansible_host_variable": ["10.0.0.1", "10.0.0.2"],
        "canonical_facts": [FACTS, FACTS],
    }
    nodes = [("web-a", 300, 0, None, "u1"), ("web-b", 300, 0, None, "u1")]
    assert renewal(nodes, hosts)["Managed nodes"] == 2
    assert renewal(nodes, hosts, deduplicate="renewal")["Managed nodes"] == 1


def test_ephemeral_nodes_that_were_deleted_since_count_in_the_peak():
    nodes = [(f"vm-{n}", 100, 99, 98, "u1") for n in range(5)]
    totals = renewal(nodes)
    assert totals["Most ephemeral nodes on a day"] == 5
    assert (totals["Managed nodes ephemeral"], totals["Deleted Managed nodes"]) == (0, 5)
