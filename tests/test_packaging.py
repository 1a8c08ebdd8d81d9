"""What is said twice of necessity agrees: ranges and exact versions, wings and their pages."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

import dimuon
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(line) for line in PROJECT["dependencies"] + [line for extra in EXTRAS.values() for line in extra]]
WINGS = sorted(path.parent.name for path in (ROOT / "dimuon").glob("*/__init__.py"))


def canonical(name):
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_every_dependency_is_locked_within_its_range(requirement):
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line]
    locked = {canonical(name): version for name, version in (line.split("==") for line in lines)}
    assert requirement.specifier.contains(locked[canonical(requirement.name)])


def test_every_dependency_has_a_lower_bound():
    assert all(any(bound.operator == ">=" for bound in requirement.specifier) for requirement in DIRECT)


def test_the_version_stands_in_the_package_alone():
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    assert re.fullmatch(r"\d+\.\d+\.\d+", dimuon.__version__)


@pytest.mark.parametrize("wing", WINGS)
def test_every_wing_has_a_page(wing):
    assert f"::: dimuon.{wing}\n" in (ROOT / "docs" / "api" / f"{wing}.md").read_text()
    pages = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"][-1]["API"]
    assert f"api/{wing}.md" in [path for page in pages for path in page.values()]


def test_every_word_of_the_vocabulary_has_its_place_on_the_page():
    modules = {path.stem for path in (ROOT / "dimuon").glob("*.py")} - {"__init__", "__main__", "config"}
    page = (ROOT / "docs" / "api" / "vocabulary.md").read_text()
    assert set(re.findall(r"::: dimuon\.(\w+)", page)) == modules
