import io

import pytest
from tests.metrics_collect.storage_suite import StorageSuite

from ops.metrics_collect import ObjectExists, StorageError, StoragePostgres
from ops.resilience import RetryConfig

pytest.importorskip("psycopg")
pytestmark = pytest.mark.service


@pytest.fixture(scope="session")
def objects_dsn(postgres):
    return postgres.database()


@pytest.fixture
def storage(objects_dsn, request):
    return StoragePostgres(objects_dsn, f"objects_{abs(hash(request.node.name)):x}")


class TestStoragePostgres(StorageSuite):
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
