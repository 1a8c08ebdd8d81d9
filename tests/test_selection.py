"""Cuts, cutflow, duplicates: against plain pandas, and the numbers that follow from one another."""

import json

import numpy as np
import pandas as pd
import pytest

from dimuon import kinematics
from dimuon.columns import COLUMNS
from dimuon.data import schema, selection
from dimuon.data.cutflow import Cutflow, CutflowStep
from dimuon.data.manifest_entry import EventCounts
from dimuon.data.settings import Range, Selection
from dimuon.errors import UserError
from dimuon.features import FEATURES
from dimuon.regions import MassWindow

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
CUTS = {"mu0_pt": Range(min=17.0), "dimu_eta": Range(min=-1.5, max=1.5), "mu1_pt": Range(min=8.0)}
ISOLATION = {"mu0_iso04": Range(min=0.55), "mu1_iso04": Range(min=0.55)}


def skim_columns(n, seed=0):
    """{column: (n,)} like a skim batch."""
    rng = np.random.default_rng(seed)
    pairs = {
        "run": np.full(n, 278820, np.uint32),
        "luminosityBlock": rng.integers(1, 50, n).astype(np.uint32),
        "event": rng.permutation(n).astype(np.uint64),
        "HLT_A": rng.random(n) < 0.7,
        "n_muons": rng.integers(2, 5, n),
        "n_jets": rng.integers(0, 9, n),
    }
    for muon, scale in (("mu0", 30), ("mu1", 12)):
        values = {name: rng.exponential(1, n).astype(np.float32) for name in schema.MUON_BRANCHES}
        values |= {
            "pt": rng.exponential(scale, n) + 4,
            "eta": rng.normal(0, 0.4, n),
            "phi": rng.normal(0, 0.4, n),
        }
        values["charge"] = rng.choice([-1, 1], n).astype(np.int8)
        pairs |= {f"{muon}_{name}": array for name, array in values.items()}
    return pairs


def asked(charges=("os", "ss"), cuts=CUTS):
    return Selection(trigger="HLT_A", cuts=cuts, charges=list(charges))


def selected(pairs, cutflow, charges=("os", "ss"), n_batches=1):
    parts = np.array_split(np.arange(len(pairs["run"])), n_batches)
    batches = [
        selection.select({k: v[part] for k, v in pairs.items()}, asked(charges), WINDOW, cutflow) for part in parts
    ]
    return selection.table(batches)


def test_selection_agrees_with_pandas():
    pairs = skim_columns(20_000)
    table = selected(pairs, Cutflow())
    frame = pd.DataFrame(pairs).assign(**kinematics.of_pairs(pairs))
    frame = frame[frame.HLT_A & (frame.mu0_pt > 17) & (frame.mu1_pt > 8) & frame.dimu_eta.abs().lt(1.5)]
    frame = frame[frame.dimu_mass.between(5, 16)].sort_values(["run", "luminosityBlock", "event"])
    assert len(frame) > 500
    for name in ("event", "dimu_mass", "mu1_ip3d", "n_jets"):
        np.testing.assert_array_equal(table[name], frame[name])
    np.testing.assert_array_equal(table["charge"], np.where(frame.mu0_charge * frame.mu1_charge < 0, "OS", "SS"))
    np.testing.assert_array_equal(table["region"], WINDOW.region(frame["dimu_mass"]))


def test_cutflow_is_the_same_for_any_batches_and_its_efficiencies_multiply():
    pairs, one, many = skim_columns(5000), Cutflow(), Cutflow()
    pd.testing.assert_frame_equal(selected(pairs, one), selected(pairs, many, n_batches=7))
    assert one.counts == many.counts
    steps = one.steps()
    assert [step.name for step in steps] == [
        "HLT_A", "mu0_pt > 17", "-1.5 < dimu_eta < 1.5", "mu1_pt > 8", "5 <= dimu_mass <= 16",
    ]  # fmt: skip
    for key in ("all", "os", "ss"):
        assert steps[-1].cumulative[key] == pytest.approx(np.prod([s.efficiency[key] for s in steps[1:]]))
        assert [s.events[key] for s in steps] == sorted((s.events[key] for s in steps), reverse=True)
    assert all(step.events["all"] == step.events["os"] + step.events["ss"] for step in steps)


def test_one_charge_is_what_the_pair_of_charges_gives_of_it():
    pairs = skim_columns(5000)
    both = selected(pairs, Cutflow())
    for charge in ("os", "ss"):
        cutflow = Cutflow()
        alone = selected(pairs, cutflow, charges=(charge,))
        pd.testing.assert_frame_equal(alone, both[both["charge"] == charge.upper()].reset_index(drop=True))
        assert cutflow.steps()[-1].events == {"all": len(alone), "os": 0, "ss": 0} | {charge: len(alone)}


def test_nan_never_passes_and_flags_can_be_cut_on():
    values = np.array([np.nan, 1.0, 3.0])
    assert selection.passes(values, Range(max=2.0)).tolist() == [False, True, False]
    assert selection.passes(values, Range(min=2.0)).tolist() == [False, False, True]
    assert selection.passes(np.array([True, False]), Range(min=0.5)).tolist() == [True, False]


def test_anti_isolation_is_marked_and_counted_last():
    cutflow = Cutflow()
    table = selected(skim_columns(5000), cutflow)
    marked = selection.anti_isolated(table, ISOLATION, cutflow)
    np.testing.assert_array_equal(marked, (table.mu0_iso04 > 0.55) & (table.mu1_iso04 > 0.55))
    steps = cutflow.steps()[-2:]
    assert [step.name for step in steps] == [
        "anti-isolation: mu0_iso04 > 0.55", "anti-isolation: mu1_iso04 > 0.55",
    ]  # fmt: skip
    assert steps[-1].events["all"] == marked.sum() > 0


def test_the_same_cut_twice_is_counted_twice():
    """In `cuts` and in `anti_isolation`: two steps, the later of no effect."""
    pairs, cutflow, cut = skim_columns(5000), Cutflow(), {"mu0_iso04": Range(min=0.55)}
    table = selection.table([selection.select(pairs, asked(cuts=cut), WINDOW, cutflow)])
    assert selection.anti_isolated(table, cut, cutflow).all()
    counts = [cutflow.counts[name]["all"] for name in ("mu0_iso04 > 0.55", "anti-isolation: mu0_iso04 > 0.55")]
    assert counts == [(pairs["HLT_A"] & (pairs["mu0_iso04"] > 0.55)).sum(), len(table)]


def test_repeated_events_are_found_wherever_they_stand():
    pairs = skim_columns(3000)
    rows = np.random.default_rng(1).permutation(np.concatenate([np.arange(3000), np.arange(400), np.arange(100)]))
    cutflow = Cutflow()
    twice, dropped = selection.without_repeated(selected({k: v[rows] for k, v in pairs.items()}, cutflow), cutflow)
    pd.testing.assert_frame_equal(twice, selected(pairs, Cutflow()))
    assert (
        dropped == (twice.event.isin(pairs["event"][:400])).sum() + (twice.event.isin(pairs["event"][:100])).sum() > 0
    )
    steps = cutflow.steps()
    assert steps[-2].events["all"] - steps[-1].events["all"] == dropped


def test_events_that_differ_in_run_or_section_alone_are_not_repeated():
    run, section, event = (
        np.array([1, 1, 2, 2, 0, 0]),
        np.array([5, 6, 5, 5, 5, 5]),
        np.array([9, 9, 9, 9, 9, 9]),
    )
    assert selection.repeated(run, section, event).tolist() == [False, False, False, True, False, False]


def test_an_unknown_column_is_named_with_its_nearest():
    with pytest.raises(UserError, match="selection.cuts.dimu_masss: no such column; nearest: dimu_mass"):
        selection.check_columns({"dimu_masss": Range(min=1.0)}, "selection.cuts")


def test_a_trigger_can_be_cut_on_where_it_is_kept():
    cut = {"HLT_A": Range(min=0.5)}
    selection.check_columns(cut, "selection.cuts", ("HLT_A", "HLT_B"))
    with pytest.raises(UserError, match="selection.cuts.HLT_A: no such column; add it to input.triggers"):
        selection.check_columns(cut, "selection.cuts", ("HLT_B",))
    with pytest.raises(UserError, match="anti_isolation.HLT_A: no such column; triggers are cut on in selection.cuts"):
        selection.check_columns(cut, "selection.anti_isolation")


def test_an_empty_step_is_named():
    cutflow = Cutflow()
    pairs = skim_columns(500) | {"HLT_A": np.zeros(500, bool)}
    assert len(selected(pairs, cutflow)) == 0
    with pytest.raises(UserError, match="'HLT_A'"):
        cutflow.require_events()


def test_the_text_has_one_line_per_step():
    cutflow = Cutflow.of_skim(EventCounts(events_read=10, events_certified=8, os=3, ss=2))
    lines = cutflow.text().splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["events", "read"],
        ["certified", "luminosity"],
        ["two", "muons"],
    ]
    assert "62.5 %" in lines[-1]


def test_steps_go_to_json_and_back():
    cutflow = Cutflow()
    selected(skim_columns(500), cutflow)
    for step in cutflow.steps():
        assert CutflowStep.from_json(json.loads(json.dumps(step.to_json()))) == step


def test_every_feature_is_a_column_that_can_be_cut_on_and_every_column_is_explained():
    assert set(FEATURES) < set(schema.MEASURED) < set(schema.DIMUONS)
    assert set(schema.DIMUONS) | set(schema.SKIM) <= set(COLUMNS)
    table = selected(skim_columns(2000), Cutflow())
    assert set(table.columns) == set(schema.DIMUONS) - {"anti_isolated"}
    for name, feature in FEATURES.items():
        assert (COLUMNS[name].unit, COLUMNS[name].meaning) == (feature.unit, feature.meaning)
