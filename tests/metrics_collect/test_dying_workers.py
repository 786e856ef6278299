"""A worker that is killed in the middle of a rollup: nothing is counted twice, and nothing is lost."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
from tests.metrics_collect.test_rollup_engines import CHUNKS, tarballs

from ops.metrics_collect import DataframeJobHostSummary, Extractor, StateError

pytestmark = pytest.mark.fault


class DyingOnce(DataframeJobHostSummary):
    """Kills the first process that prepares rows, unless the file *flag* is there."""

    flag = ""

    def prepare(self, raw, config, collection):
        try:
            os.close(os.open(self.flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return super().prepare(raw, config, collection)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@pytest.fixture
def parts(tmp_path):
    return tarballs(tmp_path, CHUNKS)


@pytest.fixture
def expected(parts):
    return DataframeJobHostSummary().add(Extractor(parts)).group()


@pytest.fixture
def rollup(tmp_path):
    made = DyingOnce()
    made.flag = str(tmp_path / "flag")
    return made


def test_a_rollup_whose_pool_broke_goes_on_with_the_tarballs_that_are_missing(
    parts, expected, rollup
):
    context = multiprocessing.get_context("spawn")
    with (
        concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor,
        pytest.raises(StateError, match=r"A worker died.*add the same tarballs again"),
    ):
        rollup.add(Extractor(parts), executor=executor)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        rollup.add(Extractor(parts), executor=executor)
    assert rollup.group() == expected


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_gives_the_tarball_of_a_killed_worker_to_another(
    parts, expected, rollup, tmp_path
):
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    with (
        dask.config.set({"temporary-directory": str(tmp_path)}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
    ):
        rollup.add(Extractor(parts), executor=cluster.scheduler_address)
    assert (tmp_path / "flag").exists()
    assert rollup.group() == expected
    # The next process removes the folder of the killed one, if no worker has.
    sweep = "from ops.metrics_collect.workspaces import workspace\nwith workspace(): pass"
    subprocess.run([sys.executable, "-c", sweep], check=True)
