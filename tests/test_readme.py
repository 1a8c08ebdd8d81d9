"""What the README shows of the library runs, and gives what it says."""

import doctest
import re

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
EXAMPLES = [block for block in BLOCKS if ">>>" in block]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def test_there_is_an_example():
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_library(example):
    told = []
    test = doctest.DocTestParser().get_doctest(example, {}, "README.md", "README.md", 0)
    results = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=told.append)
    assert results.attempted > 0
    assert results.failed == 0, "".join(told)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(dimuon/[\w/]+(?:\.py|/))`", README))))
def test_the_files_it_names_exist(path):
    assert (ROOT / path).exists()
