"""Datasets for evaluations are kept here as in MLflow's SQLite store, which each test also asks."""

from __future__ import annotations

import json
import uuid

import pytest
from mlflow.entities.dataset_record_source import DatasetRecordSource
from mlflow.exceptions import MlflowException


@pytest.fixture
def at(either):
    return either


@pytest.fixture
def dataset(at):
    return at.store.create_dataset("qa", {"team": "ds", "mlflow.user": "ada"}, [at.home])


def records(at, dataset):
    return at.store._load_dataset_records(dataset.dataset_id)[0]


def test_a_dataset_is_what_it_was_created_as(at, dataset):
    assert dataset.dataset_id.startswith("d-")
    same = at.store.get_dataset(dataset.dataset_id)
    assert (same.name, same.tags, same.created_by) == ("qa", dataset.tags, "ada")
    assert (same.digest, same.created_time) == (dataset.digest, dataset.created_time)
    assert (same.schema, same.profile) == (None, None)
    assert dataset.experiment_ids == [at.home]
    assert at.store.get_dataset_experiment_ids(dataset.dataset_id) == [at.home]
    bare = at.store.create_dataset("bare")
    assert (bare.tags, bare.experiment_ids) == ({}, [])


def test_records_are_added_and_those_with_the_same_inputs_merged(at, dataset):
    done = at.store.upsert_dataset_records(
        dataset.dataset_id,
        [
            {
                "inputs": {"q": 1, "p": 2},
                "outputs": "a",
                "expectations": {"x": 1},
                "tags": {"t": "1"},
            },
            {"inputs": {"q": 2}},
            {
                "inputs": {"p": 2, "q": 1},
                "expectations": {"y": 2},
                "tags": {"u": "2", "mlflow.user": "bob"},
            },
        ],
    )
    assert done == {"inserted": 2, "updated": 1}
    first, second = sorted(records(at, dataset), key=lambda one: one.inputs["q"])
    assert (first.inputs, first.outputs) == ({"q": 1, "p": 2}, "a")
    assert first.expectations == {"x": 1, "y": 2}
    assert first.tags == {"t": "1", "u": "2", "mlflow.user": "bob"}
    assert (first.created_by, first.last_updated_by) == (None, "bob")
    assert (second.inputs, second.outputs, second.expectations, second.tags) == (
        {"q": 2},
        {},
        None,
        {},
    )
    done = at.store.upsert_dataset_records(
        dataset.dataset_id, [{"inputs": {"q": 2}, "outputs": None}]
    )
    assert done == {"inserted": 0, "updated": 1}
    assert sorted(one.outputs or "" for one in records(at, dataset)) == ["", "a"]
    same = at.store.get_dataset(dataset.dataset_id)
    assert json.loads(same.profile) == {"num_records": 2}
    assert same.last_update_time >= dataset.last_update_time


def test_the_schema_has_each_field_with_its_first_type(at, dataset):
    at.store.upsert_dataset_records(
        dataset.dataset_id,
        [
            {
                "inputs": {"a": 1, "b": "x", "c": [1]},
                "outputs": {"o": True},
                "expectations": {"e": None},
            },
            {"inputs": {"a": 2.5, "d": {}}, "outputs": {"p": 1.5}},
        ],
    )
    schema = json.loads(at.store.get_dataset(dataset.dataset_id).schema)
    assert schema["inputs"] == {"a": "integer", "b": "string", "c": "array", "d": "object"}
    assert schema["outputs"] == {"o": "boolean", "p": "float"}
    assert schema["expectations"] == {"e": "null"}
    other = at.store.create_dataset("texts")
    at.store.upsert_dataset_records(other.dataset_id, [{"inputs": {"a": 1}, "outputs": "text"}])
    assert json.loads(at.store.get_dataset(other.dataset_id).schema)["outputs"] == "string"


def test_a_record_knows_where_it_is_from(at, dataset):
    source = {"source_type": "TRACE", "source_data": {"trace_id": "tr-1"}}
    for number, given in enumerate((source, DatasetRecordSource.from_dict(source))):
        record = {"inputs": {"q": number}, "source": given}
        at.store.upsert_dataset_records(dataset.dataset_id, [record])
    for one in records(at, dataset):
        assert (one.source.source_type, one.source_id) == ("TRACE", "tr-1")
        assert one.dataset_record_id.startswith("dr-")


def test_records_come_in_pages(at, dataset):
    rows = [{"inputs": {"q": number}} for number in range(7)]
    at.store.upsert_dataset_records(dataset.dataset_id, rows)
    seen, token, sizes = [], None, []
    while True:
        page, token = at.store._load_dataset_records(dataset.dataset_id, 3, token)
        seen += [one.inputs["q"] for one in page]
        sizes.append(len(page))
        if token is None:
            break
    assert (sizes, sorted(seen)) == ([3, 3, 1], list(range(7)))


def test_records_are_deleted(at, dataset):
    at.store.upsert_dataset_records(dataset.dataset_id, [{"inputs": {"q": n}} for n in range(3)])
    ids = {one.inputs["q"]: one.dataset_record_id for one in records(at, dataset)}
    assert at.store.delete_dataset_records(dataset.dataset_id, [ids[0], ids[1], "dr-none"]) == 2
    assert at.store.delete_dataset_records(dataset.dataset_id, [ids[0]]) == 0
    assert [one.dataset_record_id for one in records(at, dataset)] == [ids[2]]
    assert json.loads(at.store.get_dataset(dataset.dataset_id).profile) == {"num_records": 1}
    gone = {"inputs": {"q": 0}}  # as if it had never been there
    assert at.store.upsert_dataset_records(dataset.dataset_id, [gone])["inserted"] == 1


def test_tags_are_set_and_removed(at, dataset):
    at.store.set_dataset_tags(dataset.dataset_id, {"team": "ml", "n": 3, "none": None})
    at.store.delete_dataset_tag(dataset.dataset_id, "mlflow.user")
    at.store.delete_dataset_tag(dataset.dataset_id, "never")
    at.store.delete_dataset_tag("d-none", "never")
    assert at.store.get_dataset(dataset.dataset_id).tags == {"team": "ml", "n": "3"}
    with pytest.raises(MlflowException, match="Could not find"):
        at.store.set_dataset_tags("d-none", {"a": "b"})


def test_a_dataset_belongs_to_experiments(at, dataset):
    other = at.store.create_experiment(uuid.uuid4().hex)
    added = at.store.add_dataset_to_experiments(dataset.dataset_id, [other, at.home])
    assert added.dataset_id == dataset.dataset_id
    assert sorted(at.store.get_dataset_experiment_ids(dataset.dataset_id)) == sorted(
        [at.home, other]
    )
    at.store.remove_dataset_from_experiments(dataset.dataset_id, [at.home, "987654"])
    assert at.store.get_dataset_experiment_ids(dataset.dataset_id) == [other]
    assert at.store.get_dataset_experiment_ids("d-none") == []
    for call in (at.store.add_dataset_to_experiments, at.store.remove_dataset_from_experiments):
        with pytest.raises(MlflowException, match="not found"):
            call("d-none", [other])
    with pytest.raises(MlflowException, match="No Experiment"):
        at.store.add_dataset_to_experiments(dataset.dataset_id, ["987654"])


def test_a_deleted_dataset_is_gone_with_its_records(at, dataset):
    at.store.upsert_dataset_records(dataset.dataset_id, [{"inputs": {"q": 1}}])
    for _ in range(2):
        at.store.delete_dataset(dataset.dataset_id)
    with pytest.raises(MlflowException, match="not found"):
        at.store.get_dataset(dataset.dataset_id)
    assert at.store._load_dataset_records(dataset.dataset_id) == ([], None)
    assert list(at.store.search_datasets([at.home])) == []


def test_datasets_are_found_by_name_tag_person_and_experiment(at):
    mark = uuid.uuid4().hex[:8]
    for number in range(5):
        tags = {"mlflow.user": f"u{number % 2}", "n": str(number), "mark": mark}
        at.store.create_dataset(f"{mark}-{number}", tags, [at.home] if number % 2 else None)

    def names(text=None, **more):
        more.setdefault("order_by", ["name ASC"])
        text = f"tags.mark = '{mark}'" + (f" AND {text}" if text else "")
        return [
            one.name.removeprefix(f"{mark}-")
            for one in at.store.search_datasets(None, text, **more)
        ]

    assert names() == ["0", "1", "2", "3", "4"]
    assert names(order_by=["name DESC"]) == ["4", "3", "2", "1", "0"]
    assert names(f"name = '{mark}-3'") == ["3"]
    assert names(f"name != '{mark}-3'") == ["0", "1", "2", "4"]
    assert names("name LIKE '%-1'") == ["1"]
    assert names(f"name ILIKE '{mark.upper()}-2'") == ["2"]
    assert names(f"name IN ('{mark}-1', '{mark}-2')") == ["1", "2"]
    assert names("tags.n = '4'") == ["4"]
    assert names("tags.n != '4'") == ["0", "1", "2", "3"]
    assert names("created_by = 'u1'") == ["1", "3"]
    assert names("last_updated_by LIKE 'u0'") == ["0", "2", "4"]
    assert names("created_time > 0") == names()
    assert names("last_update_time < 5") == []
    assert sorted(one.name for one in at.store.search_datasets([at.home])) == [
        f"{mark}-1",
        f"{mark}-3",
    ]


def test_datasets_come_in_pages_newest_first(at):
    made = [at.store.create_dataset(f"n{number}", None, [at.home]) for number in range(5)]
    seen, token, sizes = [], None, []
    while True:
        page = at.store.search_datasets([at.home], max_results=2, page_token=token)
        seen += page
        sizes.append(len(page))
        token = page.token
        if not token:
            break
    assert sizes == [2, 2, 1]
    times = [(one.created_time, one.dataset_id) for one in seen]
    assert times == sorted(times, reverse=True)
    assert {one.dataset_id for one in seen} == {one.dataset_id for one in made}


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "created_time LIKE 'a'",
        "created_time = 1.5",
        "tags.a > '1'",
        "x.y = 'a'",
        "size = 1",
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(at, text):
    with pytest.raises(MlflowException):
        at.store.search_datasets(None, text)


def test_an_erased_experiment_is_forgotten_by_datasets(store):
    made = store.store.create_dataset("qa", None, [store.home])
    store.store.delete_experiment(store.home)
    store.store._hard_delete_experiment(store.home)
    assert store.store.get_dataset_experiment_ids(made.dataset_id) == []
