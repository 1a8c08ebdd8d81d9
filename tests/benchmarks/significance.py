"""How fast the discovery test is, and what its Z0 is worth: `python -m tests.benchmarks.significance`.

Times one q0 in a batch of 1,000 beside MINUIT (the published code, Nelder-Mead, takes about 7.5 s for one), the whole
of step 6 on samples as large as the published ones, and 100,000 toys; then tabulates how often background-only toys
exceed Z0 = 1, 2, 3 against the asymptotic form, unweighted at several sizes and weighted by several kinds of weights.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, before numpy loads its BLAS

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from dimuon.statistics import toys
from dimuon.statistics.families import Polynomial
from dimuon.statistics.significance import discoveries
from dimuon.statistics.spectra import Spectra
from tests import minuit, small_results
from tests.benchmarks.common import save
from tests.test_significance import BINS, expected_shape, masses

STEP = Path(__file__).resolve().parents[2] / "06_significance.py"
MODEL = Polynomial(BINS, 5)
PUBLISHED_SIZES = {"os": {"peak": 150, "rest": 11600}, "ss": {"peak": 0, "rest": 6800}}


def main():
    """Measure everything, print the tables and save the figures."""
    figures = [*one_q0(), step6(), *calibrations(), *weighted_calibrations()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    save("significance", [*figures, {"name": "peak_mb", "value": peak, "unit": "MB"}])


def one_q0(n_toys=1000, n_minuit=20):
    """Milliseconds for one q0 (two fits), amortised over a batch, and the same by MINUIT."""
    counts = np.random.default_rng(1).poisson(12000 * expected_shape(), (n_toys, len(expected_shape()))).astype(float)
    spectra = Spectra(BINS, counts, np.ones_like(counts))
    ours = min(_seconds(discoveries, spectra, MODEL) for _ in range(5)) / n_toys
    theirs = min(_seconds(lambda: [minuit.z0(row, BINS, 5) for row in counts[:n_minuit]]) for _ in range(2)) / n_minuit
    yield {"name": "q0_ms_per_fit", "value": 1e3 * ours, "unit": "ms", "peer": "iminuit", "ratio": theirs / ours}


def step6():
    """Seconds for the whole of step 6, start-up included: OS, SS and both cross-applications."""
    with tempfile.TemporaryDirectory() as folder:
        small_results.N_EVENTS = PUBLISHED_SIZES
        small_results.build(folder)
        command = [sys.executable, STEP, "small.yaml"]
        times = [_seconds(subprocess.run, command, cwd=folder, check=True, capture_output=True) for _ in range(2)]
    return {"name": "step6_s", "value": min(times), "unit": "s"}


def calibrations(n_toys=100_000):
    """100,000 background-only toys at four sizes: seconds for 12,000 events, and how often Z0 exceeds 1, 2, 3."""
    print(f"{'events':<22}{'n_bkg':>8}{'mean':>8}{'std':>8}" + HEADER)
    for n_events in (12000, 1000, 300, 100):
        expected = n_events * expected_shape()
        start = time.perf_counter()
        found = toys.calibration(expected, BINS, MODEL, n_toys, np.random.default_rng(n_events))
        seconds = time.perf_counter() - start
        _show(str(n_events), expected[-1], found)
        if n_events == 12000:
            yield {"name": "toys_100k_s", "value": seconds, "unit": "s"}
        yield from _figures(f"coverage_{n_events}", found)


def weighted_calibrations(n_toys=5000, n_events=12000):
    """The scaled Poisson on weights of several kinds, drawn anew in every toy."""
    rng = np.random.default_rng(7)
    kinds = {
        "equal": np.ones(n_events),
        "uniform": rng.uniform(size=n_events),
        "exponential": rng.exponential(size=n_events),
        "heavy tail": rng.exponential(size=n_events) ** 2,
    }
    print(f"{'weights':<22}{'n_eff':>8}{'mean':>8}{'std':>8}" + HEADER)
    for kind, weights in kinds.items():
        for scale, pooled in (("", False), (", pooled", True)):
            found, _ = toys.weighted_calibration(masses(n_events), weights, MODEL, n_toys, rng, pooled)
            _show(kind + scale, weights.sum() ** 2 / np.sum(weights**2), found)
            yield from _figures(f"weights_{kind.replace(' ', '_')}{'_pooled' if pooled else ''}", found)


HEADER = "".join(f"{f'P(Z0 > {z}) / nominal':>28}" for z in (1, 2, 3))


def _show(label, size, found):
    ratios = [
        f"{fraction / nominal:.3f} +- {error / nominal:.3f}"
        for fraction, error, nominal in zip(found.fraction, found.error, found.nominal, strict=True)
    ]
    print(f"{label:<22}{size:>8.0f}{found.mean:>8.3f}{found.std:>8.3f}" + "".join(f"{ratio:>28}" for ratio in ratios))


def _figures(name, found):
    yield {"name": f"{name}_bias", "value": found.mean, "unit": "sigma"}
    yield {"name": f"{name}_spread", "value": found.std, "unit": "sigma"}
    for z, fraction, nominal in zip(found.z, found.fraction, found.nominal, strict=True):
        yield {"name": f"{name}_above_{z:g}", "value": fraction / nominal, "unit": "nominal"}


def _seconds(function, *arguments, **keywords):
    start = time.perf_counter()
    function(*arguments, **keywords)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
