"""Randomness by name and work in processes: neither depends on the other."""

import numpy as np
import pytest

from dimuon.errors import UserError
from dimuon.workflow import executor


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


def test_a_scheduler_without_dask_says_what_to_install():
    try:
        import distributed  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="dimuon\\[dask\\]"), executor.executor(scheduler="tcp://127.0.0.1:1"):
            pass
    else:
        pytest.skip("Dask is installed")
