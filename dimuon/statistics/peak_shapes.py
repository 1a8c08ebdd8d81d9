"""The forms that a peak in a mass spectrum may have: Gaussian, Crystal Ball, pseudo-Voigt."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from dimuon.arrays import FloatArray


@dataclass(frozen=True)
class Shape:
    """The form of a peak: functions of z = (mass - its mass) / its width, and of parameters of a tail.

    cdf, pdf: of (z, *tail), normalised. start, low, high: of each parameter of the tail.
    """

    name: str
    cdf: Callable[..., FloatArray]
    pdf: Callable[..., FloatArray]
    start: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


def _gaussian(z: FloatArray) -> FloatArray:
    density: FloatArray = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return density


TAIL_POWER = 2.0  # of the tail: the data hardly determine it beside the place where it begins


def _tail(alpha: float) -> float:
    """The integral of the tail of a Crystal Ball whose Gaussian has the height 1."""
    return TAIL_POWER / alpha / (TAIL_POWER - 1) * float(np.exp(-(alpha**2) / 2))


def _crystal_ball(z: FloatArray, alpha: float) -> FloatArray:
    norm = _tail(alpha) + np.sqrt(2 * np.pi) * ndtr(alpha)
    beyond = 1 - alpha / TAIL_POWER * (np.minimum(z, -alpha) + alpha)
    tail = np.exp(-(alpha**2) / 2) * beyond**-TAIL_POWER
    density: FloatArray = np.where(z > -alpha, np.exp(-(z**2) / 2), tail) / norm
    return density


def _crystal_ball_cdf(z: FloatArray, alpha: float) -> FloatArray:
    tail = _tail(alpha) * (1 - alpha / TAIL_POWER * (np.minimum(z, -alpha) + alpha)) ** (1 - TAIL_POWER)
    core = np.sqrt(2 * np.pi) * (ndtr(np.maximum(z, -alpha)) - ndtr(-alpha))
    below: FloatArray = (tail + core) / (_tail(alpha) + np.sqrt(2 * np.pi) * ndtr(alpha))
    return below


HALF = float(np.sqrt(2 * np.log(2)))  # half of the full width at half maximum of a Gaussian, in standard deviations


def _pseudo_voigt(z: FloatArray, share: float) -> FloatArray:
    density: FloatArray = share * HALF / (np.pi * (z**2 + HALF**2)) + (1 - share) * _gaussian(z)
    return density


def _pseudo_voigt_cdf(z: FloatArray, share: float) -> FloatArray:
    below: FloatArray = share * (0.5 + np.arctan(z / HALF) / np.pi) + (1 - share) * ndtr(z)
    return below


GAUSSIAN = Shape("gaussian", ndtr, _gaussian)
# a tail that begins nearer than half a width is no tail, beyond five widths it holds no event
CRYSTAL_BALL = Shape("crystal_ball", _crystal_ball_cdf, _crystal_ball, (1.5,), (0.5,), (5.0,))
PSEUDO_VOIGT = Shape("pseudo_voigt", _pseudo_voigt_cdf, _pseudo_voigt, (0.5,), (0.0,), (1.0,))
SHAPES = {shape.name: shape for shape in (GAUSSIAN, CRYSTAL_BALL, PSEUDO_VOIGT)}
