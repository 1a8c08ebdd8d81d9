"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items):
    """Files that hold a long test first, so that no worker is left alone with one at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def reference():
    """The folder with `real/` and `reference/` (CMS open data and published numbers); skips where it is absent."""
    folder = Path(os.environ.get("DIMUON_REFERENCE", ROOT.parent / "shared"))
    if not (folder / "reference" / "published.json").exists():
        pytest.skip(f"no reference data in {folder}: set DIMUON_REFERENCE to the folder of real/ and reference/")
    return folder
