"""The configurations of real, fully measured data, whole: the portal's own files from a stand-in for the portal."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from dimuon.workflow import config
from dimuon.workflow.provenance import Run
from tests.conftest import ROOT
from tests.test_tables import portal_of

FILES = {  # configuration: record, file in the portal, file at hand (of the second record it is one slice of ten)
    "upsilon_2011": (545, "Ymumu.csv", "Ymumu.csv"),
    "z_2011": (545, "Zmumu.csv", "Zmumu.csv"),
    "dimuons_2010": (700, "MuRun2010B.csv", "MuRun2010B_0.csv"),
}
SMALL = {"epochs: 100": "epochs: 20", "members: 20": "members: 4", "hidden: 16": "hidden: 8"}  # but for the first


@contextlib.contextmanager
def analysis(reference, folder, name, changes=None):
    """The configuration with the stand-in's address, in a folder of its own."""
    record, file, at_hand = FILES[name]
    (folder / "shelf").mkdir()
    shutil.copy(reference / "real" / "portal_csv" / at_hand, folder / "shelf" / file)
    with portal_of(folder / "shelf", record) as (address, _), contextlib.chdir(folder):
        text = (ROOT / "configs" / f"{name}.yaml").read_text()
        text = text.replace("\ninput:\n", f"\ninput:\n  portal: {address}\n", 1)
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new)
        path = folder / f"{name}.yaml"
        path.write_text(text)
        yield path


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_from_the_portal_to_the_page(reference, tmp_path, name):
    with analysis(reference, tmp_path, name, {} if name == "upsilon_2011" else SMALL) as path:
        environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "dimuon", "run", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        page = (tmp_path / "results" / name / "report.html").read_text()
        year = "2010" if "2010" in name else "2011"
        assert f'<span class="origin">CMS Open Data {year} (7 TeV)</span>' in page
        told = re.sub(r'"data:image[^"]*"', "", page.partition('<section id="provenance">')[0])
        for wrong in ("2016", "13 TeV", "8.7 fb", "SIMULATED", "anti-isol", "trigger HLT"):
            assert wrong not in told, wrong
        tests = json.loads((tmp_path / "results" / name / "significance.json").read_text())["tests"]
        assert tests["os_on_os"]["no_cut"]["z0"] > 5  # resonances that nobody can miss
        assert set(tests) == ({"os_on_os", "ss_on_ss", "os_on_ss", "ss_on_os"} if year == "2010" else {"os_on_os"})


def test_the_upsilon_table_is_what_the_portal_says_of_it(reference, tmp_path):
    """The counts of an independent reading of the file: of 20,000 dimuons 2,149, 10,621 and 7,230 in the regions."""
    with analysis(reference, tmp_path, "upsilon_2011") as path:
        from dimuon.data.dimuons import Dimuons

        chosen = config.load(path)
        frame = Dimuons(Run(chosen, "03_train_flows.py", path)).frame("os", ["region", "dimu_pt", "run", "event"])
    assert frame["region"].value_counts().to_dict() == {"SBL": 2149, "SR": 10621, "SBH": 7230}
    given = pd.read_csv(reference / "real" / "portal_csv" / "Ymumu.csv")
    np.testing.assert_array_equal(frame[["run", "event"]], given[["Run", "Event"]])
    energy, px, py, pz = (given[f"{name}1"] + given[f"{name}2"] for name in ("E", "px", "py", "pz"))
    np.testing.assert_allclose(frame["dimu_mass"], np.sqrt(energy**2 - px**2 - py**2 - pz**2), rtol=1e-9)
    np.testing.assert_allclose(frame["dimu_pt"], np.hypot(px, py), rtol=1e-9)
