"""Randomness by name and work in processes: neither depends on the other."""

import os
import zlib

import numpy as np
import pytest

from dimuon.random import Stream
from dimuon.workflow import executor, machine
from dimuon.workflow.executor import AtOnce


def process(_):
    return os.getpid()


def draw(seed):
    return float(Stream(seed).child("test").generator().random())


def test_streams_depend_on_seed_and_name_alone():
    stream = Stream(1).child("flows", "os", 0)
    first = stream.generator().random(5)
    np.testing.assert_array_equal(first, Stream(1).child("flows").child("os", 0).generator().random(5))
    for seed, *names in [(2, "flows", "os", 0), (1, "flows", "ss", 0), (1, "flows", "os", 1), (1, "bdt", "os", 0)]:
        assert not np.allclose(first, Stream(seed).child(*names).generator().random(5))


def test_a_stream_is_the_seed_sequence_of_its_name():
    """Results of every version rest on it."""
    key = (zlib.crc32(b"flows"), zlib.crc32(b"os"), 3)
    sequence = np.random.SeedSequence(2016, spawn_key=key)
    stream = Stream(2016).child("flows", "os", 3)
    assert stream.generator().random() == np.random.default_rng(sequence).random()
    assert stream.integer() == int(sequence.generate_state(1)[0] >> 1)
    assert stream.rooted() == Stream(stream.integer())


def test_integers_fit_libraries_that_take_31_bits():
    seeds = [Stream(1).child("bdt", fold, member).integer() for fold in range(5) for member in range(100)]
    assert len(set(seeds)) == 500
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_return_what_one_process_does(workers):
    with executor.executor(workers) as pool:
        assert list(pool.map(draw, range(5))) == [draw(seed) for seed in range(5)]


def test_work_at_once_gives_the_result_or_the_error_of_the_task():
    pool = AtOnce()
    assert pool.submit(draw, seed=3).result() == draw(3)
    assert list(pool.map(draw, range(3))) == [draw(seed) for seed in range(3)]
    future = pool.submit(draw, "no seed")
    assert isinstance(future.exception(), TypeError | ValueError)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system keeps no process to some of its cores")
def test_a_worker_for_each_core_that_this_process_may_use():
    """Not for each that the machine has: a batch system may have given it one."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert machine.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
