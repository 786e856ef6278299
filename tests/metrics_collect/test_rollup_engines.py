"""Rollups by whatever computes them, wherever they are kept meanwhile: one result."""

import collections
import concurrent.futures
import datetime as dt
import itertools
import multiprocessing
import pickle

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.metrics_collect import (
    DataframeDataCollectionStatus,
    DataframeHostMetric,
    DataframeJobevent,
    DataframeJobHostSummary,
    DataframeMainHost,
    Extractor,
    Measure,
    Package,
    Rollup,
    collector,
    host_identities,
)

TEXT = st.sampled_from(["", "a", "b", "ü", "a,b", '"', "\n"])
ROWS = st.lists(st.tuples(TEXT, TEXT, st.integers(-9, 9), st.lists(TEXT, max_size=3)), max_size=40)


class Everything(Rollup):
    """One measure of each kind."""

    collections = ("rows",)
    keys = {"x": pa.string(), "y": pa.string()}
    measures = (
        Measure("total", "sum", pa.int64()),
        Measure("least", "min", pa.int64()),
        Measure("most", "max", pa.int64()),
        Measure("tags", "set", pa.list_(pa.string())),
    )

    def prepare(self, raw, config, collection):
        return raw


def raw(rows):
    columns = list(zip(*rows, strict=True)) or [[], [], [], []]
    numbers = pa.array(columns[2], pa.int64())
    return pa.table(
        {
            "x": pa.array(columns[0], pa.string()),
            "y": pa.array(columns[1], pa.string()),
            "total": numbers,
            "least": numbers,
            "most": numbers,
            "tags": pa.array(columns[3], pa.list_(pa.string())),
        }
    )


def plainly(rows):
    found = collections.defaultdict(list)
    for x, y, number, tags in rows:
        found[x, y].append((number, tags))
    return [
        {
            "x": x,
            "y": y,
            "total": sum(n for n, _ in group),
            "least": min(n for n, _ in group),
            "most": max(n for n, _ in group),
            "tags": sorted({t for _, tags in group for t in tags}, key=lambda t: t.encode()),
        }
        for (x, y), group in sorted(found.items(), key=lambda g: [t.encode() for t in g[0]])
    ]


@pytest.mark.parametrize("engine", ["arrow", "duckdb"])
@pytest.mark.parametrize("memory_bytes", [200_000_000, 50])
@settings(max_examples=30)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 40), max_size=4))
def test_any_cut_engine_and_spill_gives_what_plain_python_gives(engine, memory_bytes, rows, cuts):
    if engine == "duckdb":
        pytest.importorskip("duckdb")
    rollup = Everything(engine=engine, memory_bytes=memory_bytes)
    edges = [0, *sorted(cuts), 40]
    for start, end in itertools.pairwise(edges):
        rollup.add_csv(raw(rows[start:end]))
    assert rollup.group().to_pylist() == plainly(rows)


@settings(max_examples=30)
@given(rows=ROWS, cut=st.integers(0, 40))
def test_parts_merge_in_any_order_and_any_nesting(rows, cut):
    def part(rows):
        return Everything().add_csv(raw(rows))

    first, middle, last = rows[: cut // 2], rows[cut // 2 : cut], rows[cut:]
    left = part(first).merge(part(middle)).merge(part(last))
    right = part(last).merge(part(middle).merge(part(first)))
    assert left.group() == right.group()
    assert left.group().to_pylist() == plainly(rows)


@settings(max_examples=20)
@given(rows=ROWS)
def test_stored_and_pickled_rollups_are_the_same(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rollup") / "r.parquet"
    rollup = Everything(memory_bytes=50).add_csv(raw(rows), source="one")
    rollup.to_parquet(path)
    stored = Everything().add_parquet(path).add_parquet(path)
    copied = pickle.loads(pickle.dumps(rollup))
    assert stored.group() == copied.group() == rollup.group()
    assert stored.sources == copied.sources == {"one"}


def test_what_was_spilled_goes_with_its_rollup(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rollup = Everything(memory_bytes=50).add_csv(raw([("a", "b", 1, [])] * 10))
    assert list(tmp_path.glob("metrics-spill-*/*"))
    del rollup
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_spilled_rows_has_no_texts_but_theirs(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = [(f"{number:04}" * 250, "b", number, []) for number in range(1000)]
    rollup = Everything(memory_bytes=50).add_csv(raw(rows))
    files = list(tmp_path.glob("metrics-spill-*/*"))
    assert len(files) > 4
    assert sum(file.stat().st_size for file in files) < 1.5 * 1000 * 1000
    assert rollup.group().to_pylist() == plainly(rows)


DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
HEADER = "id,created,modified,host_name,ok,job_remote_id,job_template_name,organization_name\n"


def tarballs(folder, chunks):
    """Tarballs of job_host_summary, each with the rows of these ids."""
    paths = []
    for number, ids in enumerate(chunks):
        source = folder / f"source-{number}.csv"
        moment = "2026-10-01 01:00:00+00"
        lines = (f"{i},{moment},{moment},host-{i % 7},1,{i % 3},T,O\n" for i in ids)
        source.write_text(HEADER + "".join(lines))

        @collector(key="job_host_summary")
        def rows(*, path):
            return [path]

        name = f"part-{number}.tar.gz"
        package = Package(
            [rows(path=source)],
            {"install_uuid": "u"},
            tarball_format=name,
            directory=folder,
            keep=True,
        )
        paths += list(package)
    return paths


CHUNKS = [range(50), range(40, 90), range(90, 120), range(5)]


@pytest.fixture
def parts(tmp_path):
    return tarballs(tmp_path, CHUNKS)


@pytest.fixture
def expected(parts):
    rollup = DataframeJobHostSummary().add(Extractor(parts))
    assert sum(rollup.group()["host_runs"].to_pylist()) == 120
    return rollup.group()


def test_a_process_pool_gives_the_result_of_one_process(parts, expected):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        rollup = DataframeJobHostSummary().add(Extractor(parts), executor=executor)
        assert rollup.group() == expected
        # Again, in the pool and here: nothing changes.
        rollup.add(Extractor(parts), executor=executor).add(Extractor(parts))
        assert rollup.group() == expected


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_of_processes_gives_the_result_of_one_process(parts, expected, tmp_path):
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    with (
        dask.config.set({"temporary-directory": str(tmp_path)}),  # the scheduler's, too
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        rollup = DataframeJobHostSummary().add(Extractor(parts), executor=client.get_executor())
        assert rollup.group() == expected
        by_address = DataframeJobHostSummary()
        by_address.add(Extractor(parts), executor=cluster.scheduler_address)
        assert by_address.group() == expected


def test_a_tarball_that_is_listed_twice_counts_once(parts):
    rollup = DataframeJobHostSummary()
    rollup.row_ids = {}
    rollup.add(Extractor([parts[0], parts[0]]))
    assert sum(rollup.group()["host_runs"].to_pylist()) == 50


def test_both_collectors_of_summaries_and_indirect_nodes_make_one_rollup(tmp_path):
    rollup = DataframeJobHostSummary()
    summary = pa.table({"id": ["1"], "host_name": ["web"], "ok": ["2"], "organization_name": ["O"]})
    rollup.add_csv(summary)
    rollup.add_csv(summary, collection="job_host_summary_service")
    indirect = pa.table(
        {
            "id": ["1", "2"],
            "host_name": ["vm", "vm"],
            "organization_name": ["O", "O"],
            "task_runs": ["3", "4"],
            "events": ['["amazon.aws.ec2"]', '["amazon.aws.ec2", "x.y.z"]'],
            "facts": ['{"device_type": "VM"}'] * 2,
            "created": ["2026-10-01 00:00:00+00", "2026-10-02 00:00:00+00"],
        }
    )
    rollup.add_csv(indirect, collection="main_indirectmanagednodeaudit")
    vm, web = rollup.group().to_pylist()
    assert (web["managed_node_type"], web["host_runs"], web["task_runs"]) == ("direct", 1, 2)
    assert (vm["managed_node_type"], vm["host_runs"], vm["task_runs"]) == ("indirect", 2, 7)
    assert vm["events"] == ["amazon.aws.ec2", "x.y.z"]
    assert vm["facts"] == ['{"device_type": "VM"}']
    assert (vm["first_automation"], vm["last_automation"]) == (DAY, DAY + dt.timedelta(days=1))


def test_main_host_keeps_what_was_known_at_any_time():
    def rows(**columns):
        names = ["host_name", "organization_name", "inventory_name", "canonical_facts"]
        base = dict.fromkeys(names, "") | {"host_name": "web", "last_automation": None}
        return pa.table({k: pa.array([v], pa.string()) for k, v in (base | columns).items()})

    rollup = DataframeMainHost()
    serial = '{"ansible_product_serial": "S1", "ansible_machine_id": "m"}'
    rollup.add_csv(rows(organization_name="A", inventory_name="i", canonical_facts=serial))
    rollup.add_csv(rows(organization_name="B", last_automation="2026-10-01 00:00:00+00"))
    rollup.add_csv(rows(organization_name="A", canonical_facts="broken"))
    [row] = rollup.group().to_pylist()
    assert (row["organizations"], row["inventories"]) == (["A", "B"], ["i"])
    assert (row["serials"], row["machine_ids"]) == (["S1"], ["m"])
    assert row["last_automation"] == DAY


def test_jobevents_are_counted_by_module_collection_and_role():
    rollup = DataframeJobevent()
    rollup.add_csv(
        pa.table(
            {
                "id": ["1", "2", "3", "3"],
                "host_name": ["web"] * 4,
                "task_action": ["copy", "yum", "a.b.c.d", "a.b.c.d"],
                "resolved_action": ["ansible.builtin.copy", "", "", ""],
                "resolved_role": ["r.r.one", "", "", ""],
                "role": ["one", "two", "", ""],
                "duration": ["0.5", "", "1", "1"],
            }
        )
    )
    found = {
        r["module_name"]: (r["collection_name"], r["role_name"], r["task_runs"], r["duration"])
        for r in rollup.group().to_pylist()
    }
    assert found == {
        "ansible.builtin.copy": ("ansible.builtin", "r.r.one", 1, 0.5),
        "yum": ("", "two", 1, 0.0),
        "a.b.c.d": ("a.b", "", 1, 1.0),
    }


def test_statuses_and_host_metrics_are_rolled_up_too(parts):
    status = DataframeDataCollectionStatus().add(Extractor(parts))
    [row] = status.group().to_pylist()
    assert (row["collector"], row["status"], row["runs"]) == ("job_host_summary", "ok", 4)
    metrics = DataframeHostMetric()
    for count in ("3", "5", "4"):
        metrics.add_csv(
            pa.table(
                {
                    "hostname": ["web"],
                    "first_automation": [f"2026-10-0{count} 00:00:00+00"],
                    "automated_counter": [count],
                }
            )
        )
    [row] = metrics.group().to_pylist()
    assert row["automated_counter"] == 5
    assert row["first_automation"] == DAY + dt.timedelta(days=2)


@pytest.mark.parametrize(
    "kind",
    [
        DataframeDataCollectionStatus,
        DataframeHostMetric,
        DataframeJobHostSummary,
        DataframeJobevent,
        DataframeMainHost,
    ],
)
def test_an_empty_dataframe_knows_itself_and_can_be_stored(kind, tmp_path):
    rollup = kind()
    frame = rollup.to_pandas()
    assert list(frame.index.names) == list(rollup.index)
    assert list(frame.columns) == [m.name for m in rollup.measures]
    for name in ("r.parquet", "r.csv", "r.json"):
        getattr(rollup, f"to_{name.partition('.')[2]}")(tmp_path / name)
    assert kind().add_parquet(tmp_path / "r.parquet").group() == rollup.group()


HOSTS = [
    {"host_name": "b", "serials": ["S1"], "machine_ids": ["m1"]},
    {"host_name": "a", "serials": ["S1"], "machine_ids": ["m1"]},
    {"host_name": "c", "serials": ["S1"], "machine_ids": ["m2"]},
    {"host_name": "d", "serials": ["None"], "machine_ids": ["m2"]},
    {"host_name": "e", "serials": ["None"], "machine_ids": []},
]


def test_hosts_are_one_machine_by_both_signs_or_by_either():
    assert host_identities(HOSTS, "ccsp") == {"a": "a", "b": "a", "c": "c", "d": "d", "e": "e"}
    assert host_identities(HOSTS, "renewal") == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e"}


@given(st.permutations(HOSTS), st.sampled_from(["ccsp", "renewal"]))
def test_the_order_of_hosts_does_not_matter(hosts, mode):
    assert host_identities(hosts, mode) == host_identities(HOSTS, mode)
