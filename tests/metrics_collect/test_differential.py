"""Reports beside a plain pandas computation of the rules, from the same history, cell by cell.

The computation here knows nothing of rollups: it takes all rows that were ever delivered, picks of each
row the last version, and counts with `groupby`. It is slow, and short enough to be read beside the rules.
"""

from __future__ import annotations

import datetime as dt
import gc
import json

import numpy as np
import pandas as pd
import pytest
from tests.metrics_collect.usage_history import DAYS, START, History

from ops.metrics_collect import (
    DataframeDataCollectionStatus,
    DataframeHostMetric,
    DataframeJobevent,
    DataframeJobHostSummary,
    DataframeMainHost,
    Extractor,
    Formula,
    ReportCCSP,
    ReportCCSPv2,
    ReportRenewalGuidance,
)

RAN = ["failures", "ok", "skipped", "ignored", "rescued"]
PRICE = 12.5
PERIODS = {
    "all": (None, None),
    "period": (START + dt.timedelta(days=1), START + dt.timedelta(days=3)),
}


@pytest.fixture(params=range(3))
def history(request, tmp_path):
    return History(request.param, tmp_path)


@pytest.fixture(params=PERIODS)
def period(request):
    return PERIODS[request.param]


@pytest.fixture
def ours(history, period):
    memory_bytes = 1_000 if history.seed == 1 else 300_000_000  # on disk, or not
    start, end = period
    kinds = {
        "job_host_summary": DataframeJobHostSummary,
        "main_jobevent": DataframeJobevent,
        "main_host": DataframeMainHost,
        "data_collection_status": DataframeDataCollectionStatus,
        "host_metric": DataframeHostMetric,
    }
    made = {name: kind(memory_bytes=memory_bytes) for name, kind in kinds.items()}
    for rollup in made.values():
        rollup.add(Extractor(history.files, start=start, end=end))
    yield made
    made.clear()
    gc.collect()  # what was spilled goes with its rollup


class Plain:
    """The rules, in pandas."""

    def __init__(self, history, period, machines=None):
        self.history, self.period = history, period
        self.machines = machines or {}
        self.summaries = pd.concat([self._direct(), self._indirect()], ignore_index=True)
        self.summaries["organization_name"] = self.summaries["organization_name"].replace(
            "", "No organization name"
        )
        self.events = self._events()

    def rows(self, collection, time, ids=("__install", "id")):
        """The last version of each row, of those whose time is in the period."""
        frame = pd.DataFrame(self.history.deliveries[collection])
        times = pd.to_datetime(frame[time], utc=True, format="ISO8601")
        start, end = self.period
        if start is not None:
            frame = frame[(times >= start) & (times < end)]
        return frame.sort_values("__slice", kind="stable").drop_duplicates(list(ids), keep="last")

    def _direct(self):
        frame = self.rows("job_host_summary", "modified")
        counts = frame[[*RAN, "dark"]].astype(int)
        frame = frame.assign(
            task_runs=counts.sum(axis=1),
            original=frame["host_name"],
            host=frame["ansible_host_variable"].where(
                frame["ansible_host_variable"] != "", frame["host_name"]
            ),
            first=frame["created"],
            last=frame["modified"],
            kind="direct",
        )
        return frame[counts[RAN].sum(axis=1) > 0]

    def _indirect(self):
        frame = self.rows("main_indirectmanagednodeaudit", "created")
        return frame.assign(
            task_runs=frame["task_runs"].astype(int),
            original=frame["host_name"],
            host=frame["host_name"],
            first=frame["created"],
            last=frame["created"],
            kind="indirect",
        )

    def _events(self):
        renamed = self.summaries[self.summaries["host"] != self.summaries["original"]]
        keys = ["__install", "job_remote_id", "original"]
        addresses = renamed.groupby(keys)["host"].min().to_dict()
        frame = self.rows("main_jobevent", "created")
        names = zip(frame["__install"], frame["job_remote_id"], frame["host_name"], strict=True)
        module = frame["resolved_action"].where(
            frame["resolved_action"] != "", frame["task_action"]
        )
        parts = module.str.split(".")
        return frame.assign(
            host=[self.machine(addresses.get(name, name[2])) for name in names],
            module=module,
            collection=[".".join(p[:2]) if len(p) > 2 else "No collection used" for p in parts],
            role=[
                resolved or role or "No role used"
                for resolved, role in zip(frame["resolved_role"], frame["role"], strict=True)
            ],
            duration=frame["duration"].astype(float),
        )

    def machine(self, name):
        return self.machines.get(name, name)

    def nodes(self, kind=None):
        frame = self.summaries.assign(host=self.summaries["host"].map(self.machine))
        return frame if kind is None else frame[frame["kind"] == kind]

    def sheets(self, *, once):
        direct = self.nodes("direct")
        if once:
            charged = [["Managed nodes", direct["host"].nunique()]]
        else:
            charged = [
                [organization, rows["host"].nunique()]
                for organization, rows in direct.groupby("organization_name")
            ]
        total = sum(count for _, count in charged) * PRICE
        return {
            "Usage Reporting": [
                *([name, count, PRICE, count * PRICE] for name, count in charged),
                ["Sum", None, None, total],
            ],
            "Summary": self.by_organization(),
            "Managed nodes": _managed(direct),
            "Indirectly Managed nodes": _managed(self.nodes("indirect")),
            **{
                f"Usage by {name}s": [
                    [key, rows["host"].nunique(), len(rows), rows["duration"].sum()]
                    for key, rows in self.events.groupby(name)
                ]
                for name in ("collection", "role", "module")
            },
        }

    def by_organization(self):
        return [
            [
                organization,
                rows[rows["kind"] == "direct"]["host"].nunique(),
                rows[rows["kind"] == "indirect"]["host"].nunique(),
                len(rows[["__install", "job_remote_id"]].drop_duplicates()),
                len(rows),
                rows["task_runs"].sum(),
            ]
            for organization, rows in self.nodes().groupby("organization_name")
        ]

    def more_sheets(self):
        keys = ["job_remote_id", "__install", "job_template_name", "organization_name"]
        jobs = [
            [
                *key,
                rows["host"].nunique(),
                len(rows),
                rows["task_runs"].sum(),
                _time(rows["job_created"].min()),
                _time(rows["last"].max()),
            ]
            for key, rows in self.nodes().groupby(keys)
        ]
        organizations = {
            name: [[row[0], *row[2:]] for row in _managed(rows)]
            for name, rows in self.nodes("direct").groupby("organization_name")
        }
        return {
            "Jobs": sorted(jobs, key=lambda row: (row[1], row[7], row[0])),
            "Usage by organizations": self.by_organization(),
            "Infrastructure Summary": [
                ["Public Cloud", "", "VM", self.nodes("indirect")["host"].nunique()]
            ],
            **organizations,
        }


def _managed(frame):
    return [
        [
            host,
            rows["organization_name"].nunique(),
            len(rows),
            rows["task_runs"].sum(),
            _time(rows["first"].min()),
            _time(rows["last"].max()),
        ]
        for host, rows in frame.groupby("host")
    ]


def _time(text):
    return dt.datetime.fromisoformat(text)


def cells_of(report):
    return {
        sheet.title: [
            [cell.value if isinstance(cell, Formula) else cell for cell in row]
            for row in sheet.rows()
        ]
        for sheet in report.sheets()
    }


def differing(found, expected):
    """Return the first cell of each sheet that differs; {} when all are equal."""
    wrong = {}
    for title, rows in expected.items():
        mine = found.get(title)
        if mine is None or len(mine) != len(rows):
            wrong[title] = (mine, rows)
            continue
        for number, (one, other) in enumerate(zip(mine, rows, strict=True)):
            cells = [v.item() if isinstance(v, np.generic) else v for v in other]
            if one != cells:
                wrong[title] = (number, one, cells)
                break
    return wrong


def machines_of(history, period):
    """Hosts that have both a serial and a machine id in common, named by the first of their names."""
    start, end = period
    groups = {}
    for row in history.deliveries["main_host"]:
        day = START + dt.timedelta(days=row["__slice"])
        if start is None or start <= day < end:
            facts = json.loads(row["canonical_facts"])
            sign = tuple(facts.values())
            name = row["ansible_host_variable"] or row["host_name"]
            groups.setdefault(sign, set()).add(name)
    return {name: min(group) for group in groups.values() for name in group}


@pytest.mark.parametrize("mode", [None, "ccsp"])
def test_usage_reports_agree_with_pandas_in_every_cell(history, period, ours, mode):
    config = {"price": PRICE, **({"deduplicate": mode} if mode else {})}
    plain = Plain(history, period, machines_of(history, period) if mode else None)
    assert differing(cells_of(ReportCCSP(ours, config)), plain.sheets(once=False)) == {}
    expected = plain.sheets(once=True) | plain.more_sheets()
    found = cells_of(ReportCCSPv2(ours, config))
    assert differing(found, expected) == {}
    assert found.keys() - expected.keys() == {"Inventory Scope", "Data collection status"}
    assert any(row[1] > 1 for row in expected["Managed nodes"])


def test_only_what_was_not_delivered_is_a_gap(history):
    ours = {
        "job_host_summary": DataframeJobHostSummary(),
        "data_collection_status": DataframeDataCollectionStatus().add(Extractor(history.files)),
    }
    bounds = {"since": START, "until": START + dt.timedelta(days=DAYS)}
    rows = cells_of(ReportCCSPv2(ours, bounds))["Data collection status"]
    install, day = history.missing
    begin = START + dt.timedelta(days=day)
    gaps = {(row[0], row[1], row[2], row[3]) for row in rows if row[4] == "gap"}
    assert gaps >= {
        ("main_host", install, begin, begin + dt.timedelta(days=1)),
        ("job_host_summary", install, begin, begin + dt.timedelta(days=1)),
    }
    assert {(gap[1], gap[2]) for gap in gaps if gap[0] != "main_jobevent"} == {(install, begin)}


def facts_of(history, name):
    """The addresses, serials and machine ids that the inventories have of a host."""
    hosts = [row for row in history.deliveries["main_host"] if row["host_name"] == name]
    facts = [json.loads(row["canonical_facts"]) for row in hosts]
    known = (
        {row["ansible_host_variable"] for row in hosts} - {""},
        {fact["ansible_product_serial"] for fact in facts},
        {fact["ansible_machine_id"] for fact in facts},
    )
    return [", ".join(sorted(texts)) for texts in known]


def test_the_renewal_report_agrees_with_pandas_in_every_cell(history, period, ours):
    reference = START + dt.timedelta(days=DAYS)
    rows = pd.DataFrame(history.deliveries["main_hostmetric"])
    start, end = period
    if start is not None:
        day = START + pd.to_timedelta(rows["__slice"], "D")
        rows = rows[(day >= start) & (day < end)]
    for name in ("first_automation", "last_automation", "last_deleted"):
        rows[name] = pd.to_datetime(rows[name], utc=True, format="ISO8601")
    nodes = []
    for host, seen in rows.groupby("hostname"):
        # Of each installation the highest counts; a node is deleted where its last sight is.
        counts = seen.groupby("__install")[["automated_counter", "deleted_counter"]]
        automated, deletions = counts.agg(lambda c: c.astype(int).max()).sum()
        gone = []
        for _, of_install in seen.groupby("__install"):
            flags = of_install["deleted"] == "t"
            gone.append(
                flags.any()
                and not (
                    of_install[~flags]["last_automation"].max()
                    > of_install[flags]["last_deleted"].max()
                )
            )
        first, last = seen["first_automation"].min(), seen["last_automation"].max()
        month = dt.timedelta(days=30)
        nodes.append(
            {
                "row": [
                    *(host, first, last, automated, max((last - first).days, 0), deletions),
                    *(seen["last_deleted"].max(), len(gone), len(gone) - sum(gone), sum(gone)),
                    *(host, *facts_of(history, host)),
                ],
                "deleted": all(gone),
                "short": last - first <= month and first < reference - month,
            }
        )

    def of(**flags):
        return [
            [None if value is pd.NaT else value for value in node["row"]]
            for node in nodes
            if all(node[name] == flag for name, flag in flags.items())
        ]

    used = [(row[1].date(), row[2].date()) for row in of(short=True)]
    days = sorted(
        {first + dt.timedelta(n) for first, last in used for n in range((last - first).days + 1)}
    )
    peak = max((sum(first <= day <= last for first, last in used) for day in days), default=0)
    expected = {
        "Managed nodes": of(deleted=False, short=False),
        "Managed nodes ephemeral": of(deleted=False, short=True),
        "Deleted Managed nodes": of(deleted=True),
        "Usage Reporting": [
            ["Managed nodes", len(of(deleted=False, short=False))],
            ["Managed nodes ephemeral", len(of(deleted=False, short=True))],
            ["Most ephemeral nodes on a day", peak],
            ["Deleted Managed nodes", len(of(deleted=True))],
        ],
    }
    report = ReportRenewalGuidance(ours, {"reference_date": reference})
    assert differing(cells_of(report), expected) == {}
    assert all(expected["Usage Reporting"][n][1] for n in (0, 1, 2))
