"""How the features are prepared for the estimators: squeezed, stretched by a logit, scaled; with the exact inverse."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from dimuon.arrays import BoolArray, FloatArray
from dimuon.errors import AnalysisError
from dimuon.events import Events

STRETCH = 1.2  # u = (x - min) / (1.2 max - min): room above the largest value
SQUEEZE = (0.02, 0.98)  # u is mapped linearly into this interval before the logit
LARGEST = float(np.finfo(np.float32).max) / 10  # of a feature's values
AT_END = 1e-6  # of v: an image still finite
AT_BOUND = 1e-4  # of the span: the strip beyond a hard bound whose values are taken for the bound itself

Bounds = tuple[float | None, float | None]
"""(lowest, highest) value that a feature can have; None: there is none."""


class LogitScaler:
    """Feature preprocessing of the published analysis (slides, backup), with its exact inverse.

    Per feature: u = (x - min) / (1.2 max - min), v = 0.02 + 0.96 u, y = (logit v - mean) / std. min and max are those
    of the events it is fitted on, mean and std those of their sidebands. The published code adds a small number
    inside the logit that its inverse leaves out (round trip off by 1e-4); there is none here.

    A value outside the fitted range but with 0 < v < 1 is transformed like any other; beyond that no finite
    image exists and `transform` raises: nothing is clipped.

    lattices: {index of a discrete feature: its values, rising}. A density needs values in between: `spread` puts each
    anywhere in its cell, half way to its neighbours, and `inverse` gives the nearest value back.
    bounds: {index of a feature that cannot go beyond: its `Bounds`}. At a bound v is 0 or 1 and not 0.02 or 0.98, so
    that no sample lies beyond it, as the published form allows; the values next to a lower bound of 0 are spread as on
    a logarithmic axis. For values at the bound itself the axis goes on for 0.01 % of the span; `inverse` gives the
    bound there.
    """

    lattices: Mapping[int, FloatArray]
    bounds: Mapping[int, Bounds]
    minimum: FloatArray
    span: FloatArray
    mean: FloatArray
    std: FloatArray

    def __init__(
        self, lattices: Mapping[int, FloatArray] | None = None, bounds: Mapping[int, Bounds] | None = None
    ) -> None:
        self.lattices, self.bounds = dict(lattices or {}), dict(bounds or {})

    def fit(
        self, x: FloatArray, sideband: BoolArray | None = None, limits_from_sidebands: bool = False
    ) -> "LogitScaler":
        """Learn the transform from x: (n_events, n_features), physical units; returns itself.

        sideband: (n_events,) True for sideband events, the ones that give mean and std (None: all).
        limits_from_sidebands: take minimum and maximum from them too, so that no SR event enters.
        Raises ValueError for a value that is not finite and for a constant feature.
        """
        x = _table(x)
        sideband = np.ones(len(x), dtype=bool) if sideband is None else np.asarray(sideband, dtype=bool)
        if not sideband.any():
            raise ValueError("no sideband event to fit the feature scaler on")
        limits = x[sideband] if limits_from_sidebands else x
        self.minimum = limits.min(axis=0)
        maximum = limits.max(axis=0)
        constant = np.flatnonzero(maximum == self.minimum)
        if constant.size:
            index = int(constant[0])
            raise ValueError(f"feature {index} is constant ({self.minimum[index]:g}): nothing to learn from it")
        # 1.2 max lies below max where max is negative: stretch the distance instead, the same idea
        top = np.where(maximum > 0, STRETCH * maximum, maximum + (STRETCH - 1) * (maximum - self.minimum))
        for index, (lowest, highest) in self.bounds.items():
            strip = AT_BOUND * (maximum[index] - self.minimum[index])
            if lowest is not None:
                self.minimum[index] = lowest - strip
            if highest is not None:
                top[index] = highest + strip
        self.span = top - self.minimum
        self.mean, self.std = np.zeros(x.shape[1]), np.ones(x.shape[1])
        y = self.transform(x[sideband])
        self.mean, self.std = y.mean(axis=0), y.std(axis=0)
        return self

    def outside(self, x: ArrayLike) -> BoolArray:
        """(n_events,) True where an event has a feature without a finite image. x: (n_events, n_features)."""
        v = self._squeezed(_table(x, finite=False))
        outside: BoolArray = ~np.all((v > 0) & (v < 1), axis=1)
        return outside

    def within(self, x: ArrayLike) -> FloatArray:
        """x with each feature that has no finite image moved to the nearest value that has one: same shape."""
        low, high = self._squeeze()
        table = _table(x)
        ends = [self.minimum + (end - low) / (high - low) * self.span for end in (AT_END, 1 - AT_END)]
        return np.clip(table, *ends)

    def transform(self, x: ArrayLike) -> FloatArray:
        """y: (n_events, n_features), dimensionless. x: same shape, physical units. Raises ValueError outside."""
        table = _table(x)
        outside = self.outside(table)
        if outside.any():
            raise ValueError(
                f"{outside.sum()} of {len(table)} events lie outside the range the feature scaler was fitted on, "
                f"first {table[np.argmax(outside)]}"
            )
        prepared: FloatArray = (logit(self._squeezed(table)) - self.mean) / self.std
        return prepared

    def inverse(self, y: ArrayLike) -> FloatArray:
        """x: (n_events, n_features), physical units, with transform(inverse(y)) = y."""
        low, high = self._squeeze()
        u = (expit(_table(y) * self.std + self.mean) - low) / (high - low)
        features: FloatArray = self.minimum + u * self.span
        for index, lattice in self.lattices.items():
            middles = (lattice[1:] + lattice[:-1]) / 2
            features[:, index] = lattice[np.searchsorted(middles, features[:, index])]
        for index, (lowest, highest) in self.bounds.items():
            features[:, index] = np.clip(features[:, index], lowest, highest)
        return features

    def spread(self, x: ArrayLike, rng: np.random.Generator) -> FloatArray:
        """x with the discrete features anywhere in their cells: same shape. x: (n_events, n_features)."""
        features = _table(x)
        if self.lattices:
            features = features.copy()
            for index, lattice in self.lattices.items():
                below, above = _cells(lattice)
                cell = np.searchsorted((lattice[1:] + lattice[:-1]) / 2, features[:, index])
                features[:, index] = rng.uniform(below[cell], above[cell])
        return features

    def log_jacobian(self, x: ArrayLike) -> FloatArray:
        """log |det dy/dx|: (n_events,). x: (n_events, n_features), physical units."""
        low, high = self._squeeze()
        v = self._squeezed(_table(x))
        log_jacobian: FloatArray = np.sum(np.log((high - low) / (v * (1 - v) * self.span * self.std)), axis=1)
        return log_jacobian

    def state(self) -> dict[str, list[float]]:
        """The fitted numbers as lists, for saving."""
        fitted = {name: getattr(self, name).tolist() for name in ("minimum", "span", "mean", "std")}
        lattices = {f"lattice_{index}": lattice.tolist() for index, lattice in self.lattices.items()}
        ends = {index: [np.nan if end is None else end for end in both] for index, both in self.bounds.items()}
        return fitted | lattices | {f"bounds_{index}": both for index, both in ends.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, list[float]]) -> "LogitScaler":
        """The scaler that `state()` described."""
        lattices = {index: np.asarray(values, dtype=float) for index, values in _numbered(state, "lattice_").items()}
        ends = _numbered(state, "bounds_").items()
        bounds = {index: (_known(lowest), _known(highest)) for index, (lowest, highest) in ends}
        scaler = cls(lattices, bounds)
        for name in ("minimum", "span", "mean", "std"):
            setattr(scaler, name, np.asarray(state[name], dtype=float))
        return scaler

    def _squeezed(self, x: FloatArray) -> FloatArray:
        low, high = self._squeeze()
        return low + (high - low) * (x - self.minimum) / self.span

    def _squeeze(self) -> tuple[FloatArray, FloatArray]:
        """The interval of v between minimum and top: (n_features,) each."""
        low, high = (np.full(len(self.minimum), end) for end in SQUEEZE)
        for index, (lowest, highest) in self.bounds.items():
            if lowest is not None:
                low[index] = 0.0
            if highest is not None:
                high[index] = 1.0
        return low, high


def _numbered(state: Mapping[str, list[float]], prefix: str) -> dict[int, list[float]]:
    return {int(name.removeprefix(prefix)): values for name, values in state.items() if name.startswith(prefix)}


def _known(end: float) -> float | None:
    return None if np.isnan(end) else float(end)


def _cells(lattice: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(lower, upper) ends of the cell of each value: (n_values,) each."""
    middles = (lattice[1:] + lattice[:-1]) / 2
    first, last = (lattice[1] - lattice[0]) / 2, (lattice[-1] - lattice[-2]) / 2
    return np.append(lattice[0] - first, middles), np.append(middles, lattice[-1] + last)


def _table(values: ArrayLike, finite: bool = True) -> FloatArray:
    x = np.asarray(values, dtype=float)
    if x.ndim != 2:
        raise ValueError(f"features must have shape (n_events, n_features), found {x.shape}")
    if finite and not np.isfinite(x).all():
        bad = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"feature {bad[1]} of event {bad[0]} is {x[tuple(bad)]}: features must be finite")
    return x


@dataclass(frozen=True)
class Preparation:
    """How the features of a search are prepared: what of it is not learned from events.

    limits_from_sidebands: no SR event enters. discrete: the features that take few values. bounds: of those that have
    some; a discrete one needs none.
    """

    limits_from_sidebands: bool = False
    discrete: frozenset[str] = frozenset()
    bounds: Mapping[str, Bounds] = field(default_factory=dict)

    def scaler(self, events: Events, in_sidebands: BoolArray) -> LogitScaler:
        """The `LogitScaler` fitted to events of one sample.

        in_sidebands: (n_events,). Raises `AnalysisError` for values that are not finite or beyond a bound, and for a
        feature that is constant in the sidebands.
        """
        features, names = events.features, events.names
        for name, values, inside in zip(names, features.T, features[in_sidebands].T, strict=True):
            if not np.isfinite(values).all():
                raise AnalysisError(
                    f"feature {name}: {(~np.isfinite(values)).sum()} values are not finite; mend the table"
                )
            largest = np.abs(values).max(initial=0.0)
            if largest > LARGEST:
                raise AnalysisError(
                    f"feature {name}: values up to {largest:.3g} are too large for single precision, with which models "
                    "are trained; rescale it or leave it out",
                    setting="set",
                )
            if inside.size == 0 or inside.min() == inside.max():
                content = f"{inside[0]:g} in every event" if inside.size else "no event"
                raise AnalysisError(
                    f"feature {name} is constant in the sidebands ({content}); leave it out", setting="set"
                )
            require_within(name, values, self.bounds.get(name, (None, None)))
        lattices = {index: np.unique(features[:, index]) for index, name in enumerate(names) if name in self.discrete}
        bounds = {index: self.bounds[name] for index, name in enumerate(names) if name in self.bounds}
        scaler = LogitScaler(lattices, {index: ends for index, ends in bounds.items() if index not in lattices})
        spread = scaler.spread(features, np.random.default_rng(0))  # their distribution is all that is taken from them
        return scaler.fit(spread, in_sidebands, self.limits_from_sidebands)


def require_within(name: str, values: FloatArray, bounds: Bounds) -> None:
    """Raise `AnalysisError` where a value of a feature lies beyond its bounds. values: (n_events,)."""
    lowest, highest = bounds
    beyond = np.zeros(len(values), dtype=bool)
    if lowest is not None:
        beyond |= values < lowest
    if highest is not None:
        beyond |= values > highest
    if beyond.any():
        raise AnalysisError(
            f"feature {name}: {beyond.sum()} values lie beyond its bounds, first {values[np.argmax(beyond)]:g}; "
            "correct the bounds in features.define or the table",
            setting="define",
        )
