"""The windows of a mass scan: signal regions that slide over the mass, each with its sidebands.

A signal region (SR) is some standard deviations of the mass resolution wide, and each begins a share of its width
after the one before. Events of a known resonance are no background: the sidebands of a window end where one begins,
unless its SR overlaps it. So that a known resonance is not in the sidebands of its own test, as one wider than an SR
is, it has a window of its own, its range for the SR, after those that slide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, field_validator, model_validator

from dimuon.arrays import FloatArray
from dimuon.errors import AnalysisError
from dimuon.regions import MassWindow
from dimuon.settings import Positive, Section

MIN_SIDEBAND = 1.0  # least length of a sideband, in widths of the SR
OWN_SIDEBAND = 0.5  # the same for a known resonance's own window, whose SR is wider than what it holds
REACH = 0.5 + MIN_SIDEBAND  # from the middle of a window to its nearest end, in widths
MAX_WINDOWS = 10_000
GRID = 4001  # masses at which the resolution is looked at

Span = Annotated[list[float], Field(min_length=2, max_length=2)]  # low, high
Length = Annotated[float, Field(gt=0)]


class ScanSettings(Section):
    """The mass scan (`python -m dimuon scan`): the whole search in windows that slide over the mass."""

    range: Span  # in the unit of the mass
    # standard deviation of the mass: a share of it (0.015), a formula ("0.01 * mass + 5e-5 * mass**2"), or measured
    # points [[mass, sigma], ...] with straight lines between them
    resolution: Length | str | Annotated[list[Span], Field(min_length=1)]
    width: Length = 4.0  # of the SR, in resolutions: 95 % of a narrow resonance in its middle
    step: Length = 0.5  # from one window to the next, in widths
    # on either side, in widths, less where the range or a known resonance ends them; or "whole": all of the range
    sidebands: Annotated[float, Field(ge=MIN_SIDEBAND)] | Literal["whole"] = 3.0
    known: dict[str, Span] = {}  # {name: [low, high]}: resonances; where none of the SR is, sidebands end at them
    mask: list[str] = []  # names of `known` whose windows are left out
    min_events: Positive = 25  # in each sideband, and expected from both in the SR; a window with fewer is skipped
    methods: Annotated[list[Literal["classical", "learned"]], Field(min_length=1)] = ["classical"]
    # how the learned scan gets the background of a window
    mode: Literal["retrain", "fine_tune", "one_model", "sigma"] = "retrain"
    tuning_epochs: Positive = 20  # of the mode fine_tune, on the sidebands of each window
    family: Literal["polynomial", "bernstein", "exponential"] = "polynomial"  # of the fit to the sidebands
    degree: Annotated[int, Field(ge=1, le=9)] = 3
    choice: Literal["f_test", "fixed"] = "f_test"  # the degree by an F-test up to the one given, or as given
    binnings: Annotated[list[Positive], Field(min_length=1)] = [4]  # bins over the SR; the largest Z0 of all counts
    toys: Annotated[int, Field(ge=0)] = 1000  # background-only spectra through the classical scan
    nulls: Annotated[int, Field(ge=0)] = 0  # background-only datasets through all methods

    @field_validator("range")
    @classmethod
    def _rising(cls, value: list[float]) -> list[float]:
        if not value[0] < value[1]:
            raise ValueError("the range must rise")
        return value

    @field_validator("known")
    @classmethod
    def _spans_rise(cls, value: dict[str, list[float]]) -> dict[str, list[float]]:
        for name, (low, high) in value.items():
            if not low < high:
                raise ValueError(f"the range of {name} must rise")
        return value

    @field_validator("binnings")
    @classmethod
    def _each_once(cls, value: list[int]) -> list[int]:
        if len({*value}) < len(value):
            raise ValueError("name each once")
        return value

    @model_validator(mode="after")
    def _can_be_laid_out(self) -> "ScanSettings":
        if unknown := [name for name in self.mask if name not in self.known]:
            known = ", ".join(self.known) or "nothing"
            raise ValueError(f"mask names {unknown[0]!r}, of which known says no range; known has {known}")
        scan_windows(self)
        return self

    def resolution_at(self, mass: ArrayLike) -> FloatArray:
        """(n,) standard deviation of the mass. mass: (n,). Raises ValueError for a formula that cannot be evaluated."""
        at = np.asarray(mass, dtype=float)
        if isinstance(self.resolution, str):
            from dimuon.data import formulas  # numexpr, which no other section needs

            if wrong := [name for name in formulas.names_in(self.resolution) if name != "mass"]:
                raise ValueError(f"resolution = {self.resolution!r}: {wrong[0]} is not known here; it is of mass alone")
            return np.asarray(formulas.evaluate(f"0 * mass + ({self.resolution})", {"mass": at}), dtype=float)
        if isinstance(self.resolution, list):
            points = np.array(sorted(self.resolution))
            between: FloatArray = np.interp(at, points[:, 0], points[:, 1])
            return between
        return self.resolution * at

    def width_at(self, mass: ArrayLike) -> FloatArray:
        """(n,) width of an SR with its middle at each mass. mass: (n,)."""
        return self.width * self.resolution_at(mass)

    def binnings_of(self, placed: "ScanWindow") -> list[int]:
        """Bins over the SR of a window: as fine as those of one that slides, in a wider SR more of them."""
        if placed.of is None:
            return self.binnings
        width = placed.window.sr_high - placed.window.sr_low
        ratio = width / float(self.width_at([placed.middle])[0])
        return sorted({max(1, round(n * ratio)) for n in self.binnings})


@dataclass(frozen=True)
class ScanWindow:
    """One window of a scan.

    known: resonances that its SR overlaps. skipped: why it is not searched; None: it is. of: the known resonance whose
    own window it is; None: it slides.
    """

    window: MassWindow
    known: tuple[str, ...] = ()
    skipped: str | None = None
    of: str | None = None

    @property
    def label(self) -> str:
        """Its SR in words, by which it is known: "9-10.6"."""
        return self.window.label

    @property
    def middle(self) -> float:
        """The middle of the SR, in the unit of the mass."""
        return (self.window.sr_low + self.window.sr_high) / 2


def scan_windows(settings: ScanSettings, mass: ArrayLike | None = None) -> list[ScanWindow]:
    """All windows of a scan, those that cannot be searched with the reason.

    From low to high mass those that slide, then those of the known resonances that lie in the range.

    mass: (n_events,) of the data, by which windows with too few events are known; None: that is not looked at. Raises
    `AnalysisError` where the resolution is not positive everywhere, the range is narrower than a window, or nothing is
    left to search.
    """
    placed = [_placed(settings, middle) for middle in _middles(settings)]
    placed += [_own(settings, name) for name, span in settings.known.items() if _is_inside(span, settings.range)]
    windows = [_skip_unfit(settings, each) for each in placed]
    if mass is not None:
        at = np.asarray(mass, dtype=float)
        windows = [each if each.skipped else _skip_empty(settings, each, at) for each in windows]
    if all(each.skipped for each in windows):
        first = windows[0]
        raise AnalysisError(
            f"no window is left of {len(windows)}, the first, {first.label}, as {first.skipped}; mask less, or widen "
            "the range (scan.range)",
            setting="range",
        )
    return windows


def searched(windows: Sequence[ScanWindow]) -> list[ScanWindow]:
    """The windows that are not skipped."""
    return [each for each in windows if each.skipped is None]


def _middles(settings: ScanSettings) -> list[float]:
    """The middles of the SRs: the low sideband of the first begins with the range and is as short as may be."""
    low, high = settings.range
    grid = np.linspace(low, high, GRID)
    sigma = settings.resolution_at(grid)
    if not (np.isfinite(sigma).all() and (sigma > 0).all()):
        bad = np.argmin(np.where(np.isfinite(sigma), sigma > 0, False))
        raise AnalysisError(
            f"the resolution is {sigma[bad]:g} at a mass of {grid[bad]:g}, where it must be positive; it must be so "
            f"everywhere between {low:g} and {high:g}",
            setting="resolution",
        )
    inside = grid - REACH * settings.width * sigma >= low
    if not inside.any():
        raise _narrow(settings)
    first = int(inside.argmax())
    middles, middle = list[float](), _crossing(settings, float(grid[first - 1]), float(grid[first]))
    while middle + REACH * (width := float(settings.width_at([middle])[0])) <= high + 1e-9 * (high - low):
        middles.append(middle)
        middle += settings.step * width
        if len(middles) > MAX_WINDOWS:
            raise AnalysisError(
                f"more than {MAX_WINDOWS:,} windows; take a larger step (scan.step = {settings.step:g}) or resolution",
                setting="step",
            )
    if not middles:
        raise _narrow(settings)
    return middles


def _narrow(settings: ScanSettings) -> AnalysisError:
    low, high = settings.range
    width = 2 * REACH * float(settings.width_at([low])[0])
    return AnalysisError(
        f"the range from {low:g} to {high:g} is narrower than a window: with the least sidebands one takes {width:.4g} "
        f"at {low:g}; widen it, or take a smaller width (scan.width)",
        setting="range",
    )


def _crossing(settings: ScanSettings, below: float, above: float) -> float:
    """The middle, between two masses, of the window whose least low sideband begins with the range."""
    for _ in range(60):
        middle = (below + above) / 2
        if middle - REACH * float(settings.width_at([middle])[0]) >= settings.range[0]:
            above = middle
        else:
            below = middle
    return above


def _is_inside(span: Sequence[float], whole: Sequence[float]) -> bool:
    return whole[0] < span[0] and span[1] < whole[1]


def _placed(settings: ScanSettings, middle: float) -> ScanWindow:
    """The window around a middle."""
    width = float(settings.width_at([middle])[0])
    return _around(settings, middle - width / 2, middle + width / 2)


def _own(settings: ScanSettings, name: str) -> ScanWindow:
    """The window of a known resonance."""
    return replace(_around(settings, *settings.known[name]), of=name)


def _around(settings: ScanSettings, sr_low: float, sr_high: float) -> ScanWindow:
    """The window with an SR, its sidebands ended where a known resonance is that its SR does not overlap."""
    (low, high), width = settings.range, sr_high - sr_low
    if settings.sidebands != "whole":
        low, high = max(low, sr_low - settings.sidebands * width), min(high, sr_high + settings.sidebands * width)
    overlapping = tuple(name for name, (first, last) in settings.known.items() if first < sr_high and last > sr_low)
    ends = [(low, high), *(span for name, span in settings.known.items() if name not in overlapping)]
    sb_low = max([low, *(last for _, last in ends if last <= sr_low)])
    sb_high = min([high, *(first for first, _ in ends if first >= sr_high)])
    least = 1e-9 * width  # a window has sidebands; that one is too short is said of it
    window = MassWindow(float(min(sb_low, sr_low - least)), sr_low, sr_high, float(max(sb_high, sr_high + least)))
    return ScanWindow(window, overlapping)


def _skip_unfit(settings: ScanSettings, placed: ScanWindow) -> ScanWindow:
    """The window, with the reason where it is masked or cannot be fitted."""
    if masked := [name for name in placed.known if name in settings.mask]:
        return replace(placed, skipped=f"it overlaps {masked[0]}, which is masked")
    window, least = placed.window, MIN_SIDEBAND if placed.of is None else OWN_SIDEBAND
    width = window.sr_high - window.sr_low
    for side, length in (("low", window.sr_low - window.sb_low), ("high", window.sb_high - window.sr_high)):
        if length < (least - 1e-6) * width:
            what = "a known resonance leaves" if placed.of is None else "the range or a known resonance leaves"
            reason = f"{what} {max(length / width, 0):.3g} widths of its {side} sideband"
            return replace(placed, skipped=f"{reason}, at least {least:g} is needed")
    try:
        for n_bins_sr in settings.binnings_of(placed):
            window.binning(n_bins_sr).require_determined(settings.degree)
    except AnalysisError as error:
        return replace(placed, skipped=str(error))
    return placed


def _skip_empty(settings: ScanSettings, placed: ScanWindow, mass: FloatArray) -> ScanWindow:
    """The window, with the reason where it holds too few events. mass: (n_events,).

    The SR itself is not looked at: whether a window is searched does not depend on what is found there.
    """
    window, asked = placed.window, f"{settings.min_events} are asked for"
    in_sidebands = {"low": int(window.in_sbl(mass).sum()), "high": int(window.in_sbh(mass).sum())}
    for side, n in in_sidebands.items():
        if n < settings.min_events:
            return replace(placed, skipped=f"{n} events are in its {side} sideband, {asked}")
    width = window.sr_high - window.sr_low
    expected = sum(in_sidebands.values()) * width / (window.sb_high - window.sb_low - width)
    if expected < settings.min_events:
        return replace(placed, skipped=f"its sidebands let {expected:.1f} events expect in the SR, {asked}")
    return placed
