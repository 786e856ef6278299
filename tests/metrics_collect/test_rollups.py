from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.metrics_collect import (
    DataframeActivity,
    DataframeJobHostSummary,
    Extractor,
    Package,
    ParameterError,
    StateError,
    collector,
)

ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=30)


def activity(chunks, **options):
    rollup = DataframeActivity("runs", by=["name"], sums=["n"], row_id=None, **options)
    for chunk in chunks:
        rollup.add_csv(
            pa.table(
                {"name": [r[0] for r in chunk], "n": [r[1] for r in chunk]},
                pa.schema([("name", pa.string()), ("n", pa.int64())]),
            )
        )
    return rollup


@given(ROWS, st.integers(0, 30))
def test_any_split_in_any_order_gives_the_same_result(rows, cut):
    whole = activity([rows]).group()
    assert activity([rows[cut:], rows[:cut]]).group() == whole
    assert activity([rows[:cut]]).merge(activity([rows[cut:]])).group() == whole


def test_counts_are_those_of_plain_python():
    table = activity([[("a", 1), ("b", 2), ("a", 3)]]).group()
    assert table.to_pylist() == [
        {"name": "a", "count": 2, "n_total": 4.0},
        {"name": "b", "count": 1, "n_total": 2.0},
    ]


def test_a_row_id_counts_once_per_install_however_often_it_comes():
    rollup = DataframeActivity("runs", by=["name"])
    for ids in (["1", "2", "2"], ["2", "3"], ["1", "3"]):
        rollup.add_csv(pa.table({"id": ids, "name": ["x"] * len(ids)}))
    rollup.add_csv(pa.table({"id": ["1"], "name": ["x"]}), config={"install_uuid": "other"})
    assert rollup.group()["count"].to_pylist() == [4]


def test_a_stored_rollup_counts_once_and_half_known_ones_are_refused(tmp_path):
    def part(*sources):
        rollup = DataframeActivity("runs", by=["name"], row_id=None)
        for source in sources:
            rollup.add_csv(pa.table({"name": ["x"]}), source=source)
        path = tmp_path / f"{'-'.join(sources)}.parquet"
        rollup.to_parquet(path)
        return path

    rollup = DataframeActivity("runs", by=["name"], row_id=None)
    for path in (part("one"), part("two"), part("one")):
        rollup.add_parquet(path)
    assert rollup.regroup()["count"].to_pylist() == [2]
    with pytest.raises(StateError, match="1 of 2 sources"):
        rollup.add_parquet(part("two", "three"))


def test_an_empty_rollup_knows_its_fields_index_and_types():
    frame = DataframeJobHostSummary().to_pandas()
    assert list(frame.index.names) == list(DataframeJobHostSummary().index)
    assert frame.dtypes["task_runs"] == "int64"
    assert str(frame.dtypes["first_automation"]) == "datetime64[us, UTC]"


def test_job_host_summary_names_hosts_counts_tasks_and_drops_what_did_not_run(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(
        "id,created,modified,host_name,ansible_host_variable,dark,failures,ok,skipped,ignored,rescued,"
        "organization_name,job_template_name,job_remote_id,job_created\n"
        "1,2026-10-01 01:00:00+00,2026-10-01 02:00:00+00,web,10.0.0.1,1,0,3,1,0,0,,T,7,2026-10-01 00:00:00+00\n"
        "2,2026-10-01 01:00:00+00,2026-10-01 02:00:00.5+00,db,,1,0,0,0,0,0,Org,T,7,2026-10-01 00:00:00+00\n"
    )
    [row] = (
        DataframeJobHostSummary().add_csv(path, config={"install_uuid": "u"}).group().to_pylist()
    )
    assert (row["host_name"], row["original_host_name"]) == ("10.0.0.1", "web")
    assert (row["organization_name"], row["install_uuid"]) == ("No organization name", "u")
    assert (row["host_runs"], row["task_runs"]) == (1, 5)
    assert row["first_automation"].isoformat() == "2026-10-01T01:00:00+00:00"


def of_ids(*ids, source):
    table = pa.table({"id": [str(i) for i in ids], "name": ["a"] * len(ids)})
    return DataframeActivity("runs", by=["name"]).add_csv(table, source=source)


def test_rows_that_two_merged_rollups_share_count_once():
    rollup = of_ids(1, 2, source="one").merge(of_ids(2, 3, source="two"))
    assert rollup.group()["count"].to_pylist() == [3]


def test_rows_of_a_merged_rollup_count_once_when_they_come_again():
    rollup = of_ids(1, 2, source="one").merge(of_ids(3, source="two"))
    rollup.add_csv(pa.table({"id": ["3", "4"], "name": ["a", "a"]}))
    assert rollup.group()["count"].to_pylist() == [4]


def test_adding_by_an_executor_does_not_group_what_is_there(monkeypatch):
    rollup = of_ids(1, 2, source="one")
    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.delattr(DataframeActivity.__mro__[1], "group")
        rollup.add(Extractor([]), executor=pool)
    assert rollup.group()["count"].to_pylist() == [2]


@pytest.fixture
def tarball(tmp_path):
    """A tarball with a row of each of two collections that one rollup is of."""

    @collector
    def job_host_summary(*, output_dir=None):
        (output_dir / "a.csv").write_text("id,created,modified,host_name,ok\n1,,,h,1\n")
        return [output_dir / "a.csv"]

    @collector
    def main_indirectmanagednodeaudit(*, output_dir=None):
        (output_dir / "b.csv").write_text("id,created,host_name,task_runs\n1,,n,3\n")
        return [output_dir / "b.csv"]

    both = [job_host_summary(), main_indirectmanagednodeaudit()]
    [made] = Package(both, directory=tmp_path, keep=True)
    return made


@pytest.mark.parametrize("in_pool", [False, True])
def test_a_tarball_that_was_added_in_part_is_not_taken_for_the_whole(tarball, tmp_path, in_pool):
    with ThreadPoolExecutor(1) as pool:
        executor = pool if in_pool else None
        part = Extractor([tarball], collections={"job_host_summary"})
        rollup = DataframeJobHostSummary().add(part, executor=executor)
        rollup.add(part, executor=executor)
        assert rollup.group().num_rows == 1
        rollup.to_parquet(tmp_path / "part")
        whole = DataframeJobHostSummary().add(Extractor([tarball]), executor=executor)
        assert whole.group().num_rows == 2
        for again in (
            lambda: rollup.add(Extractor([tarball]), executor=executor),
            lambda: rollup.merge(whole),
            lambda: whole.add_parquet(tmp_path / "part"),
        ):
            with pytest.raises(StateError, match="some of their collections"):
                again()
    assert (rollup.group().num_rows, whole.group().num_rows) == (1, 2)


@pytest.mark.parametrize("kind", ["bytes", "another table", "cut off"])
def test_a_file_that_is_no_stored_rollup_is_named(tmp_path, kind):
    path = tmp_path / "stored.parquet"
    DataframeActivity("runs", by=["name"]).to_parquet(path)
    if kind == "another table":
        pq.write_table(pa.table({"a": [1]}), path)
    else:
        path.write_bytes(b"PAR1xx" if kind == "bytes" else path.read_bytes()[:-40])
    with pytest.raises(ParameterError, match=r"stored\.parquet' is no stored rollup"):
        DataframeActivity("runs", by=["name"]).add_parquet(path)
