"""StorageS3 on a real server: the suite of all storages, and what only S3 has."""

import hashlib
import io
import json

import pytest

from ops.metrics_collect import ObjectExists, ParameterError, StorageError, StorageS3
from ops.metrics_collect.conformance import StorageBehaviour
from ops.resilience import RetryConfig

pytest.importorskip("boto3")
pytestmark = pytest.mark.service

MIB = 1 << 20


class Dying(BaseException):
    pass


class TestStorageS3(StorageBehaviour):
    @pytest.fixture
    def storage(self, s3, s3_prefix):
        return s3.storage(s3_prefix)


@pytest.fixture
def storage(s3, s3_prefix):
    return s3.storage(s3_prefix, part_bytes=5 * MIB)


def content(storage, name):
    with storage.get(name) as path, open(path, "rb") as file:
        return file.read()


def test_a_large_file_goes_in_parts_and_comes_back_whole(storage):
    data = bytes(range(256)) * (12 * MIB // 256)
    storage.put("big", fileobj=io.BytesIO(data), overwrite=False)
    assert content(storage, "big") == data
    with pytest.raises(ObjectExists):
        storage.put("big", fileobj=io.BytesIO(data + b"!"), overwrite=False)


def test_an_upload_that_was_interrupted_goes_on_where_it_ended(storage, monkeypatch):
    data = b"".join(bytes([i]) * (5 * MIB) for i in range(3))
    sent = []
    upload_part = storage._client.upload_part

    def dying(**options):
        if len(sent) == 2:
            raise Dying
        sent.append(options["PartNumber"])
        return upload_part(**options)

    monkeypatch.setattr(storage._client, "upload_part", dying)
    with pytest.raises(Dying):
        storage.put("big", fileobj=io.BytesIO(data))
    assert not storage.exists("big")

    sent.clear()
    storage.put("big", fileobj=io.BytesIO(data))
    assert sent == [3]
    assert content(storage, "big") == data


def interrupt_after_one_part(storage, data, monkeypatch):
    upload_part = storage._client.upload_part

    def dying(**options):
        if options["PartNumber"] == 2:
            raise Dying
        return upload_part(**options)

    with monkeypatch.context() as patch:
        patch.setattr(storage._client, "upload_part", dying)
        with pytest.raises(Dying):
            storage.put("big", fileobj=io.BytesIO(data))


def test_what_is_left_of_an_upload_of_other_content_is_not_mixed_in(storage, monkeypatch):
    interrupt_after_one_part(storage, b"a" * (6 * MIB), monkeypatch)
    storage.put("big", fileobj=io.BytesIO(b"b" * (6 * MIB)))
    assert content(storage, "big") == b"b" * (6 * MIB)


def test_a_tail_that_differs_gives_the_digest_of_what_was_sent_last(storage, monkeypatch):
    same, old, new = b"s" * (5 * MIB), b"o" * MIB, b"n" * MIB
    interrupt_after_one_part(storage, same + old, monkeypatch)
    storage.put("big", fileobj=io.BytesIO(same + new))
    assert content(storage, "big") == same + new


@pytest.mark.parametrize("step", ["head_object", "copy_object"])
def test_what_another_has_put_since_keeps_its_digest(s3, s3_prefix, storage, monkeypatch, step):
    same, old, new = b"s" * (5 * MIB), b"o" * MIB, b"n" * MIB
    interrupt_after_one_part(storage, same + old, monkeypatch)
    call = getattr(storage._client, step)

    def overtaken(**options):
        s3.storage(s3_prefix).put("big", fileobj=io.BytesIO(b"another's"))
        return call(**options)

    monkeypatch.setattr(storage._client, step, overtaken)
    storage.put("big", fileobj=io.BytesIO(same + new))
    assert content(storage, "big") == b"another's"


def test_of_two_that_create_at_once_one_wins(s3, s3_prefix, monkeypatch):
    first, second = s3.storage(s3_prefix), s3.storage(s3_prefix)
    # Both have looked and found nothing; the server decides.
    monkeypatch.setattr(second, "_head", lambda key: None)
    first.put("name", dict={"by": "first"}, overwrite=False)
    with pytest.raises(ObjectExists):
        second.put("name", dict={"by": "second"}, overwrite=False)
    assert json.loads(content(first, "name")) == {"by": "first"}


def test_a_put_whose_answer_was_lost_is_known_by_its_digest(storage, monkeypatch):
    from botocore.exceptions import ConnectionClosedError

    put_object = storage._client.put_object
    calls = []

    def losing(**options):
        result = put_object(**options)
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionClosedError(endpoint_url="http://gone")
        return result

    monkeypatch.setattr(storage._client, "put_object", losing)
    storage._connection._retry = _quick(storage)
    storage.put("name", dict={"v": 1}, overwrite=False)
    assert len(calls) == 1
    assert json.loads(content(storage, "name")) == {"v": 1}


def _quick(storage):
    from ops.metrics_collect.storage._s3_connection import Passing
    from ops.resilience import with_retry

    return with_retry(RetryConfig(max_attempts=3, initial_delay=0.0, exceptions=Passing))


def test_every_object_carries_its_digest(storage):
    storage.put("name", fileobj=io.BytesIO(b"abc"))
    head = storage._client.head_object(Bucket=storage.bucket, Key=f"{storage.prefix}name")
    assert head["Metadata"]["sha256"] == hashlib.sha256(b"abc").hexdigest()


def test_wrong_credentials_raise_at_once_and_tell_no_secret(s3):
    storage = StorageS3("metrics", s3.endpoint, "us-east-1", "tests", "wrong-secret-key")
    with pytest.raises(StorageError) as caught:
        storage.put("name", dict={})
    assert "wrong-secret-key" not in f"{caught.value} {storage!r} {vars(storage)}"


def test_a_server_that_is_away_is_an_error_when_the_attempts_are_used_up():
    retry = RetryConfig(max_attempts=2, initial_delay=0.0)
    storage = StorageS3("metrics", "http://127.0.0.1:9", "us-east-1", "a", "b", retry=retry)
    with pytest.raises(StorageError, match="2 attempts"):
        storage.exists("name")


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("OPS_METRICS_BUCKET_NAME", raising=False)
    with pytest.raises(ParameterError, match="OPS_METRICS_BUCKET_NAME"):
        StorageS3()
    for name, value in {
        "NAME": "b",
        "ENDPOINT": "http://e",
        "REGION": "r",
        "ACCESS_KEY": "a",
        "SECRET_KEY": "hush",
    }.items():
        monkeypatch.setenv(f"OPS_METRICS_BUCKET_{name}", value)
    storage = StorageS3()
    assert (storage.bucket, storage._client.meta.region_name) == ("b", "r")
    assert repr(storage) == "<StorageS3 b/ at http://e>"
