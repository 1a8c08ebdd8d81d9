"""Curves that users bring: `figures.overlay`."""

import json

import numpy as np
import pytest
from scipy.stats import norm

from dimuon.errors import UserError
from dimuon.figures import overlay
from dimuon.workflow import config


def written(tmp_path, text):
    path = tmp_path / "curves.csv"
    path.write_text(text)
    return path


def test_units_labels_and_samples_are_read(tmp_path):
    text = """# digitised from a figure
label, test, train, fpr [%], z0 [sigma]
theirs, os, , 1, 5.0
theirs, os, , 100, 1.6
crossed, SS, os, 10, 0
"""
    theirs, crossed = overlay.read(written(tmp_path, text))
    assert (theirs.label, theirs.test, theirs.train) == ("theirs", "os", None)
    assert theirs.fpr.tolist() == [0.01, 1.0]
    assert theirs.p0 == pytest.approx([2.8665157e-7, 0.0547993])  # normal tail, tables
    assert crossed.p0.tolist() == [0.5]
    assert [curve.label for curve in overlay.of_test([theirs, crossed], "os", "os")] == ["theirs"]
    assert [curve.label for curve in overlay.of_test([theirs, crossed], "os", "ss")] == ["crossed"]
    (bare,) = overlay.read(written(tmp_path, "fpr,p0\n0.1,1e-9\n"))
    assert (bare.label, bare.p0.tolist()) == ("curves", [1e-9])
    assert bare.is_of("os", "os")
    assert bare.is_of("all", "all")
    assert not bare.is_of("os", "ss")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fpr,z\n1,2\n", "found the columns fpr, z; figures.overlay needs the columns: fpr, one of z0 and p0"),
        ("fpr,z0,p0\n1,2,0.1\n", "found the columns fpr, z0, p0; "),
        ("fpr,z0,colour\n1,2,red\n", "unknown column 'colour'"),
        ("fpr [GeV],z0\n1,2\n", "unknown unit 'GeV' of column fpr; known: none, %"),
        ("fpr,z0\n1,2\n0.5,many\n", "z0 is many in row 2; give a number of at least 0"),
        ("fpr,z0\n1,\n", "z0 is nan in row 1"),
        ("fpr,p0\n75,0.1\n", "fpr is 75 in row 1; give a number above 0 and at most 1"),
        ("fpr,z0\n", "no row under the header"),
        ("", "not a CSV table (No columns to parse from file)"),
        ('fpr,z0\n1,"2\n', "not a CSV table"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused_in_a_line(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        overlay.read(written(tmp_path, text))
    said = str(error.value)
    assert message in said
    assert said.startswith(f"{tmp_path / 'curves.csv'}: ")
    assert "\n" not in said


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="none.csv: no such file; figures.overlay names CSV files"):
        overlay.read(tmp_path / "none.csv")


def test_one_file_or_several_are_named_in_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("CURVES", "/somewhere")
    path = tmp_path / "own.yaml"
    base = "name: own\nseed: 1\ninput: {scores: x.parquet}\n"
    for given, files in (("${CURVES}/a.csv", ["/somewhere/a.csv"]), ("[a.csv, b.csv]", ["a.csv", "b.csv"])):
        path.write_text(f"{base}figures: {{overlay: {given}}}\n" if given[0] == "[" else
                        f"{base}figures:\n  overlay: {given}\n")  # fmt: skip
        assert config.load(path).figures.overlays == files
    path.write_text(base)
    assert config.load(path).figures.overlays == []


def test_the_published_curve_can_be_overlaid(reference, tmp_path):
    published = json.loads((reference / "reference" / "published.json").read_text())
    z0 = published["published_curve_os_degree5_bins11"]["cathode"]
    fprs = np.geomspace(1, 1e-3, len(z0))
    lines = [f"as published,os,{fpr:.6g},{value}" for fpr, value in zip(fprs, z0, strict=True)]
    (curve,) = overlay.read(written(tmp_path, "\n".join(["label,test,fpr,z0", *lines])))
    assert norm.isf(curve.p0.min()) == pytest.approx(published["z0"]["os"]["cathode_max"], abs=0.05)
