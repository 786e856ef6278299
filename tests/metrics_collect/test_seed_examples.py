"""The examples of the specification's library, with only their import lines changed.

Names that the examples leave undefined (connections, servers, files) are stand-ins of the test.
"""

import datetime as dt
import json
import os

import pytest

from ops.metrics_collect import (
    DataframeJobHostSummary,
    Extractor,
    Package,
    ReportCCSP,
    StorageCRC,
    StorageCRCMutual,
    StorageDirectory,
    StorageS3,
    StorageSegment,
    collector,
    tempdir,
)

DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)


def test_datetime_helpers():
    from ops.foundation.instants import days_ago, now

    # Get data for the last 30 days
    since = days_ago(30)
    until = now()

    assert since < until
    assert until.utcoffset() == dt.timedelta(0)


def test_all_datetime_helpers_are_there():
    from ops.foundation import instants

    for unit in ("minute", "hour", "day", "week", "month"):
        assert getattr(instants, f"this_{unit}")().utcoffset() == dt.timedelta(0)
        ago = getattr(instants, f"{unit}s_ago")
        assert ago(1) < ago(0)
    for unit in ("hour", "day", "week", "month"):
        assert getattr(instants, f"last_{unit}")() < getattr(instants, f"this_{unit}")()
    assert instants.iso(DAY) == "2026-10-01T00:00:00+00:00"


def test_a_collector_called_and_gathered_does_what_the_function_does():
    def my_collector(*, db):
        return {"rows": db}

    decorated = collector(my_collector)
    assert decorated(db=3).gather() == my_collector(db=3)


def test_storage_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = StorageDirectory(
        base_path="./",
    )
    _round_trip(storage, tmp_path)


@pytest.mark.service
def test_storage_s3(s3, s3_prefix, tmp_path):
    pytest.importorskip("boto3")
    storage = StorageS3(
        bucket=s3.bucket,
        endpoint=s3.endpoint,  # or 'https://s3.us-east.example.com'
        region="us-east-1",  # optional
        access_key=s3.access_key,
        secret_key=s3.secret_key,
    )
    _round_trip(storage, tmp_path, s3_prefix + "-")


def _round_trip(storage, folder, prefix=""):
    path = folder / "local.bin"
    path.write_bytes(b"content")
    storage.put(prefix + "a.json", dict={"data": 1})
    storage.put(prefix + "b.bin", filename=path)
    with open(path, "rb") as handle:
        storage.put(prefix + "c.bin", fileobj=handle)
    with storage.get(prefix + "a.json") as filename, open(filename) as file:
        assert json.load(file) == {"data": 1}
    assert not os.path.exists(filename)
    assert storage.exists(prefix + "b.bin")
    storage.remove(prefix + "b.bin")
    assert not storage.exists(prefix + "b.bin")
    assert storage.glob(prefix + "*.bin") in ([prefix + "c.bin"], ["c.bin", "local.bin"])


def test_storage_segment(server):
    pytest.importorskip("httpx")
    storage = StorageSegment(
        debug=False,
        user_id="unknown",
        write_key="...",
        host=server.url,
    )
    storage.put("name", dict={"a": 1})
    storage.close()
    assert len(server.requests) == 1


def test_storage_crc(server):
    pytest.importorskip("httpx")
    server.replies["/token"] = {"access_token": "t", "expires_in": 60}
    storage = StorageCRC(
        client_id="00000000-0000-0000-0000-000000000000",
        client_secret="...",
        ingress_url=f"{server.url}/api/ingress/v1/upload",
        proxy_url=None,
        sso_url=f"{server.url}/token",
        verify_cert_path=None,
    )
    storage.put("name.tar.gz", dict={"a": 1})
    storage.close()
    assert [r.path for r in server.requests] == ["/token", "/api/ingress/v1/upload"]


def test_storage_crc_mutual_is_made_as_shown():
    StorageCRCMutual(
        ingress_url="https://console.redhat.com/api/ingress/v1/upload",
        proxy_url=None,
        session_cert=("/etc/pki/consumer/cert.pem", "/etc/pki/consumer/key.pem"),
        verify_cert_path="/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    )


CALLS = {
    "execution_environments": (),
    "job_host_summary": ("since", "until"),
    "job_host_summary_service": ("since", "until"),
    "main_host": (),
    "main_indirectmanagednodeaudit": ("since", "until"),
    "main_jobevent": ("since", "until"),
    "main_jobevent_service": ("since", "until"),
    "unified_jobs": ("since", "until"),
}


@pytest.mark.service
def test_the_whole_chain_of_the_library(controller_db, tmp_path):
    from ops.metrics_collect.collectors.controller import config, unified_jobs

    db = controller_db
    since, until = DAY, DAY + dt.timedelta(days=1)
    assert isinstance(config(db=db, billing_provider_params={}).gather(), dict)
    with tempdir("job-") as output_dir:
        for name, interval in CALLS.items():
            from ops.metrics_collect.collectors import controller

            moments = {"since": since, "until": until} if interval else {}
            found = getattr(controller, name)(db=db, output_dir=output_dir, **moments).gather()
            assert all(os.path.dirname(f) == output_dir for f in found)

    storage = StorageDirectory(base_path=tmp_path / "storage")
    collectors = [
        controller.job_host_summary(db=db, since=since, until=until),
        unified_jobs(db=db, since=since, until=until),
        config(db=db),
    ]
    for tarball in Package(collectors, directory=tmp_path):
        storage.put(tarball.name, filename=tarball)
    names = storage.glob("*.tar.gz")
    with storage.get(names[0]) as filename:
        extractor = Extractor([filename], {"job_host_summary"})
        raw = extractor.frame("job_host_summary")
        dataframe = DataframeJobHostSummary().add_csv(raw)
        dataframe.to_parquet(tmp_path / "rollup.parquet")
    again = DataframeJobHostSummary().add_parquet(tmp_path / "rollup.parquet")
    assert again.regroup() == dataframe.group()
    assert len(again.to_pandas()) > 0
    pytest.importorskip("xlsxwriter")
    ReportCCSP({"job_host_summary": again}, {"company": "ACME"}).save(tmp_path / "report.xlsx")
    storage.put("report.xlsx", filename=tmp_path / "report.xlsx")
    assert storage.exists("report.xlsx")


def test_total_workers_vcpu(server):
    pytest.importorskip("httpx")
    from ops.metrics_collect.collectors.others import total_workers_vcpu

    server.replies["/api/v1/query"] = {
        "status": "success",
        "data": {"result": [{"value": [0, "8"]}]},
    }
    found = total_workers_vcpu(
        cluster_name="c",
        metering_enabled=True,
        prometheus_url=server.url,
        ca_cert_path=None,
        token="t",
    ).gather()
    assert found["total_workers_vcpu"] == 8
