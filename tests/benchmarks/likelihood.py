"""What the likelihood value reads on background alone: `python -m tests.benchmarks.likelihood`.

Background-only toys of as many dimuons as the published sample: masses of a falling spectrum, scores drawn without
regard to the mass, from distributions as wide and as skewed as those of trained classifiers. Each toy goes the way of
step 6: its own fit without a cut says S and B, the weights follow from them and the scores (where S > 0; elsewhere the
value is not defined and counts as 0), and the reweighted spectrum is tested with either form of the weights' scale. So
the weights are those of the toy itself, which a bootstrap of given weights (`toys.weighted_calibration`) leaves out,
and larger excesses without a cut get weights that are more alike; `dimuon.statistics.reweighted_null` calibrates that.
"""

import numpy as np
from scipy.special import expit, ndtr
from threadpoolctl import threadpool_limits

from dimuon.arrays import FloatArray
from dimuon.statistics import reweighted_null
from dimuon.statistics.families import Polynomial
from dimuon.statistics.intervals import clopper_pearson
from dimuon.statistics.significance import discoveries, likelihood_weights
from dimuon.statistics.spectra import Spectra
from dimuon.workflow import executor
from tests.benchmarks.common import save
from tests.test_significance import BINS, expected_shape

N_TOYS, CHUNK = 40_000, 200
N_EVENTS = 12_000
MODEL = Polynomial(BINS, 5)
KINDS = {"wide": (0.25, 1.2), "narrow": (0.1, -0.6)}  # of the logit of the score: standard deviation, skewness
FORMS = {"per_bin": False, "pooled": True}
COLUMNS = (*FORMS, "calibrated")
LEVELS = (1.0, 2.0, 3.0)


def main():
    """Measure and save."""
    save("likelihood", measured())


def measured() -> list[dict[str, float | str]]:
    """Every kind of scores, both forms: figures of the tails."""
    figures: list[dict[str, float | str]] = []
    with executor.executor() as pool:
        for kind in KINDS:
            z = np.concatenate(list(pool.map(toys, [kind] * (N_TOYS // CHUNK), range(N_TOYS // CHUNK))))
            for form, values in zip(COLUMNS, z.T, strict=True):
                figures += described(f"likelihood_{kind}_{form}", values)
    return figures


@threadpool_limits.wrap(limits=1)  # one core a worker
def toys(kind: str, number: int) -> FloatArray:
    """(CHUNK, len(COLUMNS)) signed Z0 of chunk `number` of the toys, NaN where it is not defined."""
    rng, shape = np.random.default_rng([len(kind), number]), expected_shape()
    n_events = rng.poisson(N_EVENTS, CHUNK)
    place = np.repeat(np.arange(CHUNK), n_events) * len(shape) + rng.choice(len(shape), n_events.sum(), p=shape)
    score = scores(kind, len(place), rng)
    counts = _sums(place, None, len(shape))
    bare = discoveries(Spectra(BINS, counts, np.ones_like(counts)), MODEL)
    weights, first = np.zeros(len(place)), np.append(0, np.cumsum(n_events))
    defined = np.flatnonzero(bare.n_sig > 0)
    for toy in defined:
        own = slice(first[toy], first[toy + 1])
        weights[own] = likelihood_weights(score[own], bare.n_sig[toy], bare.n_bkg[toy])
    sums, squares = (_sums(place, weights**power, len(shape))[defined] for power in (1, 2))
    z = np.full((CHUNK, len(COLUMNS)), np.nan)
    for column, pooled in enumerate(FORMS.values()):
        z[defined, column] = discoveries(Spectra.weighted(BINS, sums, squares, pooled), MODEL).z_signed
    at, pool = np.linspace(0.1, 6, 60), scores(kind, 5000, rng)
    stands_for = [reweighted_null.calibrated(each, pool, bare.n_bkg.mean(), bare.n_bkg_err.mean()) for each in at]
    z[defined, -1] = np.interp(z[defined, 1], at, stands_for)
    return z


def scores(kind: str, n: int, rng: np.random.Generator) -> FloatArray:
    """(n,) scores: their logit is a shifted gamma variable."""
    width, skew = KINDS[kind]
    shape = 4 / skew**2
    return expit(np.sign(skew) * width * (rng.gamma(shape, size=n) - shape) / np.sqrt(shape))


def described(name: str, z: FloatArray) -> list[dict[str, float | str]]:
    """Figures: how often each of `LEVELS` is exceeded, over nominal."""
    defined = z[np.isfinite(z)]
    figures: list[dict[str, float | str]] = []
    print(f"{name}: defined in {len(defined):,} of {len(z):,}")
    for level in LEVELS:
        n_above = np.sum(defined > level)
        low, high = clopper_pearson(n_above, len(z))
        print(f"  above {level:g}: {n_above / len(z):.5f} [{low:.5f}, {high:.5f}], nominal {ndtr(-level):.5f}")
        figures.append({"name": f"{name}_above_{level:g}", "value": n_above / len(z) / ndtr(-level), "unit": "nominal"})
    return figures


def _sums(place, weights, n_bins):
    return np.bincount(place, weights, CHUNK * n_bins).reshape(CHUNK, n_bins).astype(float)


if __name__ == "__main__":
    main()
