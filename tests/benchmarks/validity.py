"""What it costs to answer "can the number be believed": the analysis once more, and one pseudoexperiment.

python -m tests.benchmarks.validity

The published configuration (flows of 20 hidden features and 400 epochs, 5 x 100 classifiers) through steps 3 to 6 as
scripts, OS and SS with both cross-applications, on the real dimuons; then 20 full-chain pseudoexperiments of the OS
dimuons with ensembles of 20 members and flows not trained again: how many pass in a second with every core at work, and
where the time of one goes. Without the reference data a toy of the same size stands in. Then whether it can be
believed: the tail of the best of many cuts (`tests.benchmarks.trials`) and the likelihood value on background alone
(`tests.benchmarks.likelihood`), each on toys.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from dimuon.bumphunt import steps
from dimuon.data.samples import Sample
from dimuon.studies import pseudoexperiments, scenarios, study
from dimuon.studies.nulls import NullModel
from dimuon.workflow import config, executor, provenance
from tests.benchmarks import common, likelihood, trials
from tests.conftest import ROOT

N_PSEUDOEXPERIMENTS = 20
STEPS = ("03_train_flows.py", "04_sample_background.py", "05_train_bdts.py", "06_significance.py")
CONFIG = """\
name: published
seed: 2016
input:
  dimuons: {{os: {os}, ss: {ss}}}
flow: {{members: 5, hidden: 20, epochs: 400}}
"""


def write_config(folder):
    """The published configuration on the real dimuons, or on a toy of their size; returns its path."""
    reference = Path(os.environ.get("DIMUON_REFERENCE", ROOT.parent / "shared")).resolve() / "real"
    files = {charge: reference / f"upsilon_{charge}.parquet" for charge in ("os", "ss")}
    if not all(path.exists() for path in files.values()):
        print("no reference data (DIMUON_REFERENCE): a toy of the same size instead")
        files = {charge: folder / f"{charge}.parquet" for charge in files}
        rng = np.random.default_rng(0)
        for path, n in zip(files.values(), (12332, 7168), strict=True):
            columns = np.exp(rng.normal([3.7, -4.3, -4.2], [0.3, 0.8, 0.8], (n, 3)))
            frame = pd.DataFrame(columns, columns=["dimu_pt", "mu0_ip3d", "mu1_ip3d"])
            frame.assign(dimu_mass=5 + 11 * rng.beta(1.0, 1.6, n)).to_parquet(path)
    path = folder / "published.yaml"
    path.write_text(CONFIG.format(**files))
    return path


def analysis(path):
    """{step: seconds} of steps 3 to 6 as a person would run them."""
    seconds = {}
    for step in STEPS:
        start = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / step), str(path)], check=True, env=os.environ)
        seconds[step] = time.perf_counter() - start
    return seconds


def in_parallel(study, model):
    """Seconds for all pseudoexperiments with every core at work, starting the workers included."""
    start = time.perf_counter()
    with executor.executor() as pool:
        study.pool = pool
        listed = pseudoexperiments.of_nulls(study.config, model, N_PSEUDOEXPERIMENTS)
        outcomes = scenarios.run(study, listed, scenarios.significances)
    print(f"{len(scenarios.failures(outcomes))} of {N_PSEUDOEXPERIMENTS} pseudoexperiments failed")
    return time.perf_counter() - start


def stages(study, model, n=3):
    """{stage: seconds} of one pseudoexperiment on one core, mean of n."""
    total = dict.fromkeys(("sample the null dataset", "sample its background", "classifiers", "tests"), 0.0)
    for scenario in pseudoexperiments.of_nulls(study.config, model, n):
        marks, config, stream = [time.perf_counter()], scenario.config, scenario.stream
        events = scenario.source.events(scenario)
        marks.append(time.perf_counter())
        background = scenario.source.model(scenario, events)
        sampled = steps.sample_background(config, "os", steps.fit_masses(config, events), background, stream)
        drawn = sampled.events
        marks.append(time.perf_counter())
        score = steps.classify(config, "os", events, drawn, stream, executor.AtOnce()).data.mean
        marks.append(time.perf_counter())
        steps.measure(config, Sample("os", "os", events, score), stream)
        marks.append(time.perf_counter())
        for name, seconds in zip(total, np.diff(marks), strict=True):
            total[name] += seconds / n
    return total


def main():
    """Time everything in a folder of its own, save the figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_config(Path(folder))
        with contextlib.chdir(folder):
            by_step = analysis(path)
            run = provenance.Run(config.load(path), "-m dimuon study pseudoexperiments", path)
            one = study.Study(run, "pseudoexperiments", None)
            model = NullModel.of(run.config, "os", one.events["os"], one.background("os"))
            by_stage, together = stages(one, model), in_parallel(one, model)
    each = together / N_PSEUDOEXPERIMENTS
    seconds = {"analysis_s": sum(by_step.values())}
    seconds |= {step.removesuffix(".py"): value for step, value in by_step.items()}
    seconds |= {"pseudoexperiment_s": each} | {f"one core: {name}": value for name, value in by_stage.items()}
    figures = [{"name": name, "value": value, "unit": "s"} for name, value in seconds.items()]
    figures.append({"name": "thousand_pseudoexperiments_min", "value": each * 1000 / 60, "unit": "min"})
    common.save("validity", [*figures, *trials.measured(), *likelihood.measured()])


if __name__ == "__main__":
    main()
