"""What the README shows of the library runs, and gives what it says."""

import doctest
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
RECIPE = re.compile(r"^```(?:python|text)\n# (dimuon/[^\n]+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RECIPES = RECIPE.findall(README) + RECIPE.findall(CONTRIBUTING)
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


FOLLOWED = """
import numpy as np, pandas as pd
from types import SimpleNamespace
from dimuon import Events, MassWindow, Stream, discovery
from dimuon.background import saved
from dimuon.background.scaler import LogitScaler
from dimuon.classifiers.protocol import Labelled, TrainingSet, make
from dimuon.data import schema
from dimuon.dataset import Dataset
from dimuon.figures.registry import FIGURES
from dimuon.kinematics import of_pairs
from dimuon.statistics import model_choice
from dimuon.statistics.significance import discoveries
from dimuon.statistics.spectra import Spectra
from dimuon.studies.registry import STUDIES
from dimuon.workflow import config, products, provenance

rng, window = np.random.default_rng(1), MassWindow(5.0, 9.0, 10.6, 16.0)
chosen = config.load("all.yaml")

muons = {"mu0_pt": [30.0], "mu1_pt": [15.0]} | {f"mu{i}_{name}": [0.1 * i] for i in (0, 1) for name in ("eta", "phi")}
assert of_pairs(muons)["mumu_ratio"].tolist() == [0.5]
assert "mumu_ratio" in schema.DIMUONS and chosen.dataset.feature("mumu_ratio").edges[-1] == 1

mass = rng.uniform(5, 16, 3000)
features = np.column_stack([mass + rng.normal(size=3000), rng.uniform(size=3000)])
events = Events.of(mass, features, ["dimu_pt", "mumu_ratio"])
scaler = LogitScaler().fit(events.features, ~window.in_sr(mass))
model = chosen.estimator.estimator(scaler).fit(events, Stream(1))
for each in (model, saved.from_bytes(saved.to_bytes(model))):
    drawn = each.sample(np.full(1000, 12.0), Stream(2))
    assert abs(drawn.features[:, 0].mean() - 12) < 0.2 and drawn.features.std(axis=0)[0] > 0.8

x = rng.normal(size=(2000, 2))
part = Labelled(x, (x[:, 0] + 0.5 * rng.normal(size=2000) > 0).astype(float), np.ones(2000))
classifier = make(chosen.bdt.classifier).fit(TrainingSet(part, part), [1, 2])
score = classifier.score(x)
assert score.shape == (2000, 2) and np.mean((score[:, 0] > 0.5) == part.label) > 0.8
np.testing.assert_array_equal(type(classifier).from_bytes(classifier.to_bytes()).score(x), score)

falling = 5 * (rng.uniform(size=40_000) * ((5 / 16) ** 2 - 1) + 1) ** -0.5  # a power of the mass: m^-3
family = model_choice.model_of(chosen.significance, window)
outcome = discoveries(Spectra.of(falling, family.bins), family)
assert outcome.p_chi2[0] > 1e-3 and abs(outcome.z_signed[0]) < 4, outcome

from dimuon.methods.protocol import METHODS
from tests.gaussians import Gaussians, given, share_of_ideal
truth = Gaussians(mean=0, std=3)  # the exact ratio rises with the distance
known, is_signal = given(truth, members=1)
distance = METHODS["mahalanobis"].score(known, None)
assert share_of_ideal(distance.further, truth.ratio(known.further), is_signal) > 0.9
assert "mahalanobis" in chosen.bench.chosen

written = {}
class Study(SimpleNamespace):
    def write_json(self, product, content):
        written[product.name] = content
assert "events" in STUDIES["halves"].run(Study(config=chosen, events={"os": events}))
assert sum(written["halves"]["os"].values()) == (~window.in_sr(mass)).sum()

saved_results = SimpleNamespace(
    run=provenance.Run(chosen, "07_plots.py"), optional_json=lambda path: written["halves"])
(drawing,) = FIGURES["halves"].drawings(saved_results)
assert drawing.table.columns.tolist() == ["sideband", "os"]
drawing.draw().savefig("halves.png")
print("followed")
"""
USED = """
name: x
seed: 1
input: {simulation: {}}
features: {set: [dimu_pt, mumu_ratio]}
estimator: {kind: nearest}
bdt: {classifier: {kind: logistic}}
significance: {family: power, degree: 2, degrees: [2]}
"""


def follow(where, code, folder):
    """Do what a recipe says: a new file, or lines inside one, in or before the line that begins as it says."""
    path, _, place = where.partition(", ")
    target = folder / path
    if not place:
        assert not target.exists()
        target.write_text(code)
        return
    code = f"{code.rstrip()}\n\n\n" if code.startswith(("@", "class")) else code
    side, _, start = place.partition(" ")
    lines = target.read_text().splitlines(keepends=True)
    (line,) = [i for i, line in enumerate(lines) if line.lstrip().startswith(start)]
    if side == "before":
        lines.insert(line, code)
    elif lines[line].rstrip().endswith("{"):
        lines.insert(line + 1, code)
    else:
        lines[line] = lines[line].replace(start, f"{start}{code.strip()} ")
    target.write_text("".join(lines))


@pytest.mark.slow
def test_the_recipes_can_be_followed(tmp_path):
    assert len(RECIPES) == 10
    shutil.copytree(ROOT / "dimuon", tmp_path / "dimuon", ignore=shutil.ignore_patterns("__pycache__"))
    for where, code in RECIPES:
        follow(where, code, tmp_path)
    (tmp_path / "tests").mkdir()
    for name in ("__init__.py", "gaussians.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests" / name)
    (tmp_path / "all.yaml").write_text(USED)
    (tmp_path / "follow.py").write_text(FOLLOWED)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "follow.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "followed\n", done.stderr
