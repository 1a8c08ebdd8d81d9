"""Monotonic rational-quadratic splines (Durkan et al., arXiv:1906.04032), for arrays that have events as last axis.

Between +-`BOUND` a spline of equal numbers of bins in x and y, beyond it the identity. The numbers that a network
gives stand for the widths and heights of the bins (after a softmax) and for the slopes at the inner knots (after a
softplus), as in nflows. In training most of the time is the number of operations on small arrays, so there are few.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

BOUND = 8.0  # the splines act within +-8 standard deviations
SMALLEST = 1e-3  # share of a bin in the widths and heights; slope at a knot


class Bins(NamedTuple):
    """The bin of each event: its lower knot, width and height, slope on the mean and at both ends; (..., n_events)."""

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    slope: Tensor
    slope_low: Tensor
    slope_high: Tensor

    @property
    def bend(self) -> Tensor:
        """How far the slopes at the ends are from that on the mean."""
        return torch.add(self.slope_low + self.slope_high, self.slope, alpha=-2)


def forward(x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """(y, log dy/dx), shaped as x. x: (..., n_events); parameters: (..., 3 n_bins - 1, n_events)."""
    at = x.clamp(-BOUND, BOUND)
    bins = _bins(_knots(parameters), 0, at)
    t = (at - bins.x) / bins.width  # place in the bin, from 0 to 1
    other = 1 - t
    low, middle = bins.slope_low * other, bins.slope * t
    below = torch.addcmul(bins.slope, bins.bend, t * other)
    y = torch.addcmul(bins.y, bins.height, t * (low + middle) / below)
    rise = torch.addcmul(low * other, t, torch.addcmul(2 * bins.slope * other, bins.slope_high, t))
    derivative = rise * (bins.slope / below).square()
    beyond = x != at
    return torch.where(beyond, x, y), derivative.masked_fill(beyond, 1.0).log()


def inverse(y: Tensor, parameters: Tensor) -> Tensor:
    """The x of `forward`, in the precision of what is given: float64 keeps all digits where a spline is steep."""
    at = y.clamp(-BOUND, BOUND)
    bins = _bins(_knots(parameters), 1, at)
    # the root in the bin of a t^2 + b t + c = 0, which `forward` makes of y
    up = at - bins.y
    bent = up * bins.bend
    a, b = bent + bins.height * (bins.slope - bins.slope_low), bins.height * bins.slope_low - bent
    c = -bins.slope * up
    t = 2 * c / (-b - (b * b - 4 * a * c).clamp(min=0).sqrt())  # below zero by rounding alone
    return torch.where(y == at, torch.addcmul(bins.x, bins.width, t), y)


def _knots(parameters: Tensor) -> Tensor:
    """x, y and slope of the knots: (..., 3, n_bins + 1, n_events)."""
    n_bins = (parameters.shape[-2] + 1) // 3
    shares, slopes = torch.split(parameters, [2 * n_bins, n_bins - 1], -2)
    shares = shares.reshape(*shares.shape[:-2], 2, n_bins, -1).softmax(dim=-2)
    # from shares to knots: -BOUND + 2 BOUND sum_(j < i) (SMALLEST + (1 - n_bins SMALLEST) share_j)
    sums = torch.ones(n_bins + 1, n_bins, dtype=shares.dtype, device=shares.device).tril(-1)
    even = torch.arange(n_bins + 1, dtype=shares.dtype, device=shares.device)[:, None]
    places = torch.matmul(2 * BOUND * (1 - n_bins * SMALLEST) * sums, shares) + (2 * BOUND * SMALLEST * even - BOUND)
    slopes = F.pad(F.softplus(slopes) + SMALLEST, (0, 0, 1, 1), value=1.0)
    return torch.cat([places, slopes[..., None, :, :]], dim=-3)


def _bins(knots: Tensor, axis: int, at: Tensor) -> Bins:
    """The bins that hold values. axis: 0 where they are values of x, 1 where they are of y; at: (..., n_events)."""
    inner = knots[..., axis, 1:-1, :].detach()
    lower = (at.detach()[..., None, :] >= inner).sum(dim=-2, keepdim=True)
    ends = torch.cat([lower, lower + 1], dim=-2)[..., None, :, :].expand(*knots.shape[:-2], 2, -1)
    low, high = knots.gather(-2, ends).unbind(-2)
    x, y, slope_low = low.unbind(-2)
    width, height, _ = (high - low).unbind(-2)
    return Bins(x, y, width, height, height / width, slope_low, high[..., 2, :])
