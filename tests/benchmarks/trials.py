"""How well upcrossings predict the tail of the best of many nested cuts: `python -m tests.benchmarks.trials`.

A million background-only toys of the 25 working points, nested as cuts on one sample are, with the test of the analysis
at each. From every thousand of the first 20,000 the tail is extrapolated as `dimuon.statistics.trials` does, and
compared with what is counted in all of them. Two things make the difference from one, and each is measured: one
experiment may cross a level several times (crossings at u over experiments above u), and the number of crossings may
fall with u otherwise than assumed. For the latter the exponential of a smooth process is shown beside (a random walk
looked at in 25 steps is none), and Gaussian numbers in place of counts, which leave nothing to the small counts of the
tightest cuts.
"""

import time
from dataclasses import replace

import numpy as np
from scipy.special import ndtr
from threadpoolctl import threadpool_limits

from dimuon.arrays import FloatArray
from dimuon.statistics import trials
from dimuon.statistics.families import Polynomial
from dimuon.statistics.significance import discoveries
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.toys import nested_counts
from dimuon.statistics.working_points import rates
from dimuon.workflow import executor
from tests.benchmarks.common import save
from tests.test_significance import BINS, expected_shape

N_TOYS, CHUNK = 1_000_000, 2000  # CHUNK toys in memory at once
N_WHOLE = 20_000  # toys fitted at every working point
GROUPS = (100, 1000)  # null experiments to one extrapolation: the toys of step 6, a good study
N_EVENTS = 12_000
SCREEN = 2.0  # below it, in a linear estimate of Z0, no fit is made in the rest: no Z0 there is above the lowest of U
U = (3.0, 3.5, 4.0, 4.5)
MODEL = Polynomial(BINS, 5)


def main():
    """Measure and save."""
    save("trials", measured())


def measured() -> list[dict[str, float | str]]:
    """Count, extrapolate, print the comparison; the figures of it."""
    start = time.perf_counter()
    with executor.executor() as pool:
        chunks = list(pool.map(toys, range(N_TOYS // CHUNK)))
    whole, n = np.concatenate([z for z, _ in chunks if z is not None]), sum(n for _, n in chunks)
    figures = [figure for group in GROUPS for figure in compared("counts", whole, n, group)]
    seconds = time.perf_counter() - start
    gaussian = [gauss(number) for number in range(N_TOYS // CHUNK)]
    n = sum(tallied(z) for z in gaussian)
    figures += compared("Gaussian", np.concatenate(gaussian[: N_WHOLE // CHUNK]), n, max(GROUPS))
    return [*figures, {"name": "trials_toys_s", "value": seconds, "unit": "s"}]


@threadpool_limits.wrap(limits=1)  # one core a worker
def toys(number: int) -> tuple[FloatArray | None, FloatArray]:
    """Chunk `number` of the toys: Z0 at every working point of the first chunks (None of the rest), and `tallied`."""
    rng, fractions = np.random.default_rng([2016, number]), rates()
    expected = N_EVENTS * expected_shape() * fractions[:, None]
    between = expected - np.vstack([expected[1:], np.zeros_like(expected[:1])])
    counts = nested_counts(between, CHUNK, rng)
    whole = number < N_WHOLE // CHUNK
    likely = linear(counts, expected) > SCREEN
    fitted = counts[np.ones_like(likely) if whole else likely]
    z = np.zeros(likely.shape)
    z[np.ones_like(likely) if whole else likely] = discoveries(Spectra(BINS, fitted, np.ones_like(fitted)), MODEL).z0
    if whole and (z[~likely] > min(U)).any():
        raise ArithmeticError(f"a Z0 of {z[~likely].max():.2f} would not have been fitted: lower SCREEN")
    return (z if whole else None), tallied(z)


def linear(counts: FloatArray, expected: FloatArray) -> FloatArray:
    """(n_toys, n) estimate of Z0 with a least-squares fit whose weights are those expected; a screen, no more."""
    one = Spectra(BINS, expected, np.ones_like(expected))
    design = MODEL.jacobian(np.zeros((1, MODEL.n_coefficients)), one.low, one.high)[0]
    z = []
    for values, mean in zip(counts.transpose(1, 0, 2), expected, strict=True):
        weighted = design[:-1].T / mean[:-1]
        take = design[-1] @ np.linalg.solve(weighted @ design[:-1], weighted)
        z.append((values[:, -1] - values[:, :-1] @ take) / np.sqrt(mean[-1] + take**2 @ mean[:-1]))
    return np.stack(z, axis=1)


def gauss(number: int) -> FloatArray:
    """(CHUNK, n) Z0 of nested cuts if counts were Gaussian: a random walk in the fraction kept, at unit variance."""
    fractions = rates()
    steps = np.sqrt(np.append(-np.diff(fractions), fractions[-1]))
    walk = (np.random.default_rng([2017, number]).normal(size=(CHUNK, len(fractions))) * steps)[:, ::-1].cumsum(axis=1)
    return np.maximum(walk[:, ::-1] / np.sqrt(fractions), 0.0)


def tallied(z: FloatArray) -> FloatArray:
    """(2, len(U)): how many toys exceed each of U, and how often they cross it upwards."""
    return np.array([[np.sum(z.max(axis=1) > u), np.sum(trials.upcrossings(z, u))] for u in U], dtype=float).T


def compared(what: str, z: FloatArray, tally: FloatArray, size: int) -> list[dict[str, float | str]]:
    """Figures of one kind of toys, extrapolated from `size` of them at a time.

    z: (n, 25) of those fitted at every point. tally: sum of `tallied` over all.
    """
    figures = []
    groups = z.reshape(-1, size, z.shape[1])
    print(f"{what}: {N_TOYS:,} toys, extrapolated from {size:,} of them at a time, {len(groups)} times")
    print("  u     counted  predicted / counted (spread, claimed)  of it: several crossings, their fall; if smooth")
    for u, above, crossed in zip(U, *tally, strict=True):
        tails = [tail for tail in (trials.upcrossing_tail([group], u, rates()) for group in groups) if tail is not None]
        logs = np.array([tail.log_p(u) for tail in tails])
        predicted, first = np.exp(logs[:, 0]), N_TOYS * ndtr(-u)
        smooth = np.mean([np.exp(replace(tail, correlations=()).log_p(u)[0]) for tail in tails]) * N_TOYS / above
        ratio, error = predicted.mean() * N_TOYS / above, 1 / np.sqrt(above)
        several = (first + crossed) / above
        print(
            f"  {u:<5g}{above:>8.0f}  {ratio:.3f} +- {ratio * error:.3f} ({predicted.std() / predicted.mean():.2f}, "
            f"{np.mean(logs[:, 2] - logs[:, 1]) / 2:.2f}) from level {np.mean([tail.levels[0] for tail in tails]):.2f}"
            f"{several:>14.3f} {ratio / several:>14.3f} {smooth:>14.3f}"
        )
        label = "" if (what, size) == ("counts", max(GROUPS)) else f"_{what.lower()}_{size}"
        figures.append(
            {"name": f"trials_prediction{label}_{u:g}sigma", "value": ratio, "unit": f"+- {ratio * error:.2g}"}
        )
    return figures


if __name__ == "__main__":
    main()
