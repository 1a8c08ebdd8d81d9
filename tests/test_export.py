"""The results for others: tables laid out, a submission that HEPData takes, files that say what they hold."""

import contextlib
import importlib.util
import io
import json
import re
import tarfile

import numpy as np
import pandas as pd
import pytest
import yaml

from dimuon.__main__ import main
from dimuon.bumphunt.result import TestResult
from dimuon.exports import hepdata, stated
from dimuon.exports.layout import MAX_COLUMNS, MISSING, Layout, Term, Terms, layouts
from dimuon.figures import drawing, registry
from dimuon.figures.saved import Saved
from dimuon.origin import Origin
from dimuon.workflow import config, products, provenance
from tests import small_results
from tests.conftest import ROOT

TERMS = Terms(Term("Mass", "TeV"), {"pt": Term("$p_T$", "GeV"), "d0": Term("$d_0$", "cm")}, Term("Mass", "TeV"))


def one(table, terms=TERMS):
    """The layout of a table that has one."""
    (layout,) = layouts(pd.DataFrame(table), terms)
    return layout


def by_qualifier(layout, name):
    """{qualifier: [what is measured]} of the columns side by side."""
    found = {}
    for dependent in layout.dependents:
        found.setdefault(dependent.qualifiers.get(name), []).append(dependent)
    return found


class TestLayout:
    """What a table depends on, what it measures, with which errors."""

    def test_bins_errors_and_cuts_side_by_side(self):
        table = {
            "fpr": [1.0, 1.0, 0.1, 0.1], "bin_low": [1, 2, 1, 2], "bin_high": [2, 3, 2, 3], "train": "os",
            "region": ["SBL", "SR"] * 2, "n_obs": [9, 4, 1, 0], "n_obs_err": [3.0, 2.0, 1.0, np.nan],
        }  # fmt: skip
        layout = one(table)
        (axis,) = layout.independents
        assert (axis.term, axis.binned, axis.values) == (Term("Mass", "TeV"), True, [(1.0, 2.0), (2.0, 3.0)])
        cuts = by_qualifier(layout, "False-positive rate")
        assert cuts["1"][0].values == [9, 4]
        assert cuts["1"][0].term.unit == "events"
        assert cuts["0.1"][0].values == [1, 0]
        assert cuts["0.1"][0].uncertainties[0].plus == [1.0, None]
        assert cuts["1"][0].uncertainties[0].symmetric
        (region,) = cuts[None]  # of the bin, whatever the cut
        assert region.values == ["low sideband", "signal region"]
        assert all(dependent.qualifiers["Classifier trained on"] == "os" for dependent in layout.dependents)

    def test_an_interval_around_a_value_is_its_asymmetric_error(self):
        table = {"mass_low": [1, 2], "mass_high": [2, 3], "efficiency": [0.5, 0.0],
                 "efficiency_low": [0.4, 0.0], "efficiency_high": [0.7, 0.1]}  # fmt: skip
        (efficiency,) = one(table).dependents
        (error,) = efficiency.uncertainties
        np.testing.assert_allclose(error.minus, [0.1, 0.0])
        np.testing.assert_allclose(error.plus, [0.2, 0.1])
        assert not error.symmetric
        assert error.label == "68 % Clopper-Pearson interval"

    def test_parts_with_other_bins_are_tables_of_their_own(self):
        table = pd.DataFrame({
            "feature": ["pt"] * 4 + ["d0"] * 4, "fpr": [np.nan, np.nan, 0.1, 0.1] * 2,
            "bin_low": [0, 10, 0, 10, 0.0, 0.1, 0.0, 0.1], "bin_high": [10, 20, 10, 20, 0.1, 0.2, 0.1, 0.2],
            "n_obs": range(8),
        })  # fmt: skip
        parts = layouts(table, TERMS)
        assert [(part.part, part.independents[0].term) for part in parts] == [
            ("pt", Term("$p_T$", "GeV")),
            ("d0", Term("$d_0$", "cm")),
        ]
        assert [list(each.values) for each in parts[1].dependents] == [[4, 5], [6, 7]]
        assert set(by_qualifier(parts[0], "False-positive rate")) == {
            "0.1", "before the cut on the classifier and the anti-isolation",
        }  # fmt: skip

    def test_what_one_group_does_not_have_is_missing(self):
        table = {"step": ["read", "cut", "read"], "charge": ["all", "all", "os"], "events": [9, 5, 4]}
        groups = by_qualifier(one(table), "Charge")
        assert groups["all"][0].values == [9, 5]
        assert groups["os"][0].values == [4.0, MISSING]

    def test_many_columns_or_no_common_axis_make_a_long_table(self):
        n = MAX_COLUMNS + 1
        layout = one(
            {"variable": np.repeat([f"v{i}" for i in range(n)], 2), "fpr": [1.0, 0.1] * n, "z0": np.arange(2.0 * n)}
        )
        assert [len(each.values) for each in layout.independents] == [2 * n] * 2
        assert layout.dependents[0].values == list(range(2 * n))
        ragged = {"fpr": [1.0, 0.1, 0.1, 0.05], "variable": ["a", "a", "b", "b"], "z0": [1.0, 2.0, 3.0, 4.0]}
        assert {part.part for part in layouts(pd.DataFrame(ragged), TERMS)} == {"a", "b"}
        single = {"fpr": [1.0, 0.1], "variable": ["a", "b"], "z0": [1.0, 2.0]}
        assert one(single).dependents[-1].values == [1.0, 2.0]

    def test_a_table_of_unknown_columns_is_laid_out_too(self):
        layout = one({"tau21": [0.1, 0.2], "width": [1.0, np.inf], "width_err": [0.1, 0.2], "fits": [True, False]})
        assert [each.term.name for each in layout.independents] == ["row"]
        tau, width, fits = layout.dependents
        assert (tau.term.name, tau.values) == ("tau21", [0.1, 0.2])
        assert width.values == [1.0, MISSING]
        assert width.uncertainties[0].label == "standard error"
        assert fits.values == ["yes", "no"]

    def test_every_row_and_number_of_a_table_is_there(self):
        rng = np.random.default_rng(1)
        keys = [(fpr, variable) for variable in "abc" for fpr in (1.0, 0.3, 0.1)]
        table = pd.DataFrame(keys, columns=["fpr", "variable"]).assign(z0=rng.normal(size=9), p0=rng.uniform(size=9))
        layout = one(table)
        written = sorted(value for each in layout.dependents for value in each.values)
        assert written == sorted([*table["z0"], *table["p0"]])


def test_names_of_tables_are_short_and_unique():
    names = hepdata.names(["a b", "A  b", "x" * 80, "x" * 80, "x" * 80, "m/p $q$"])
    assert len({name.lower() for name in names}) == len(names)
    assert max(map(len, names)) <= hepdata.LONGEST_NAME
    assert names[0] == "a b"
    assert names[-1] == "m p q"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with small results of OS dimuons, as after step 7: numbers of the figures without the figures."""
    folder = tmp_path_factory.mktemp("export")
    chosen = small_results.build(folder, charges=("os",))
    with contextlib.chdir(folder):
        run = provenance.Run(chosen, "07_plots.py", "small.yaml")
        saved, files = Saved(run), {}
        drawings = registry.drawings(saved)
        index = run.path(products.FIGURE_INDEX)
        index.parent.mkdir()
        for each in drawings:
            files[each.name] = {"csv": index.parent / f"{each.name}.csv"}
            each.table.to_csv(files[each.name]["csv"], index=False, float_format="%.8g")
        run.write_json(index, drawing.index(drawings, files), saved.used, "simulated")
        assert main(["export", "small.yaml"]) == 0
    return folder


@pytest.fixture
def inside(finished, monkeypatch):
    monkeypatch.chdir(finished)
    return finished


def exported(folder):
    place = folder / "results" / "small" / "export"
    return place, json.loads((place / "manifest.json").read_text())


@pytest.mark.slow
def test_the_manifest_names_every_file_with_its_hash(finished):
    place, manifest = exported(finished)
    on_disk = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert on_disk == {entry["file"] for entry in manifest["files"]} | {"manifest.json", "manifest.json.meta.json"}
    assert {name.partition("/")[0] for name in on_disk if "/" in name} >= {"tables", "figures"}
    for entry in manifest["files"]:
        assert provenance.file_hash(place / entry["file"]) == entry["sha256"], entry["file"]
        for path, digest in entry["sources"].items():
            assert provenance.file_hash(finished / path) == digest
    assert manifest["origin"].startswith("SIMULATED")
    assert manifest["settings"]["bdt.members"] == 4
    assert manifest["seed"] == 7


def test_every_table_of_results_is_there_in_full(finished):
    place, manifest = exported(finished)
    described = {entry["file"]: entry for entry in manifest["files"]}
    tables = sorted((finished / "results" / "small").glob("*.parquet"))
    assert {path.stem for path in tables} >= {"significance_curves", "mass_histograms", "efficiencies"}
    for path in tables:
        frame, stem = pd.read_parquet(path), f"tables/{path.stem}"
        pd.testing.assert_frame_equal(pd.read_csv(place / f"{stem}.csv"), frame, check_dtype=False, rtol=1e-12)
        content = json.loads((place / f"{stem}.json").read_text())["columns"]
        assert [column["name"] for column in content] == list(frame.columns)
        for column in content:
            expected = [None if pd.isna(value) else value for value in frame[column["name"]]]
            assert column["values"] == expected
        entry = described[f"{stem}.csv"]
        assert entry["rows"] == len(frame)
        assert [(column["name"], column["unit"]) for column in entry["columns"]] == list(
            provenance.sidecar(path)["units"].items()
        )
        assert all(column["meaning"] for column in entry["columns"])


def test_the_headline_numbers_are_those_of_step_6(finished):
    place, _ = exported(finished)
    summary = json.loads((finished / "results" / "small" / "significance.json").read_text())
    assert json.loads((place / "tables" / "significance.json").read_text()) == summary
    (test,) = [TestResult.from_json(content) for content in summary["tests"].values()]
    table = pd.read_csv(place / "tables" / "headlines.csv").set_index("statistic")
    for name in ("no_cut", "cathode_max", "best_feature", "likelihood"):
        assert table.loc[name, "z0"] == getattr(test, name).z0
        assert table.loc[name, "n_obs"] == getattr(test, name).n_obs
    assert table.loc["cathode_max", "fpr"] == test.cathode_max.fpr
    assert table.loc["global", "p0"] == test.global_.p


hepdata_lib = pytest.mark.skipif(importlib.util.find_spec("hepdata_lib") is None, reason="hepdata_lib is not installed")
pyhf = pytest.mark.skipif(importlib.util.find_spec("pyhf") is None, reason="pyhf is not installed")


@pytest.mark.slow
@hepdata_lib
def test_hepdata_accepts_the_submission(finished):
    """By its own validator, which rejects the same with a table left out or an error without a value."""
    place, _ = exported(finished)
    hepdata.require_valid(place / "hepdata" / hepdata.ARCHIVE)
    with tarfile.open(place / "hepdata" / hepdata.ARCHIVE) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    assert files == {path.name: path.read_bytes() for path in (place / "hepdata").glob("*.yaml")}
    damaged = finished / "damaged.tar.gz"
    damaged.write_bytes(hepdata.archive({name: files[name] for name in list(files)[1:]}))
    with pytest.raises(ValueError, match="HEPData's validator: "):
        hepdata.require_valid(damaged)


@hepdata_lib
def test_hepdata_has_the_numbers_of_every_figure(finished):
    place, _ = exported(finished)
    said = list(yaml.safe_load_all((place / "hepdata" / "submission.yaml").read_text()))
    index = json.loads((finished / "results" / "small" / "figures" / "index.json").read_text())
    assert {entry["name"].partition(" ")[0] for entry in said[1:]} == {*index, "headlines"}
    assert "Data: SIMULATED" in said[0]["comment"]
    assert {"name": "cmenergies", "values": [13000.0]} in said[1]["keywords"]  # as the configuration states it
    by_name = {entry["name"]: entry for entry in said[1:]}
    entry = by_name["fig2a_mass_cathode_os_on_os"]
    files = {each["file"]: each for each in exported(finished)[1]["files"]}
    assert list(files[f"hepdata/{entry['data_file']}"]["sources"]) == [
        "results/small/figures/fig2a_mass_cathode_os_on_os.csv"
    ]
    assert index["fig2a_mass_cathode_os_on_os"]["caption"] in entry["description"]
    table = yaml.safe_load((place / "hepdata" / entry["data_file"]).read_text())
    assert table["independent_variables"][0]["header"] == {
        "name": r"Dimuon mass $m_{\mu\mu}$",
        "units": "GeV",
    }
    frame = pd.read_parquet(finished / "results" / "small" / "mass_histograms.parquet")
    part = frame[(frame["fpr"] == 0.1) & (frame["variable"] == "cathode")]
    columns = [
        column
        for column in table["dependent_variables"]
        if {"name": "False-positive rate", "value": "0.1"} in column["qualifiers"]
    ]
    observed = next(column for column in columns if column["header"]["name"] == "Events observed")
    (data,) = [qualifier["value"] for qualifier in observed["qualifiers"] if qualifier["name"] == "Data"]
    assert data.startswith("SIMULATED")
    low = [value["low"] for value in table["independent_variables"][0]["values"]]
    np.testing.assert_allclose(low, part["bin_low"], rtol=1e-7)
    np.testing.assert_allclose([value["value"] for value in observed["values"]], part["n_obs"])
    errors = [value["errors"][0]["symerror"] for value in observed["values"] if value["value"]]
    np.testing.assert_allclose(errors, part["n_obs_err"][part["n_obs"] > 0], rtol=1e-7)
    efficiency = by_name["efficiency_os_on_os"]
    table = yaml.safe_load((place / "hepdata" / efficiency["data_file"]).read_text())
    errors = [
        value["errors"][0] for column in table["dependent_variables"] for value in column["values"] if "errors" in value
    ]
    assert errors
    assert all(error["asymerror"]["minus"] <= 0 <= error["asymerror"]["plus"] for error in errors)


@hepdata_lib
def test_hepdata_has_the_headline_numbers(finished):
    """The figures draw the likelihood and the global significance as lines; the numbers are in this table."""
    place, _ = exported(finished)
    table = yaml.safe_load((place / "hepdata" / "headlines.yaml").read_text())
    (statistic,) = table["independent_variables"]
    names = [value["value"] for value in statistic["values"]]
    summary = json.loads((finished / "results" / "small" / "significance.json").read_text())["tests"]["os_on_os"]
    columns = {column["header"]["name"]: column for column in table["dependent_variables"]}
    assert columns["Cut on"]["values"][names.index("CATHODE, best cut")] == {"value": "CATHODE"}
    z0 = dict(zip(names, [value["value"] for value in columns["Local significance Z0"]["values"]], strict=True))
    for label, name in (
        ("no cut", "no_cut"),
        ("CATHODE, best cut", "cathode_max"),
        ("likelihood reweighting", "likelihood"),
        ("global: CATHODE, best cut, corrected for the cuts scanned", "global"),
    ):
        assert z0[label] == pytest.approx(summary[name]["z0"], rel=1e-7)
    assert columns["Local significance Z0"]["qualifiers"][:2] == [
        {"name": "Classifier trained on", "value": "os"},
        {"name": "Applied to", "value": "os"},
    ]


class TestStatement:
    """What is said of the events: all that their input states, and no more."""

    def test_energy_and_luminosity_as_numbers_with_units(self):
        said = stated.statement(Origin("measured", "CMS Open Data", "2016", "13 TeV", "8.7 fb-1"))
        assert said.qualifiers["SQRT(S)"] == (13.0, "TeV")
        assert said.qualifiers["Luminosity"] == (8.7, "fb-1")
        assert said.energies == [13_000.0]  # HEPData counts in GeV

    def test_what_is_not_stated_is_not_said(self):
        said = stated.statement(Origin())
        assert said == hepdata.Statement({"Data": ("origin not stated", "")}, [])
        odd = stated.statement(Origin("measured", energy="several"))
        assert odd.qualifiers["SQRT(S)"] == ("several", "")
        assert odd.energies == []


def test_another_search_is_called_by_its_own_names(tmp_path):
    (tmp_path / "dijets.yaml").write_text(
        "name: dijets\nseed: 1\n"
        "input: {table: {file: dijets.parquet, mass: mjj}}\n"
        "mass: {label: $m_{jj}$, unit: TeV}\n"
        "window: {sb_low: 2.6, sr_low: 3.2, sr_high: 3.8, sb_high: 5.0}\n"
        "features: {set: [mj1], define: {mj1: {label: $m_{j1}$, unit: GeV}}}\n"
    )
    chosen = config.load(tmp_path / "dijets.yaml")
    terms = stated.terms(chosen, products.MASS_HISTOGRAMS, ["cathode", "mj1"])
    assert terms.axis == terms.mass == Term("$m_{jj}$", "TeV")
    assert terms.of_column("mj1") == Term("$m_{j1}$", "GeV")
    assert terms.of_value("variable", "mj1") == "$m_{j1}$"
    assert stated.terms(chosen, products.SCORES).axis == stated.SCORE
    assert stated.terms(chosen, None).axis is None  # bins of nobody knows what
    said = stated.summary(chosen, "polynomial of degree 5")
    assert "from 2.6 TeV to 5 TeV, signal region from 3.2 TeV to 3.8 TeV" in said
    assert "imuon" not in said
    assert "GeV" not in said


@pyhf
def test_the_workspaces_are_of_the_scored_events(finished):
    place, _ = exported(finished)
    about = json.loads((place / "pyhf" / "workspaces.json").read_text())
    summary = json.loads((finished / "results" / "small" / "significance.json").read_text())
    best = summary["tests"]["os_on_os"]["cathode_max"]
    record, content = (
        about["os_on_os_cathode_max.json"],
        json.loads((place / "pyhf" / "os_on_os_cathode_max.json").read_text()),
    )
    assert record["fpr"] == best["fpr"]
    assert record["agreement"]["agrees"]
    scores = pd.read_parquet(finished / "data" / "small" / "scores_os_on_os.parquet").set_index("row")["score"]
    mass = pd.read_parquet(finished / "data" / "small" / "dimuons.parquet")["dimu_mass"].loc[scores.index]
    kept = mass[(scores >= record["cut"]).to_numpy()]
    assert content["observations"][1]["data"] == [((kept >= 9) & (kept <= 10.6)).sum()]
    sidebands = [((masses < 9) | (masses > 10.6)).sum() for masses in (kept, mass)]
    assert sidebands[0] == round(best["fpr"] * sidebands[1])
    assert {name for name in about if "likelihood" in name} == {
        "os_on_os_likelihood.json",
        "os_on_os_likelihood_pooled.json",
    }


@pyhf
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_example_of_the_documentation(inside):
    """What docs/export.md does with a workspace, on the one that lies here, gives the q0 of this package."""
    text = (ROOT / "docs" / "export.md").read_text()
    (block,) = re.findall(r"^```python\n(import json\n.*?)^```$", text, re.DOTALL | re.MULTILINE)
    names = {}
    exec(block.replace("results/demo/", "results/small/"), names)
    about = json.loads((inside / "results" / "small" / "export" / "pyhf" / "workspaces.json").read_text())
    ours = about["os_on_os_cathode_max.json"]["agreement"]["q0"]
    assert ours > 1
    assert names["q0"] == pytest.approx(ours, rel=0.01)


@pytest.mark.slow
@pyhf
def test_another_working_point_in_another_folder(inside, tmp_path):
    assert main(["export", "small.yaml", "--fpr", "0.25", "--sample", "os", "--to", str(tmp_path / "there")]) == 0
    about = json.loads((tmp_path / "there" / "pyhf" / "workspaces.json").read_text())
    assert about["os_on_os_cathode.json"]["fpr"] == 0.25
    assert "os_on_os_cathode_max.json" not in about


@pytest.mark.slow
def test_a_function_that_templates_do_not_have_is_named(inside, tmp_path, monkeypatch):
    """The tables are written all the same."""
    text = (inside / "small.yaml").read_text()
    (inside / "exponential.yaml").write_text(f"{text}significance: {{family: exponential}}\n")
    monkeypatch.setattr(provenance.Run, "_refuse_if_stale", lambda *_: None)
    assert main(["export", "exponential.yaml", "--to", str(tmp_path)]) == 0
    absent = json.loads((tmp_path / "manifest.json").read_text())["not_written"]
    if importlib.util.find_spec("pyhf"):
        assert "exponential is not linear in its coefficients" in absent["pyhf/os_on_os_cathode_max"]
        assert not (tmp_path / "pyhf").exists()
    assert (tmp_path / "tables" / "headlines.csv").exists()


def test_without_the_libraries_csv_and_json_are_written(inside, tmp_path, monkeypatch, caplog):
    real = importlib.util.find_spec
    hidden = ("hepdata_lib", "pyhf")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in hidden else real(name, *rest))
    assert main(["export", "small.yaml", "--to", str(tmp_path)]) == 0
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "hepdata_lib and pyhf" in warning
    assert "pip install 'dimuon[export]'" in warning
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"tables", "figures"}
    assert "pip install" in json.loads((tmp_path / "manifest.json").read_text())["not_written"]["HEPData tables"]


def test_a_second_export_is_the_same_and_leaves_nothing_behind(inside, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)  # CSV and JSON alone: quick
    place = tmp_path / "out"
    assert main(["export", "small.yaml", "--to", str(place)]) == 0
    first = {path: path.read_bytes() for path in place.rglob("*.[cj]s*") if "meta" not in path.name}
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"].append({"file": "tables/of_before.csv"})
    (place / "manifest.json").write_text(json.dumps(manifest))
    (place / "tables" / "of_before.csv").write_text("a\n")
    (place / "mine.txt").write_text("not of the export")
    assert main(["export", "small.yaml", "--to", str(place)]) == 0
    assert {path: path.read_bytes() for path in first} == first
    assert not (place / "tables" / "of_before.csv").exists()
    assert (place / "mine.txt").exists()


class TestBadInput:
    """One line, exit code 2."""

    def refused(self, capsys, *arguments):
        assert main(["export", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert error.startswith("dimuon export: ")
        return error

    @pytest.mark.parametrize("fpr", ["0", "-0.1", "1.5", "nan"])
    def test_an_impossible_working_point(self, inside, capsys, fpr):
        assert "a false-positive rate lies above 0 and is at most 1" in self.refused(
            capsys, "small.yaml", f"--fpr={fpr}"
        )

    def test_an_unknown_sample(self, inside, capsys):
        assert "--sample ss: no such sample; tested were os" in self.refused(capsys, "small.yaml", "--sample", "ss")

    def test_results_that_are_not_made(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        small_results.build(tmp_path, charges=("os",))
        assert "run `python 07_plots.py small.yaml`" in self.refused(capsys, "small.yaml")
        (tmp_path / "results" / "small" / "significance.json").unlink()
        assert "run `python 06_significance.py small.yaml`" in self.refused(capsys, "small.yaml")
        assert not (tmp_path / "results" / "small" / "export").exists()

    def test_figures_that_were_changed(self, inside, capsys):
        path = inside / "results" / "small" / "figures" / "cutflow.csv"
        content = path.read_bytes()
        path.write_bytes(content + b"9,9,9,9\n")
        said = self.refused(capsys, "small.yaml")
        path.write_bytes(content)
        assert "cutflow.csv: not as 07_plots.py wrote it; run `python 07_plots.py small.yaml`" in said

    def test_a_folder_that_cannot_be_written(self, inside, tmp_path, capsys, monkeypatch):
        (tmp_path / "file").write_text("")
        for place in (tmp_path / "file", tmp_path / "file" / "below"):
            assert "cannot be written" in self.refused(capsys, "small.yaml", "--to", place)
        monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
        assert "no permission" in self.refused(capsys, "small.yaml", "--to", tmp_path / "closed")

    def test_no_configuration(self, inside, capsys):
        assert "absent.yaml: no such configuration file" in self.refused(capsys, "absent.yaml")


def test_the_same_tables_give_the_same_archive():
    layout = Layout("", layouts(pd.DataFrame({"fpr": [1.0, 0.1], "z0": [1.0, 2.0]}), TERMS)[0].independents, [])
    assert layout.independents[0].values == [1.0, 0.1]
    files = {"b.yaml": b"1", "a.yaml": b"2"}
    assert hepdata.archive(files) == hepdata.archive(dict(files))
    with tarfile.open(fileobj=io.BytesIO(hepdata.archive(files))) as tar:
        assert tar.getnames() == ["b.yaml", "a.yaml"]
