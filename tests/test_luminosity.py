"""The certified-luminosity mask against a plain loop."""

import json

import numpy as np
import pytest

from dimuon.data import luminosity
from dimuon.errors import UserError


def test_certified_agrees_with_a_plain_loop_over_random_json():
    rng = np.random.default_rng(1)
    sections = {}
    for run in rng.choice(np.arange(270_000, 270_050), 30, replace=False):
        low = rng.integers(1, 200, rng.integers(1, 6))
        sections[str(run)] = [[int(first), int(first + rng.integers(0, 40))] for first in low]  # some overlap
    run = rng.integers(269_998, 270_052, 20_000).astype(np.uint32)
    section = rng.integers(0, 260, 20_000).astype(np.uint32)
    mask = luminosity.LuminosityMask(sections)
    expected = [
        any(low <= s <= high for low, high in sections.get(str(r), ())) for r, s in zip(run, section, strict=True)
    ]
    assert 0.1 < np.mean(expected) < 0.9
    np.testing.assert_array_equal(mask.certified(run, section), expected)
    good = {(int(r), s) for r, pairs in sections.items() for low, high in pairs for s in range(low, high + 1)}
    assert mask.n_sections == len(good)


def test_both_ends_of_an_interval_are_certified():
    mask = luminosity.LuminosityMask({"278820": [[3, 5]]})
    assert mask.certified([278820] * 5 + [278819, 278821], [2, 3, 4, 5, 6, 4, 4]).tolist() == [
        False, True, True, True, False, False, False,
    ]  # fmt: skip


def test_sections_and_keys_are_inverse():
    sections = {"1": [[1, 3], [7, 7]], "2": [[4, 6]]}
    keys = luminosity.as_keys(sections)
    assert len(keys) == 7
    assert luminosity.as_sections(np.random.default_rng(0).permutation(np.repeat(keys, 2))) == sections
    assert luminosity.as_sections([]) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a list of certified"),
        ("[1, 2]", "found list"),
        ('{"278820": [[5, 3]]}', "do not rise"),
        ('{"278820": [[1]]}', r"\[1\]"),
        ('{"278820": [1, 2]}', "where .first, last. is due"),
        ('{"278820": 7}', "where a list"),
        ('{"run": [[1, 2]]}', "not a run number"),
        ('{"278820": [["1", "2"]]}', "is due"),
        ('{"1": [[1, 2]], "278820": [[1, 2]], "278820": [[5, 6]]}', "run 278820 is given 2 times"),
        ("{}", "certifies no luminosity section"),
        ('{"278820": []}', "certifies no luminosity section"),
    ],
)
def test_a_bad_json_is_named(tmp_path, text, words):
    path = tmp_path / "golden.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        luminosity.read(path)
    assert str(path) in str(caught.value)


def test_an_absent_json_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        luminosity.read(tmp_path / "absent.json")


def test_digest_knows_the_sections_and_nothing_else():
    one = luminosity.LuminosityMask(json.loads('{"1": [[1, 3]], "2": [[1, 2]]}'))
    same = luminosity.LuminosityMask(json.loads('{"2": [[1, 2]], "1": [[2, 3], [1, 2]]}'))
    other = luminosity.LuminosityMask(json.loads('{"1": [[1, 4]], "2": [[1, 2]]}'))
    assert one.digest == same.digest != other.digest
