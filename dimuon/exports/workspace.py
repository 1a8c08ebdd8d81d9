"""The test on one mass spectrum as a pyhf workspace: sums of templates, one Poisson count for each bin.

The background polynomial is linear in its coefficients, so each Bernstein polynomial of its degree is a sample with a
normfactor of its own; the signal is one more sample in the SR, which is a single bin. A bin of weighted events is a
scaled Poisson count (`dimuon.statistics.spectra`): data and templates are divided by its scale, which leaves q0 as it
is. The one thing that templates do not know is the limit of `dimuon.statistics.families.Polynomial`, whose expected
count is held at or above zero in every bin. Where that limit is touched, templates with free coefficients may go below
zero, to a likelihood without a maximum: the coefficients are kept from being negative instead, and where that changes
q0 `Agreement` says so.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.errors import AnalysisError
from dimuon.records import Record
from dimuon.statistics.families import Bernstein, Family, LinearFamily
from dimuon.statistics.likelihood_ratio import free_and_null, likelihood_ratio
from dimuon.statistics.poisson_fits import Fits
from dimuon.statistics.spectra import Spectra

SIDEBANDS, SIGNAL_REGION = "sidebands", "signal_region"  # the channels
POI = "mu"
ROOM = 10.0  # a parameter may become so many times as large as the largest of the fits to the data
TOLERANCE = 0.01  # relative, of q0
MAX_STEPS = 1000  # of pyhf's minimiser
NEGLIGIBLE = 1e-3  # a q0 below is zero to either minimiser


@dataclass(frozen=True)
class Agreement(Record):
    """How a workspace and this package agree on one spectrum.

    q0: of this package. q0_pyhf: of pyhf, NaN where its fit fails. agrees: within `TOLERANCE`. held_at_zero: bins whose
    expected background this package holds at zero, in either fit. non_negative: no coefficient may be negative. reason:
    why q0 differs, where it does. signal_unit: events (sum of weights) that mu = 1 stands for, the background expected
    in the SR.
    """

    q0: float
    q0_pyhf: float
    agrees: bool
    held_at_zero: int
    non_negative: bool
    reason: str | None
    signal_unit: float


@dataclass(frozen=True, eq=False)
class SpectrumTest:
    """One spectrum with the function that its background has.

    spectrum: of length one. non_negative: no coefficient of the Bernstein polynomials may be negative, as is so of the
    family `Bernstein`.
    """

    spectrum: Spectra
    family: Family
    non_negative: bool = False

    def __post_init__(self) -> None:
        if len(self.spectrum) != 1:
            raise ValueError(f"one spectrum is asked for, found {len(self.spectrum)}")
        if not isinstance(self.family, LinearFamily):
            raise AnalysisError(
                f"the background function {self.family.name} is not linear in its coefficients, and a workspace holds "
                "sums of templates; polynomial and bernstein can be exported",
                setting="family",
            )

    @classmethod
    def of(cls, spectrum: Spectra, family: Family) -> Self:
        """The test that pyhf can do: with free coefficients, unless the background of a bin is held at zero.

        Then they may not be negative, which keeps the likelihood finite, unless free ones alone give the same q0.
        """
        free = cls(spectrum, family, isinstance(family, Bernstein))
        agreement = free.agreement()
        if not agreement.held_at_zero:
            return free
        bounded = replace(free, non_negative=True)
        return free if agreement.agrees and not bounded.agreement().agrees else bounded

    def workspace(self) -> dict[str, Any]:
        """The workspace as JSON values, after version 1.0.0 of pyhf's schema."""
        scaled = (self.spectrum.counts / self.spectrum.scales)[0].tolist()
        templates, last = self._templates(), len(scaled) - 1
        signal = {"name": "signal", "data": [self.signal_unit / self.spectrum.scales[0, -1].item()]}
        in_sr = [signal | {"modifiers": [_normfactor(POI)]}, *_samples(templates[last:])]
        return {
            "channels": [
                {"name": SIDEBANDS, "samples": _samples(templates[:last])},
                {"name": SIGNAL_REGION, "samples": in_sr},
            ],
            "observations": [
                {"name": SIDEBANDS, "data": scaled[:last]},
                {"name": SIGNAL_REGION, "data": scaled[last:]},
            ],
            "measurements": [{"name": "discovery", "config": {"poi": POI, "parameters": self._parameters()}}],
            "version": "1.0.0",
        }

    def agreement(self) -> Agreement:
        """What pyhf says of the workspace beside what this package says of the spectrum."""
        ours, theirs = likelihood_ratio(self.spectrum, self.family).one(0).q0, pyhf_q0(self.workspace())
        near = max(ours, theirs) < NEGLIGIBLE or abs(theirs - ours) <= TOLERANCE * ours
        # of the family `Bernstein` the coefficients are held, and pyhf holds them, too
        fits = () if isinstance(self.family, Bernstein) else free_and_null(self.spectrum, self.family)
        held = max((int(each.at_boundary[0]) for each in fits), default=0)
        reason = (
            f"the background is held at zero in {held} bins, a limit that sums of templates do not have"
            + ("; here no coefficient may be negative instead" if self.non_negative else "")
            if held
            else "the minimiser of pyhf ends elsewhere"
        )
        why = None if near else reason
        return Agreement(ours, theirs, bool(near), held, self.non_negative, why, self.signal_unit)

    @property
    def signal_unit(self) -> float:
        """Events (sum of weights) that mu = 1 stands for: the background expected in the SR, 1 where there is none."""
        low, high = self.spectrum.low[-1:], self.spectrum.high[-1:]
        expected = self.family.expected(free_and_null(self.spectrum, self.family)[0].coefficients, low, high).item()
        return expected if expected > NEGLIGIBLE else 1.0

    def _templates(self) -> FloatArray:
        """(n_bins, k): each Bernstein polynomial, such that the sum of all is flat, with the events of the sidebands.

        Divided by the scales of the bins.
        """
        integrals, scales = self._bernstein(), self.spectrum.scales[0]
        unit = max(self.spectrum.counts[0, :-1].sum(), 1.0) / integrals[:-1].sum()
        return np.asarray(unit * integrals / scales[:, None])

    def _bernstein(self) -> FloatArray:
        """(n_bins, k) integrals of the Bernstein polynomials over the bins, in units of the bin width."""
        basis = Bernstein(self.family.bins, self.family.degree)
        flat = np.ones((1, basis.n_coefficients))
        return np.asarray(basis.jacobian(flat, self.spectrum.low, self.spectrum.high)[0])

    def _parameters(self) -> list[dict[str, Any]]:
        """Where the fits begin, and how far they may go: mu not below zero, and a coefficient where it may.

        They begin at the fit to the sidebands.
        """
        free, null = (self._coefficients(fits) for fits in free_and_null(self.spectrum, self.family))
        n_sig = max(self.spectrum.counts[0, -1].item() - self.signal_unit, 0.0) / self.signal_unit
        reach = ROOM * max(1.0, float(np.abs([free, null]).max()))
        lowest = 0.0 if self.non_negative else -reach
        background = [
            {"name": _name(j), "inits": [max(value, lowest)], "bounds": [[lowest, reach]]}
            for j, value in enumerate(free.tolist())
        ]
        return [{"name": POI, "inits": [n_sig], "bounds": [[0.0, ROOM * max(1.0, n_sig)]]}, *background]

    def _coefficients(self, fits: Fits) -> FloatArray:
        """(k,) normfactors that give the expected counts of a fit: exactly, as both bases span the same functions."""
        low, high, scales = self.spectrum.low, self.spectrum.high, self.spectrum.scales[0]
        expected = self.family.expected(fits.coefficients, low, high)[0] / scales
        return np.asarray(np.linalg.lstsq(self._templates(), expected, rcond=None)[0])


def pyhf_q0(content: dict[str, Any]) -> float:
    """The discovery test statistic that pyhf gives for a workspace, by SciPy's SLSQP; NaN where its fit fails.

    Needs pyhf, whose present backend stays what it is.
    """
    import pyhf

    before = pyhf.get_backend()
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(maxiter=MAX_STEPS))
    try:
        return _q0(content)
    finally:
        pyhf.set_backend(*before)


def _q0(content: dict[str, Any]) -> float:
    import pyhf

    with _quiet(logging.getLogger("pyhf")):
        workspace = pyhf.Workspace(content)  # checked against the schema
        model = workspace.model()
        settings = (model.config.suggested_init(), model.config.suggested_bounds(), model.config.suggested_fixed())
        try:
            with np.errstate(all="ignore"):  # on its way it may meet negative expectations
                return float(pyhf.infer.test_statistics.q0(0.0, workspace.data(model), model, *settings))
        except (pyhf.exceptions.FailedMinimization, ValueError):
            return float("nan")


@contextmanager
def _quiet(messages: logging.Logger) -> Iterator[None]:
    """Without the messages of a library."""
    level = messages.level
    messages.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        messages.setLevel(level)


def _samples(templates: FloatArray) -> list[dict[str, Any]]:
    """The samples of the background in some bins. templates: (n_bins, k)."""
    return [
        {"name": _name(j), "data": template.tolist(), "modifiers": [_normfactor(_name(j))]}
        for j, template in enumerate(templates.T)
    ]


def _name(j: int) -> str:
    return f"background_{j}"


def _normfactor(name: str) -> dict[str, Any]:
    return {"name": name, "type": "normfactor", "data": None}
