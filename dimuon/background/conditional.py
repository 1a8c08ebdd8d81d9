"""The background in the SR: features given the mass from the sidebands, masses from the sideband fit (paper, step 2).

p(x, m) = p(x | m) p(m): the density estimator gives the first factor, interpolated over the SR; the polynomial
fitted to the sideband masses gives the second. No event of the SR takes part in either fit.
"""

import io
import logging

import numpy as np
import torch

from dimuon.background.flow_ensemble import FlowEnsemble
from dimuon.background.training import load_tensors
from dimuon.errors import UserError
from dimuon.features import LogitScaler
from dimuon.workflow.executor import generator, integer_seed

log = logging.getLogger("dimuon")

MIN_SIDEBAND_EVENTS = 500  # fewer do not determine a conditional density
VALIDATION_SHARE = 0.25  # of the sampled SR events: one fold in four, as three folds train and one validates
CDF_STEPS = 4096  # the cumulative mass function is exact at so many points, linear between them


def fit_scaler(features, in_sidebands, names, limits_from_sidebands=False):
    """The `LogitScaler` fitted to events of one charge.

    features: (n_events, n_features), physical units; in_sidebands: (n_events,), True for sideband events; names: of
    the features. limits_from_sidebands: no SR event enters. Raises `UserError` for values that are not finite and
    for a feature that is constant in the sidebands.
    """
    features = np.asarray(features, dtype=float)
    for name, values, inside in zip(names, features.T, features[in_sidebands].T, strict=True):
        if not np.isfinite(values).all():
            raise UserError(
                f"feature {name}: {(~np.isfinite(values)).sum()} values are not finite; mend the dimuon table"
            )
        if inside.size == 0 or inside.min() == inside.max():
            found = f"{inside[0]:g} in every event" if inside.size else "no event"
            raise UserError(f"feature {name} is constant in the sidebands ({found}); leave it out of features.set")
    return LogitScaler().fit(features, in_sidebands, limits_from_sidebands)


class ConditionalBackground:
    """A density estimator in physical units: p(features | mass), learned in the sidebands.

    scaler: `LogitScaler`. mass_mean, mass_std: of the sidebands, GeV. estimator: as `flows.make_estimator` gives.
    n_outside: sideband events left out of the training because the scaler has no finite image for them.
    """

    def __init__(self, scaler, mass_mean, mass_std, estimator, n_outside=0):
        self.scaler, self.mass_mean, self.mass_std = scaler, mass_mean, mass_std
        self.estimator, self.n_outside = estimator, n_outside

    @classmethod
    def train(cls, estimator, scaler, features, mass, seed, pool=None, checkpoint=None):
        """Train an estimator on sideband events; returns the `ConditionalBackground`.

        features: (n_events, n_features), physical units; mass: (n_events,), GeV: sideband events alone. scaler:
        fitted, on these or on other events. seed, pool, checkpoint: as for `FlowEnsemble.fit`.

        An event beyond the scaler's range (0 < v < 1, see `LogitScaler`) has no finite image; it is left out of the
        training, counted and reported. It can only occur where the scaler was fitted on other events.
        Raises `UserError` with fewer than 500 events.
        """
        features, mass = np.asarray(features, dtype=float), np.asarray(mass, dtype=float)
        outside = scaler.outside(features)
        if outside.any():
            log.warning(
                "%d of %d sideband events lie outside the range of the feature scaler: left out of the flow training",
                outside.sum(), len(outside),
            )  # fmt: skip
        features, mass = features[~outside], mass[~outside]
        if len(mass) < MIN_SIDEBAND_EVENTS:
            raise UserError(
                f"{len(mass)} sideband events to train flows on, at least {MIN_SIDEBAND_EVENTS} are needed; "
                "widen the window or loosen the selection"
            )
        mean, std = float(mass.mean()), float(mass.std())
        estimator.fit(scaler.transform(features), (mass - mean) / std, seed, pool, checkpoint)
        return cls(scaler, mean, std, estimator, int(outside.sum()))

    def sample(self, mass, seed):
        """Features at given masses: (n_events, n_features), physical units. mass: (n_events,), GeV.

        Event i comes from member `estimator.member_of(n_events)[i]`. Raises `UserError` for a sample not finite.
        """
        return self.scaler.inverse(self.estimator.sample(self._scaled(mass), seed))

    def log_prob(self, features, mass):
        """log p(features | mass): (n_events,), in inverse physical units.

        Raises ValueError for features outside the scaler's range.
        """
        prepared = self.scaler.transform(features)
        return self.estimator.log_prob(prepared, self._scaled(mass)) + self.scaler.log_jacobian(features)

    def to_bytes(self):
        """The trained background as a torch file of tensors and numbers; the same training gives the same bytes."""
        content = {
            "scaler": self.scaler.state(),
            "mass_mean": self.mass_mean,
            "mass_std": self.mass_std,
            "n_outside": self.n_outside,
            "estimator": self.estimator.state(),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content):
        """What `to_bytes` gave. Raises ValueError where it is not that."""
        content = load_tensors(content)
        scaler = LogitScaler.from_state(content["scaler"])
        estimator = FlowEnsemble.from_state(content["estimator"])
        return cls(scaler, content["mass_mean"], content["mass_std"], estimator, content["n_outside"])

    def _scaled(self, mass):
        return (np.asarray(mass, dtype=float) - self.mass_mean) / self.mass_std


def sample_masses(fit, low, high, n_events, random):
    """Masses [GeV] between low and high distributed as a fitted spectrum, by its inverse CDF: (n_events,).

    fit: with `expected(edges)` (`significance.SidebandFit`). random: `numpy.random.Generator`. Raises `UserError`
    where the fit expects no event.
    """
    edges = np.linspace(low, high, CDF_STEPS + 1)
    cumulative = np.concatenate([[0.0], np.cumsum(np.maximum(fit.expected(edges), 0.0))])
    if not cumulative[-1] > 0:
        raise UserError(f"the sideband fit expects no event between {low:g} and {high:g} GeV; lower background.degree")
    return np.interp(random.uniform(0.0, cumulative[-1], n_events), cumulative, edges)


def sample_signal_region(background, fit, window, oversampling, seed):
    """Sampled background in the SR as a dict of arrays: mass [GeV], features, member, use.

    oversampling: sampled events per event expected by the fit, all uses together. use: a random quarter is
    "validation", the rest "train"; a classifier that makes folds of its own takes both.
    """
    expected = fit.expected([window.sr_low, window.sr_high]).sum()
    n_events = max(1, round(oversampling * expected))
    mass = sample_masses(fit, window.sr_low, window.sr_high, n_events, generator(seed, "mass"))
    use = np.full(n_events, "train", dtype=object)
    use[generator(seed, "use").permutation(n_events)[: round(VALIDATION_SHARE * n_events)]] = "validation"
    return {
        "mass": mass,
        "features": background.sample(mass, integer_seed(seed, "features")),
        "member": background.estimator.member_of(n_events),
        "use": use,
    }


def fit_record(fit, window, n_bins_sr):
    """A sideband fit in numbers and lists, for JSON. fit: `significance.SidebandFit`; counts in events per bin.

    coefficients: of Legendre polynomials over the window, events per bin width. n_bkg: expected in the SR.
    """
    bins = window.binning(n_bins_sr)
    sr = [window.sr_low, window.sr_high]
    return {
        "degree": len(fit.coefficients) - 1,
        "n_bins_sr": n_bins_sr,
        "coefficients": fit.coefficients.tolist(),
        "covariance": fit.covariance.tolist(),
        "n_sidebands": float(fit.n_sidebands),
        "n_bkg": float(fit.expected(sr).sum()),
        "n_bkg_err": float(fit.expected_err(sr)[0]),
        "edges": bins.edges.tolist(),
        "expected": fit.expected(bins.edges).tolist(),
        "goodness": {name: float(getattr(fit, name)) for name in ("chi2", "ndf", "p_chi2", "p_saturated")},
        "certificate": {
            name: float(getattr(fit, name))
            for name in ("gradient_norm", "gap", "min_eigenvalue", "steps", "at_boundary")
        },
    }
