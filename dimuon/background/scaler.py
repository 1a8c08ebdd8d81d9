"""How the features are prepared for the estimators: squeezed, stretched by a logit, scaled; with the exact inverse."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from dimuon.arrays import BoolArray, FloatArray
from dimuon.errors import AnalysisError

STRETCH = 1.2  # u = (x - min) / (1.2 max - min): room above the largest value
SQUEEZE = (0.02, 0.98)  # u is mapped linearly into this interval before the logit


class LogitScaler:
    """Feature preprocessing of the published analysis (slides, backup), with its exact inverse.

    Per feature: u = (x - min) / (1.2 max - min), v = 0.02 + 0.96 u, y = (logit v - mean) / std. min and max are those
    of the events it is fitted on, mean and std those of their sidebands. The published code adds a small number
    inside the logit that its inverse leaves out (round trip off by 1e-4); there is none here.

    A value outside the fitted range but with 0 < v < 1 is transformed like any other; beyond that no finite
    image exists and `transform` raises: nothing is clipped.
    """

    minimum: FloatArray
    span: FloatArray
    mean: FloatArray
    std: FloatArray

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
        low, high = SQUEEZE
        u = (expit(_table(y) * self.std + self.mean) - low) / (high - low)
        features: FloatArray = self.minimum + u * self.span
        return features

    def log_jacobian(self, x: ArrayLike) -> FloatArray:
        """log |det dy/dx|: (n_events,). x: (n_events, n_features), physical units."""
        low, high = SQUEEZE
        v = self._squeezed(_table(x))
        log_jacobian: FloatArray = np.sum(np.log((high - low) / (v * (1 - v) * self.span * self.std)), axis=1)
        return log_jacobian

    def state(self) -> dict[str, list[float]]:
        """The fitted numbers as lists, for saving."""
        return {name: getattr(self, name).tolist() for name in ("minimum", "span", "mean", "std")}

    @classmethod
    def from_state(cls, state: Mapping[str, list[float]]) -> "LogitScaler":
        """The scaler that `state()` described."""
        scaler = cls()
        for name in ("minimum", "span", "mean", "std"):
            setattr(scaler, name, np.asarray(state[name], dtype=float))
        return scaler

    def _squeezed(self, x: FloatArray) -> FloatArray:
        low, high = SQUEEZE
        return low + (high - low) * (x - self.minimum) / self.span


def _table(values: ArrayLike, finite: bool = True) -> FloatArray:
    x = np.asarray(values, dtype=float)
    if x.ndim != 2:
        raise ValueError(f"features must have shape (n_events, n_features), found {x.shape}")
    if finite and not np.isfinite(x).all():
        bad = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"feature {bad[1]} of event {bad[0]} is {x[tuple(bad)]}: features must be finite")
    return x


def fit_scaler(
    features: FloatArray, in_sidebands: BoolArray, names: Sequence[str], limits_from_sidebands: bool = False
) -> LogitScaler:
    """The `LogitScaler` fitted to events of one charge.

    features: (n_events, n_features), physical units; in_sidebands: (n_events,). limits_from_sidebands: no SR event
    enters. Raises `AnalysisError` for values that are not finite and for a feature that is constant in the sidebands.
    """
    features = np.asarray(features, dtype=float)
    for name, values, inside in zip(names, features.T, features[in_sidebands].T, strict=True):
        if not np.isfinite(values).all():
            raise AnalysisError(
                f"feature {name}: {(~np.isfinite(values)).sum()} values are not finite; mend the dimuon table"
            )
        if inside.size == 0 or inside.min() == inside.max():
            content = f"{inside[0]:g} in every event" if inside.size else "no event"
            raise AnalysisError(f"feature {name} is constant in the sidebands ({content}); leave it out", setting="set")
    return LogitScaler().fit(features, in_sidebands, limits_from_sidebands)
