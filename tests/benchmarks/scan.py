"""The mass scan: its time, its power, whether its global p-values are uniform: `python -m tests.benchmarks.scan`.

Time: 10,000 events, 60 windows, 1,000 toys, with the fits of every window in every toy. The ratios are of CPU seconds
of one process each. Beside it pyBumpHunter on the same windows and as many pseudo-experiments: alone, where the
background is given and nothing is fitted, and with the least of the work that our toys do, the sidebands of every
window of every pseudo-experiment fitted with a straight line and a parabola, as the F-test of ours takes (by iminuit,
on few of them and scaled up; ours climb to degree 3, and fit what has an excess without a signal, too).

Power: a narrow resonance at a mass drawn at random, of as many events as are 3 sigma of the background under it; how
often the window of the largest Z0 holds it. Background alone: global p-values of datasets, each with the background of
the whole range fitted to itself and toys of its own, tested against a uniform distribution.

Learned: null datasets through six windows, classical and learned, as `scan.nulls` has them (an option says how many):
upcrossings beside counting, and the global p-values of one half by the other. Not made where no part is named.
"""

import argparse
import contextlib
import io
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kstest
from threadpoolctl import threadpool_limits

from dimuon.arrays import FloatArray
from dimuon.bumphunt.scan_windows import ScanSettings, scan_windows, searched
from dimuon.random import Stream
from dimuon.statistics import bump_scan, range_fit
from dimuon.statistics.bump_scan import BumpScan
from dimuon.studies import mass_scan, scan_nulls, scan_results, scan_tables
from dimuon.studies.mass_scan import MassScan
from dimuon.workflow import config, executor
from dimuon.workflow.products import SCAN_MAKER
from dimuon.workflow.provenance import Run
from tests.benchmarks.common import save

LOW, HIGH, SLOPE = 5.0, 16.0, 6.0  # GeV: of the masses, falling as exp(-m / SLOPE)
N_EVENTS, N_TOYS = 10_000, 1000
SIXTY = ScanSettings(range=[LOW, HIGH], resolution="0.0838", degree=3)  # 60 windows
SIX = ScanSettings(range=[LOW, HIGH], resolution="0.42", width=3.0, sidebands=2.0, step=1.0, degree=2)  # 6 windows
N_SEEDS, SIGMA = 10, 3.0
N_NULLS, N_NULL_TOYS = 300, 400
SLOWED = 40  # fits of the peer that are timed


def main() -> None:
    """Measure what is asked for and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["time", "power", "nulls"], help="time, power, nulls, learned")
    parser.add_argument("--nulls", type=int, default=N_NULLS, help="null datasets of the parts nulls and learned")
    parser.add_argument("--retrained", action="store_true", help="those of learned with a training of their own")
    parser.add_argument("--workers", type=int, help="processes, in place of one for each core")
    parser.add_argument("--folder", type=Path, help="where the part learned keeps what is done, to go on from")
    arguments = parser.parse_args()
    workers = arguments.workers
    parts = {
        "time": partial(timed, workers),
        "power": power,
        "nulls": partial(nulls, arguments.nulls, workers),
        "learned": partial(learned, arguments),
    }
    save("scan", [figure for part in arguments.parts for figure in parts[part]()])


def masses(rng: np.random.Generator, n: int) -> FloatArray:
    """(n,) masses of the background."""
    return LOW - SLOPE * np.log1p(-rng.uniform(0, 1 - np.exp(-(HIGH - LOW) / SLOPE), n))


def timed(workers: int | None) -> list[dict[str, object]]:
    """The classical scan and its peer."""
    mass = masses(np.random.default_rng(1), N_EVENTS)
    with executor.executor(workers) as pool:
        list(pool.map(_nothing, range(8)))  # the workers are there
        start = time.perf_counter()
        scan, expected = prepared(SIXTY, mass)
        batches = [(scan, expected, number) for number in range(N_TOYS // mass_scan.BATCH)]
        z = np.concatenate(list(pool.map(_toys, *zip(*batches, strict=True))))
        best = max(tests[0].outcome.z0 for tests in scan.tests(mass))
        worth = bump_scan.global_significance(best, z)
        ours = time.perf_counter() - start
    print(f"{len(scan.models)} windows, {len(z):,} toys: largest Z0 {best:.2f}; {worth}")
    with threadpool_limits(1):
        alone, fits = peer(scan, mass, expected)
        start = time.process_time()
        _toys(scan, expected, 0)
        cpu = (time.process_time() - start) * N_TOYS / mass_scan.BATCH
    ratio = (alone + fits) / cpu
    return [
        {"name": "scan_classical_s", "value": ours, "unit": "s", "peer": "pyBumpHunter, no fit", "ratio": alone / cpu},
        {
            "name": "scan_classical_vs_pybumphunter",
            "value": ratio,
            "unit": "times",
            "peer": "with fits",
            "ratio": ratio,
        },
        {"name": "scan_classical_cpu_s", "value": cpu, "unit": "s"},
        {"name": "scan_pybumphunter_alone_s", "value": alone, "unit": "s"},
        {"name": "scan_pybumphunter_fits_s", "value": fits, "unit": "s"},
    ]


def prepared(settings: ScanSettings, mass: FloatArray) -> tuple[BumpScan, FloatArray]:
    """The classical tests of some events, and what their background of the whole range expects in the cells."""
    scan = mass_scan.bump_scan_of(settings, scan_windows(settings, mass))
    fit = range_fit.fit_range(mass, mass_scan.resolutions(settings), [], np.random.default_rng(0))
    return scan, fit.expected(scan.edges)


def _nothing(_: int) -> None:
    time.sleep(0.5)


def _toys(scan: BumpScan, expected: FloatArray, number: int) -> FloatArray:
    return bump_scan.toys(scan, expected, mass_scan.BATCH, Stream(7).child("toys", number).generator())


def peer(scan: BumpScan, mass: FloatArray, expected: FloatArray) -> tuple[float, float]:
    """CPU seconds of pyBumpHunter alone, and of two fits to the sidebands of every window of every toy."""
    import pyBumpHunter
    from iminuit import Minuit

    bins = scan.models[len(scan.models) // 2][0].bins
    edges = np.arange(LOW, HIGH + bins.width / 2, bins.width)
    reference = np.diff(np.interp(edges, scan.edges, np.concatenate([[0.0], expected.cumsum()])))
    hunter = pyBumpHunter.BumpHunter1D(
        rang=(LOW, HIGH), bins=edges, width_min=4, width_max=4, scan_step=2, npe=N_TOYS, nworker=1, seed=1
    )
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        hunter.bump_scan(np.histogram(mass, edges)[0], reference, is_hist=True)
    alone = time.process_time() - start
    inside = np.histogram(mass, bins.edges)[0][~bins.is_sr]
    middle = ((bins.edges[1:] + bins.edges[:-1]) / 2)[~bins.is_sr] - bins.window.sr_low
    start = time.process_time()
    for number in range(SLOWED):
        counts = np.random.default_rng(number).poisson(inside)

        for degree in (1, 2):
            fit = Minuit(partial(_deviance, middle, counts), np.append(counts.mean(), np.zeros(degree)))
            fit.errordef = Minuit.LEAST_SQUARES
            fit.migrad()
    each = (time.process_time() - start) / SLOWED
    return alone, each * len(scan.models) * N_TOYS


def _deviance(middle: FloatArray, counts: FloatArray, coefficients: FloatArray) -> float:
    """-2 ln L of a polynomial, but for a constant."""
    rate = np.maximum(np.polynomial.polynomial.polyval(middle, coefficients), 1e-9)
    return float(2 * np.sum(rate - counts * np.log(rate)))


def power() -> list[dict[str, object]]:
    """Planted resonances: how often the largest Z0 is in their window."""
    hits = 0
    for seed in range(N_SEEDS):
        rng = np.random.default_rng([3, seed])
        background = masses(rng, N_EVENTS)
        windows = searched(scan_windows(SIXTY, background))
        first, last = windows[0].window.sr_low, windows[-1].window.sr_high
        place = rng.uniform(first, last)
        sigma = float(SIXTY.resolution_at([place])[0])
        n_under = np.sum(np.abs(background - place) < 2 * sigma)
        planted = rng.normal(place, sigma, rng.poisson(SIGMA * np.sqrt(n_under)))
        mass = np.append(background, planted)
        windows = searched(scan_windows(SIXTY, mass))
        z = [tests[0].outcome.z_signed for tests in mass_scan.bump_scan_of(SIXTY, windows).tests(mass)]
        best = windows[int(np.argmax(z))].window
        hit = best.sr_low <= place <= best.sr_high
        print(f"seed {seed}: {len(planted)} events at {place:.2f}, largest Z0 {max(z):.2f} in {best.label}: {hit}")
        hits += hit
    return [{"name": "scan_planted_found", "value": hits, "unit": f"of {N_SEEDS}"}]


def nulls(n: int, workers: int | None) -> list[dict[str, object]]:
    """Whether global p-values of background alone are uniform: all, and each set of 300."""
    p = list[float]()
    with executor.executor(workers) as pool:
        for value, _ in pool.map(_null, range(n), chunksize=20):
            p.append(value)
            if len(p) % N_NULLS == 0:
                print(f"{len(p)} nulls: KS p of these {N_NULLS} {kstest(p[-N_NULLS:], 'uniform').pvalue:.3f}, of all "
                      f"{kstest(p, 'uniform').pvalue:.3f}; mean {np.mean(p):.4f}", flush=True)  # fmt: skip
    sets = [kstest(p[i : i + N_NULLS], "uniform").pvalue for i in range(0, n - N_NULLS + 1, N_NULLS)]
    shares = {level: float(np.mean(np.array(p) < level)) for level in (0.01, 0.05, 0.1, 0.5)}
    print(f"share of p below a level: {shares}; KS p of the sets of {N_NULLS}: {np.round(np.sort(sets), 3).tolist()}")
    return [
        {"name": "scan_nulls_ks_p", "value": float(kstest(p, "uniform").pvalue), "unit": ""},
        *({"name": "scan_nulls_set_ks_p", "value": float(p_set), "unit": ""} for p_set in sets),
        *({"name": f"scan_nulls_below_{level:g}", "value": share, "unit": ""} for level, share in shares.items()),
    ]


def _null(number: int) -> tuple[float, int]:
    """The global p-value of the largest Z0 of one background-only dataset, by toys of its own fit; ties at random."""
    rng = np.random.default_rng([11, number])
    mass = masses(rng, rng.poisson(N_EVENTS))
    scan, expected = prepared(SIX, mass)
    best = max(tests[0].outcome.z0 for tests in scan.tests(mass))
    highest = bump_scan.largest(bump_scan.toys(scan, expected, N_NULL_TOYS, rng))
    above, tied = np.sum(highest > best + 1e-9), np.sum(np.abs(highest - best) <= 1e-9)
    return float((above + rng.uniform() * (tied + 1)) / (len(highest) + 1)), len(scan.models)


CONFIG = """\
name: learned_nulls
seed: 3
input: {{dimuons: dimuons.parquet}}
selection: {{charges: [os]}}
features: {{set: [dimu_pt, mu0_ip3d]}}
estimator: {{kind: maf, members: 2, blocks: 2, hidden: 8, epochs: 20}}
background: {{oversampling: 2.0}}
bdt: {{members: 1, folds: 3, n_trees: 30}}
significance: {{n_working_points: 8, fpr_min: 0.02}}
studies: {{members: 1, retrain_flows: {retrained}}}
scan: {{range: [5.0, 16.0], resolution: 0.42 + 0 * mass, width: 3.0, step: 1.0, sidebands: 2.0, degree: 2, toys: 500,
  methods: [classical, learned], mode: one_model, nulls: {nulls}}}
"""


def learned(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Null datasets through every method: time, uniformity, upcrossings beside counting."""
    rng = np.random.default_rng(5)
    n = rng.poisson(N_EVENTS // 2)
    features = {"dimu_pt": rng.exponential(20, n), "mu0_ip3d": rng.exponential(0.01, n)}
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(arguments.folder or temporary):
        pd.DataFrame({"dimu_mass": masses(rng, n), **features, "charge": "OS"}).to_parquet("dimuons.parquet")
        Path("learned_nulls.yaml").write_text(
            CONFIG.format(nulls=arguments.nulls, retrained=str(arguments.retrained).lower())
        )
        run = Run(config.load("learned_nulls.yaml"), SCAN_MAKER.command, "learned_nulls.yaml")
        with executor.executor(arguments.workers) as pool:
            study = MassScan(run, mass_scan.NAME, pool)
            scan = mass_scan.classical(study, "os")
            start = time.perf_counter()
            found = scan_nulls.results(scan_nulls.nulls(study, scan))
            seconds = time.perf_counter() - start
    n_done = len(found.classical)
    print(f"{n_done} null datasets of {found.classical.shape[1]} windows, {found.n_failed} failed, in {seconds:.0f} s")
    uniform = scan_results.uniformity_of(found, rng)
    for method, test in uniform.items():
        print(f"{method}: KS p {test.p:.3f} of {test.n} by {test.m}")
    for u in (2.0, 2.5, 3.0):
        for method in (scan_tables.CLASSICAL, scan_results.CUT, scan_results.LIKELIHOOD):
            print(f"{method} above {u:g}: {scan_results.both_ways(method, u, found)}")
    return [
        {"name": "scan_learned_nulls", "value": n_done, "unit": ""},
        {"name": "scan_learned_null_s", "value": seconds / n_done, "unit": "s"},
        *({"name": f"scan_nulls_ks_p_{method}", "value": test.p, "unit": ""} for method, test in uniform.items()),
    ]


if __name__ == "__main__":
    main()
