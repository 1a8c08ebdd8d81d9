"""The package as a library: what a notebook imports, and the analysis in memory."""

import subprocess
import sys

import numpy as np
import pytest

import dimuon
from dimuon import Events, MassWindow, discovery, search
from tests.conftest import ROOT

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
SMALL = {
    "flow": {"members": 2, "hidden": 8, "blocks": 2, "epochs": 3},
    "bdt": {"members": 2, "n_trees": 20},
    "significance": {"n_working_points": 5, "degree": 3},
}


def a_peak(seed=3):
    """2,000 falling background events and 150 of a prompt, boosted peak at 9.5 GeV."""
    rng = np.random.default_rng(seed)
    mass = np.concatenate([rng.uniform(5, 16, 2000), rng.normal(9.5, 0.1, 150)])
    pt = np.concatenate([20 + rng.exponential(12, 2000), 20 + rng.exponential(35, 150)])
    ip3d = np.concatenate([rng.exponential(0.02, 2000), rng.exponential(0.003, 150)]) + 1e-4
    return Events.of(mass, np.column_stack([pt, ip3d]), ["dimu_pt", "mu0_ip3d"])


def test_the_names_of_the_library():
    assert set(dimuon.__all__) >= {"MassWindow", "discovery", "discoveries", "search", "Events", "Stream"}
    for name in dimuon.__all__:
        assert getattr(dimuon, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'upsilon'"):
        dimuon.upsilon  # noqa: B018


def test_importing_it_is_quick():
    heavy = (
        "import dimuon, dimuon.config, sys; print([m for m in ('torch', 'xgboost', 'matplotlib') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modules", "loaded"),
    [
        ("dimuon.bumphunt.steps, dimuon.studies.standing", []),  # step 6
        (  # step 7, all figures
            "dimuon.figures.report, dimuon.studies.standing, dimuon.figures.registry as r; list(r.FIGURES.values())",
            ["matplotlib"],
        ),
    ],
)
def test_steps_load_no_library_that_they_do_not_use(modules, loaded):
    heavy = ("torch", "xgboost", "sklearn", "matplotlib", "uproot", "awkward", "vector")
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == str(loaded)


def test_search_finds_a_peak_and_repeats_itself():
    events = a_peak()
    first, again = search(events, WINDOW, seed=5, **SMALL), search(events, WINDOW, seed=5, **SMALL)
    inside = WINDOW.in_window(events.mass)
    assert len(first.score) == inside.sum()
    np.testing.assert_array_equal(first.score, again.score)
    np.testing.assert_array_equal(first.curves["z0"], again.curves["z0"])
    bare = discovery(events.mass, WINDOW, degree=3)
    curve = first.curves[first.curves["variable"] == "cathode"]
    assert curve["z0"].iloc[0] == pytest.approx(bare.z0, abs=1e-9)
    assert curve["z0"].max() > bare.z0 + 1  # the peak is prompt and boosted: the classifier helps
    assert set(first.curves["variable"]) == {"cathode", "dimu_pt", "mu0_ip3d", "random"}


@pytest.mark.slow
def test_search_is_the_same_with_more_processes():
    events = a_peak()
    one, two = (search(events, WINDOW, seed=5, workers=n, **SMALL) for n in (1, 2))
    np.testing.assert_array_equal(one.score, two.score)


def test_search_refuses_unknown_settings():
    with pytest.raises(ValueError, match="no_such_key"):
        search(a_peak(), WINDOW, bdt={"no_such_key": 3})
