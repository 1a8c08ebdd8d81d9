"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def reference():
    """The folder with `real/` and `reference/` (CMS open data and published numbers); skips where it is absent."""
    folder = Path(os.environ.get("DIMUON_REFERENCE", ROOT.parent / "shared"))
    if not (folder / "reference" / "published.json").exists():
        pytest.skip(f"no reference data in {folder}: set DIMUON_REFERENCE to the folder of real/ and reference/")
    return folder
