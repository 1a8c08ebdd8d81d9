"""The trained models of an analysis, loaded by themselves."""

import contextlib
import doctest
import io
import pickle
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from dimuon import Events, Stream, trained
from dimuon.background import saved
from dimuon.bumphunt import steps
from dimuon.classifiers import archive
from dimuon.errors import UserError
from dimuon.workflow import config, products, provenance
from dimuon.workflow.executor import AtOnce
from tests.conftest import ROOT

NAMES = ("dimu_pt", "mu0_ip3d", "mu1_ip3d")
CONFIG = """\
name: demo
seed: 3
input: {simulation: {n_files: 1}}
estimator: {members: 1, hidden: 4, blocks: 2, epochs: 1}
bdt: {members: 2, folds: 3, classifier: {kind: xgboost, n_trees: 5}}
"""


def toy(n_events, name):
    """Events all over the window."""
    rng = Stream(11).child(name).generator()
    features = np.column_stack([20 + rng.exponential(20, n_events), *np.exp(rng.normal(-4, 1, (2, n_events)))])
    return Events.of(rng.uniform(5, 16, n_events), features, NAMES)


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    """(folder, what steps 3 and 5 had in memory): models of "os" as the steps write them."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "demo.yaml").write_text(CONFIG)
    chosen, stream, events = config.load(folder / "demo.yaml"), Stream(3), toy(900, "os")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model = steps.train_background(chosen, "os", events, steps.scaler_of(chosen, {"os": events}), stream)
        others = {"ss": toy(200, "ss")}
        background = toy(400, "background")
        ensemble = steps.classify(chosen, "os", events, background, stream, AtOnce(), others)
        step_3 = provenance.Run(chosen, "03_train_flows.py")
        step_3.write_bytes(step_3.path(products.FLOWS, charge="os"), saved.to_bytes(model))
        step_5 = provenance.Run(chosen, "05_train_bdts.py")
        content = {"train": "os", "classifier": ensemble.kind, "features": list(NAMES)}
        path = step_5.path(products.CLASSIFIERS, charge="os")
        step_5.write_bytes(path, archive.pack(ensemble.models, content))
    return folder, model, others["ss"], ensemble.others["ss"].mean


def test_scores_are_those_of_a_sample_that_was_not_trained_on(analysis):
    folder, _, events, expected = analysis
    models = trained(folder / "data" / "demo", "os")
    assert models.features == NAMES
    np.testing.assert_allclose(models.score(events), expected, rtol=1e-6)  # single precision
    assert np.ptp(expected) > 0.01
    table = pd.DataFrame({"other": 1.0, **events.columns})[["mu1_ip3d", "other", "dimu_pt", "mu0_ip3d"]]
    for same in (events.features, table, dict(table)):  # by position, and by name in any order
        np.testing.assert_array_equal(models.score(same), models.score(events))


def test_samples_are_those_of_the_trained_background(analysis):
    folder, model, _, _ = analysis
    mass = np.linspace(9, 10.6, 50)
    drawn = trained(folder / "data" / "demo").sample(mass, seed=5)  # the one sample there is
    np.testing.assert_array_equal(drawn.features, model.sample(mass, Stream(5).child("trained models")).features)
    assert drawn.names == NAMES
    again = trained(folder / "data" / "demo").sample(mass, seed=6)
    assert (again.features != drawn.features).any()


def test_a_folder_of_results_leads_to_its_data(analysis, monkeypatch):
    folder, _, events, expected = analysis
    monkeypatch.chdir(folder)
    np.testing.assert_allclose(trained("results/demo", "os").score(events), expected, rtol=1e-6)


def test_what_is_missing_is_named(analysis, tmp_path):
    data = analysis[0] / "data" / "demo"
    with pytest.raises(UserError, match="no trained models; give data/<name>/ of an analysis after 05_train_bdts.py"):
        trained(tmp_path)
    with pytest.raises(UserError, match="unknown sample 'ss'; there are models of os"):
        trained(data, "ss")
    models = trained(data)
    with pytest.raises(ValueError, match="feature mu1_ip3d is missing"):
        models.score({"dimu_pt": [30.0], "mu0_ip3d": [0.1]})
    with pytest.raises(ValueError, match=r"x of shape \(2,\), expected \(n_events, 3\)"):
        models.score([30.0, 0.1])
    for product, reason in ((products.CLASSIFIERS, "run `python 05"), (products.FLOWS, "no trained models")):
        part = tmp_path / product.name
        part.mkdir()
        for path in data.iterdir():
            (part / path.name).write_bytes(path.read_bytes())
        product.at(part, charge="os").unlink()
        with pytest.raises(UserError, match=reason):
            trained(part)


@pytest.mark.parametrize("product", [products.FLOWS, products.CLASSIFIERS], ids=lambda product: product.name)
def test_a_damaged_file_is_named_and_nothing_in_it_is_run(analysis, tmp_path, product):
    for path in (analysis[0] / "data" / "demo").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = product.at(tmp_path, charge="os")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged, its SHA-256 is not what 0"):
        trained(tmp_path)
    provenance.sidecar_path(path).unlink()  # without it the content itself is looked at
    with pytest.raises(UserError, match=r"the models of os: not a"):
        trained(tmp_path)


def test_the_example_of_the_documentation(analysis, monkeypatch):
    """What docs/export.md says of the models, on those of this test: `data/demo` is theirs here."""
    monkeypatch.chdir(analysis[0])
    text = (ROOT / "docs" / "export.md").read_text()
    blocks = re.findall(r"^```python\n(>>>.*?)^```$", text, re.DOTALL | re.MULTILINE)
    told = []
    example = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "export.md", "export.md", 0)
    results = doctest.DocTestRunner().run(example, out=told.append)
    assert results.attempted >= 7
    assert results.failed == 0, "".join(told)


def zipped(**content):
    """The bytes of a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in content.items():
            archive.writestr(name.replace("_", "/", 1).replace("manifest", "manifest.json"), value)
    return buffer.getvalue()


def torch_file(content):
    """The bytes of a torch file."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


OTHER = {  # what may lie where a model is looked for
    "empty": b"",
    "a text": b"name: a\n",
    "a pickle": pickle.dumps({"kind": "maf"}),
    "an archive of nothing": zipped(),
    "a list": zipped(manifest="[]"),
    "no models": zipped(manifest='{"classifier": "xgboost"}', fold0_a="{"),
    "an unknown classifier": zipped(manifest='{"classifier": ["xgboost"]}'),
    "a list of tensors": torch_file([torch.zeros(2)]),
    "a kind without a model": torch_file({"kind": "maf"}),
    "a list for a kind": torch_file({"kind": ["maf"]}),
}


@pytest.mark.parametrize("kind", OTHER)
def test_a_file_of_another_kind_is_a_value_error(kind):
    for read in (saved.from_bytes, archive.unpack):
        with pytest.raises(ValueError, match="."):
            read(OTHER[kind])


def test_models_cut_short_or_damaged_are_whole_or_refused(analysis):
    """Nothing but a ValueError comes of any damage; what the bytes no longer tell, the file's SHA-256 does."""
    folder, *_ = analysis
    paths = [folder / "data" / "demo" / name for name in ("flows_os.pt", "bdts_os.zip")]
    rng = np.random.default_rng(1)
    for path, read in zip(paths, (saved.from_bytes, archive.unpack), strict=True):
        content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        for cut in rng.integers(0, len(content), 20):
            with pytest.raises(ValueError, match="."):
                read(content[:cut].tobytes())
        for _ in range(40):
            damaged = content.copy()
            damaged[rng.integers(0, len(content), 5)] = rng.integers(0, 256, 5)
            with contextlib.suppress(ValueError):
                read(damaged.tobytes())
