"""Randomness by name and work in processes: neither depends on the other."""

import os
import sys
from concurrent.futures import as_completed

import numpy as np
import pytest

from dimuon.errors import UserError
from dimuon.workflow import executor
from dimuon.workflow.executor import AtOnce


def process(_):
    return os.getpid()


def draw(seed):
    return float(executor.generator(seed, "test").random())


def test_streams_depend_on_seed_and_name_alone():
    first = executor.generator(1, "flows", "os", 0).random(5)
    np.testing.assert_array_equal(first, executor.generator(1, "flows", "os", 0).random(5))
    for other in [(2, "flows", "os", 0), (1, "flows", "ss", 0), (1, "flows", "os", 1), (1, "bdt", "os", 0)]:
        assert not np.allclose(first, executor.generator(*other).random(5))


def test_integer_seeds_fit_libraries_that_take_31_bits():
    seeds = [executor.integer_seed(1, "bdt", fold, member) for fold in range(5) for member in range(100)]
    assert len(set(seeds)) == 500
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_return_what_one_process_does(workers):
    with executor.executor(workers) as pool:
        assert list(pool.map(draw, range(5))) == [draw(seed) for seed in range(5)]


def test_a_dask_cluster_returns_what_one_process_does():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        with executor.executor(scheduler=cluster.scheduler_address) as pool:
            assert list(pool.map(draw, range(5))) == [draw(seed) for seed in range(5)]
            futures = [pool.submit(draw, seed) for seed in range(5)]
            assert {future.result() for future in as_completed(futures)} == {draw(seed) for seed in range(5)}
            workers = set(pool.map(process, range(20)))
    assert os.getpid() not in workers  # the work was done in the cluster


def test_a_scheduler_without_dask_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)  # as where it is not installed
    with pytest.raises(UserError, match="dimuon\\[dask\\]"), executor.executor(scheduler="tcp://127.0.0.1:1"):
        pass


def test_work_at_once_gives_the_result_or_the_error_of_the_task():
    pool = AtOnce()
    assert pool.submit(draw, seed=3).result() == draw(3)
    assert list(pool.map(draw, range(3))) == [draw(seed) for seed in range(3)]
    future = pool.submit(draw, "no seed")
    assert isinstance(future.exception(), TypeError | ValueError)
