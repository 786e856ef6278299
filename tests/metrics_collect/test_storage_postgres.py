import io

import pytest

from ops.metrics_collect import ObjectExists, StorageError, StoragePostgres
from ops.metrics_collect.conformance import StorageBehaviour
from ops.resilience import RetryConfig

pytest.importorskip("psycopg")
pytestmark = pytest.mark.service


@pytest.fixture(scope="session")
def objects_dsn(postgres):
    return postgres.database()


@pytest.fixture
def storage(objects_dsn, request):
    return StoragePostgres(objects_dsn, f"objects_{abs(hash(request.node.name)):x}")


class TestStoragePostgres(StorageBehaviour):
    @pytest.fixture
    def storage(self, storage):
        return storage


def test_objects_of_many_pieces_come_back_whole(storage):
    data = bytes(range(251)) * 20_000
    storage.put("big", fileobj=io.BytesIO(data))
    with storage.get("big") as path, open(path, "rb") as file:
        assert file.read() == data
    storage.put("empty", fileobj=io.BytesIO(b""))
    with storage.get("empty") as path, open(path, "rb") as file:
        assert file.read() == b""


def test_of_two_that_create_at_once_one_wins(storage):
    import threading

    results = []

    def create(number):
        try:
            storage.put("name", dict={"by": number}, overwrite=False)
            results.append("made")
        except ObjectExists:
            results.append("taken")

    threads = [threading.Thread(target=create, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["made", "taken", "taken", "taken"]


def test_a_server_that_is_away_is_an_error_without_the_password():
    dsn = "host=127.0.0.1 port=9 user=u password=hush-hush"
    storage = StoragePostgres(dsn, retry=RetryConfig(max_attempts=2, initial_delay=0.0))
    with pytest.raises(StorageError) as caught:
        storage.exists("name")
    assert "hush-hush" not in f"{caught.value} {storage!r}"


@pytest.mark.parametrize("mine", [True, False])
def test_a_put_whose_answer_was_lost_is_known_by_its_digests(storage, monkeypatch, mine):
    import psycopg

    data = bytes(range(251)) * 9_000
    storage.list()  # makes the table
    commit, lost = psycopg.Connection.commit, []

    def commit_and_lose_the_answer(connection):
        if not lost:
            lost.append(True)
            if not mine:
                connection.rollback()
                other = StoragePostgres(storage._dsn, storage.table)
                other.put("name", dict={"not": "ours"}, overwrite=False)
            commit(connection)
            connection.close()
            raise psycopg.OperationalError("the answer was lost")
        commit(connection)

    monkeypatch.setattr(psycopg.Connection, "commit", commit_and_lose_the_answer)
    if mine:
        storage.put("name", fileobj=io.BytesIO(data), overwrite=False)
        with storage.get("name") as path, open(path, "rb") as file:
            assert file.read() == data
    else:
        with pytest.raises(ObjectExists):
            storage.put("name", fileobj=io.BytesIO(data), overwrite=False)
