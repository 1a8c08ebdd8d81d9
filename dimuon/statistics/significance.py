"""The bump hunt's test: is there more in the SR than the sidebands, interpolated, let expect? (paper, step 4)

The SR is one count N; the sidebands are binned. With B(theta) the background's integral over the SR and s >= 0, q0
= -2 ln [max L(0, theta) / max L(s, theta)], q0 = 0 where the fitted s is negative, Z0 = sqrt(q0) and p0 = 1 -
Phi(Z0) (Cowan et al. 2011, arXiv:1007.1727, Eqs. 12, 52, 53). Weighted events enter as scaled Poisson counts (Bohm
& Zech 2014, arXiv:1309.1287).
"""

from dataclasses import asdict, dataclass, fields, replace

import numpy as np
from scipy.special import chdtrc, ndtr

from dimuon.regions import MassBins
from dimuon.statistics.families import Polynomial, grouped

# expected SR background below which the asymptotic form fails, by toys (tests/benchmarks/significance.py)
MIN_BACKGROUND = 25.0


@dataclass(frozen=True)
class Spectra:
    """n mass spectra in the bins of the test: the sideband bins and, last, the SR as one.

    counts: (n, n_sidebands + 1), events or sums of weights. scales: same shape, sum(w^2) / sum(w) of each bin.
    """

    bins: MassBins
    counts: np.ndarray
    scales: np.ndarray

    @property
    def low(self):
        """(n_sidebands + 1,) lower bin edges [GeV]."""
        return np.append(self.bins.edges[:-1][~self.bins.is_sr], self.bins.window.sr_low)

    @property
    def high(self):
        """(n_sidebands + 1,) upper bin edges [GeV]."""
        return np.append(self.bins.edges[1:][~self.bins.is_sr], self.bins.window.sr_high)

    @classmethod
    def of(cls, mass, bins, weights=None, selections=None, pooled=False):
        """The spectra of one sample under one or several selections.

        mass: (n_events,), GeV. weights: (n_events,), not negative; an event of weight zero counts as absent.
        selections: (n, n_events) True where an event is kept (None: one spectrum of all). pooled: see `weighted`.
        Events in no bin are not part of the test. Raises ValueError for masses or weights that are not finite, for
        negative weights and for no weight at all.
        """
        mass = _finite(mass, "mass")
        index = bins.index(mass)
        kept = np.ones((1, len(mass)), dtype=bool) if selections is None else np.atleast_2d(selections)
        if weights is None:
            counts = np.array([_merged(bins, index[row]) for row in kept])
            return cls(bins, counts, np.ones_like(counts))
        weights = _finite(weights, "weight")
        if len(weights) != len(mass):
            raise ValueError(f"{len(weights)} weights for {len(mass)} masses")
        if (weights < 0).any():
            raise ValueError(f"weight {weights[weights < 0][0]:g} of event {np.argmax(weights < 0)} is negative")
        if not (weights > 0).any():
            raise ValueError("every weight is zero")
        counts = np.array([_merged(bins, index[row], weights[row]) for row in kept])
        squares = np.array([_merged(bins, index[row], weights[row] ** 2) for row in kept])
        return cls.weighted(bins, counts, squares, pooled)

    @classmethod
    def weighted(cls, bins, counts, squares, pooled=False):
        """From sums of weights and of squared weights, (n, n_sidebands + 1).

        Each bin has the scale of its own events, an empty one that of its whole sample. pooled: the sideband bins
        share the scale of all of them. A bin's own scale fluctuates with its count, which draws the fit below the
        sidebands and Z0 up; a common scale does not (tests/benchmarks/significance.py).
        """
        whole = _ratio(squares.sum(axis=1, keepdims=True), counts.sum(axis=1, keepdims=True), 1.0)
        scales = _ratio(squares, counts, whole)
        if pooled:
            sidebands = _ratio(
                squares[:, :-1].sum(axis=1, keepdims=True), counts[:, :-1].sum(axis=1, keepdims=True), whole
            )
            scales[:, :-1] = sidebands
        return cls(bins, counts, scales)

    @classmethod
    def joined(cls, parts):
        """One set of the spectra of several, in their order; all in the same bins."""
        return cls(
            parts[0].bins, *(np.concatenate([getattr(part, name) for part in parts]) for name in ("counts", "scales"))
        )

    def __len__(self):
        return len(self.counts)

    def __getitem__(self, chosen):
        """The spectra that an index, a slice or a mask chooses."""
        return Spectra(self.bins, np.atleast_2d(self.counts[chosen]), np.atleast_2d(self.scales[chosen]))


@dataclass(frozen=True)
class Discovery:
    """The outcome of the test: numbers, or arrays (n,) from `discoveries`.

    n_obs: events (sum of weights) in the SR. n_bkg, n_bkg_err: background expected there from the sidebands, and
    its standard error. n_sig: n_obs - n_bkg, zero where negative. n_sidebands: events in the sideband bins. q0, z0,
    p0: see the head of this file. z_signed: Z0 with the sign of the excess, where s may be negative. valid: the
    asymptotic form holds (n_bkg of at least `MIN_BACKGROUND` effective events). deviance, p_saturated; chi2, ndf,
    p_chi2: goodness of the sideband fit, by the saturated likelihood and by Pearson. gradient_norm, gap,
    min_eigenvalue, steps: certificate (see `dimuon.statistics.poisson_fits.Fits`), the worse of the two fits. at_boundary: bins of the
    sideband fit whose expected count is held at zero.
    """

    n_obs: float
    n_bkg: float
    n_bkg_err: float
    n_sig: float
    n_sidebands: float
    q0: float
    z0: float
    p0: float
    z_signed: float
    valid: bool
    deviance: float
    chi2: float
    ndf: int
    p_chi2: float
    p_saturated: float
    gradient_norm: float
    gap: float
    min_eigenvalue: float
    steps: int
    at_boundary: int

    def one(self, index):
        """The outcome for one spectrum of many, in plain numbers."""
        return Discovery(**{field.name: getattr(self, field.name)[index].item() for field in fields(self)})

    def with_q0(self, q0):
        """The same with another q0 >= 0, (n,), and the significances that follow from it."""
        z0 = np.sqrt(q0)
        return replace(self, q0=q0, z0=z0, p0=ndtr(-z0), z_signed=np.where(q0 > 0, z0, np.minimum(self.z_signed, 0.0)))

    def asdict(self):
        """{field: value}."""
        return asdict(self)


def discovery(mass, window, *, n_bins_sr=11, degree=5, weights=None):
    """The `Discovery` in one sample, with a polynomial background.

    mass: (n_events,), GeV; events outside `window` (a `MassWindow`) are not part of the test. weights: (n_events,)
    or None. No event in the SR gives q0 = 0. Raises ValueError for no event in the sidebands, for values that are
    not finite, negative weights, and a degree that the sideband bins cannot determine; `FitError` for a fit that is
    not at its minimum.
    """
    bins = window.binning(n_bins_sr)
    spectra = Spectra.of(mass, bins, weights)
    _require_sidebands(spectra)
    return discoveries(spectra, Polynomial(bins, degree)).one(0)


def discoveries(spectra, model):
    """The `Discovery` in each of n spectra at once, as arrays (n,).

    model: a function family (`dimuon.statistics.families`), or a choice among several (`dimuon.statistics.model_choice`), which answers
    itself.
    """
    if hasattr(model, "candidates"):
        return model.discoveries(spectra)
    family, low, high, counts, scales = model, spectra.low, spectra.high, spectra.counts, spectra.scales
    n_obs = counts[:, -1]
    # a free signal takes up whatever is in the SR: the sidebands alone determine the background
    free = family.fit(low[:-1], high[:-1], counts[:, :-1], scales[:, :-1])
    null = family.fit(low, high, counts, scales)
    n_bkg, n_bkg_err = _integral(family, free, low[-1:], high[-1:])
    # by convexity the fitted s is positive where the background-only fit, which the SR pulls, stays below n_obs
    excess = n_obs > null.expected[:, -1]
    likelihood_ratio = np.maximum(null.deviance - free.deviance, 0.0)
    q0 = np.where(excess, likelihood_ratio, 0.0)
    ndf = np.maximum(counts.shape[1] - 1 - family.n_coefficients, 0)
    chi2 = pearson(counts[:, :-1], free.expected, scales[:, :-1])
    return Discovery(
        n_obs=n_obs,
        n_bkg=n_bkg,
        n_bkg_err=n_bkg_err,
        n_sig=np.maximum(n_obs - n_bkg, 0.0),
        n_sidebands=counts[:, :-1].sum(axis=1),
        q0=q0,
        z0=np.sqrt(q0),
        p0=ndtr(-np.sqrt(q0)),
        z_signed=np.where(excess, 1.0, -1.0) * np.sqrt(likelihood_ratio),
        valid=n_bkg / scales[:, -1] >= MIN_BACKGROUND,
        deviance=free.deviance,
        chi2=chi2,
        ndf=np.full(len(chi2), ndf),
        p_chi2=chdtrc(ndf, chi2),
        p_saturated=chdtrc(ndf, free.deviance),
        gradient_norm=np.maximum(free.gradient_norm, null.gradient_norm),
        gap=np.maximum(free.gap, null.gap),
        min_eigenvalue=np.minimum(free.min_eigenvalue, null.min_eigenvalue),
        steps=np.maximum(free.steps, null.steps),
        at_boundary=free.at_boundary,
    )


def pearson(counts, expected, scales=1.0):
    """Pearson's chi2 over the last axis; a bin that neither expects nor holds events adds nothing."""
    safe = np.where(expected > 1e-9, expected, 1.0)
    return np.sum(np.where(expected > 1e-9, (counts - expected) ** 2 / (safe * scales), 0.0), axis=-1)


@dataclass(frozen=True)
class SidebandFit:
    """The background's mass spectrum, fitted to the sidebands alone.

    family: its function. coefficients: (k,), covariance: (k, k). n_sidebands: events fitted. chi2, ndf, p_chi2,
    p_saturated: goodness of fit. gradient_norm, gap, min_eigenvalue, steps, at_boundary: certificate, as in
    `Discovery`.
    """

    family: object
    coefficients: np.ndarray
    covariance: np.ndarray
    n_sidebands: float
    chi2: float
    ndf: int
    p_chi2: float
    p_saturated: float
    gradient_norm: float
    gap: float
    min_eigenvalue: float
    steps: int
    at_boundary: int

    def density(self, mass):
        """Events per GeV, never negative. mass: (n,), GeV, anywhere in the window."""
        return self.family.density(self.coefficients[None], np.atleast_1d(mass))[0]

    def expected(self, edges):
        """(n,) events in each bin, exactly integrated. edges: (n + 1,), GeV, inside the window."""
        edges = np.asarray(edges, dtype=float)
        return self.family.expected(self.coefficients[None], edges[:-1], edges[1:])[0]

    def expected_err(self, edges):
        """(n,) standard errors of `expected(edges)`, from the covariance of the coefficients."""
        edges = np.asarray(edges, dtype=float)
        slope = self.family.jacobian(self.coefficients[None], edges[:-1], edges[1:])[0]
        return np.sqrt(np.einsum("ri,ij,rj->r", slope, self.covariance, slope))


def fit_sidebands(mass, window, *, n_bins_sr=11, degree=5, weights=None):
    """The `SidebandFit` of a polynomial to one sample. Arguments and errors as for `discovery`."""
    bins = window.binning(n_bins_sr)
    return sideband_fits(Spectra.of(mass, bins, weights), Polynomial(bins, degree))[0]


def sideband_fits(spectra, model):
    """A list with the `SidebandFit` of each spectrum. model: as for `discoveries`."""
    _require_sidebands(spectra)
    found = [None] * len(spectra)
    for family, rows in grouped(model.chosen(spectra)):
        counts, scales = spectra.counts[rows, :-1], spectra.scales[rows, :-1]
        fits = family.fit(spectra.low[:-1], spectra.high[:-1], counts, scales)
        chi2, ndf = pearson(counts, fits.expected, scales), max(counts.shape[1] - family.n_coefficients, 0)
        for i, row in enumerate(rows):
            found[row] = SidebandFit(
                family=family,
                coefficients=fits.coefficients[i],
                covariance=fits.covariance[i],
                n_sidebands=counts[i].sum().item(),
                chi2=chi2[i].item(),
                ndf=ndf,
                p_chi2=chdtrc(ndf, chi2[i]).item(),
                p_saturated=chdtrc(ndf, fits.deviance[i]).item(),
                gradient_norm=fits.gradient_norm[i].item(),
                gap=fits.gap[i].item(),
                min_eigenvalue=fits.min_eigenvalue[i].item(),
                steps=fits.steps[i].item(),
                at_boundary=fits.at_boundary[i].item(),
            )
    return found


def likelihood_weights(score, n_sig, n_bkg):
    """max(l, 0) with l = [z - (1-mu)(1-z)] / [mu(1-z)], mu = S/(S+B) (paper, Eq. 1 and step 4b).

    score: (n_events,), classifier output z in [0, 1). n_sig, n_bkg: S and B of the unweighted fit without a cut.
    Raises ValueError for S <= 0, where mu and the weights are not defined, and for a score outside [0, 1).
    """
    score = _finite(score, "score")
    if not n_sig > 0:
        raise ValueError("the fit without a cut finds no excess, so the signal fraction is not defined")
    outside = (score < 0) | (score >= 1)
    if outside.any():
        raise ValueError(f"score {score[outside][0]:g} of event {np.argmax(outside)} is not in [0, 1)")
    mu = n_sig / (n_sig + n_bkg)
    return np.maximum((score - (1 - mu) * (1 - score)) / (mu * (1 - score)), 0.0)


def _require_sidebands(spectra):
    if not spectra.counts[:, :-1].sum(axis=1).all():
        raise ValueError("no event in the sidebands: there is nothing to fit the background to")


def _integral(family, fits, low, high):
    """(n,), (n,): expected events in one interval and its standard error."""
    value = family.expected(fits.coefficients, low, high)[:, 0]
    slope = family.jacobian(fits.coefficients, low, high)[:, 0]
    return value, np.sqrt(np.einsum("ni,nij,nj->n", slope, fits.covariance, slope))


def _ratio(above, below, otherwise):
    """above / below, and `otherwise` where below is zero."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), otherwise)


def _merged(bins, index, weights=None):
    """(n_sidebands + 1,) sums of weights in the sideband bins and, last, the SR."""
    inside = index >= 0
    counts = np.bincount(index[inside], None if weights is None else weights[inside], len(bins.is_sr)).astype(float)
    return np.append(counts[~bins.is_sr], counts[bins.is_sr].sum())


def _finite(values, name):
    values = np.asarray(values, dtype=float)
    if values.ndim != 1:
        raise ValueError(f"{name} must have shape (n_events,), found {values.shape}")
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(f"{name} of event {np.argmax(bad)} is {values[bad][0]}: every {name} must be finite")
    return values
