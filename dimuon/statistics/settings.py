"""The settings of the test (paper, step 4)."""

from typing import Annotated, Literal

from pydantic import Field

from dimuon.settings import Fraction, Positive, Section

DIJET = ("dijet3", "dijet4", "ua2")  # their degrees are fixed
MOST_OF_DIJETS = 3
Rate = Annotated[float, Field(gt=0, le=1)]  # a false-positive rate


class Toys(Section):
    """Background-only pseudo-data of step 6; 0 leaves a study out."""

    local: Annotated[int, Field(ge=0)] = 100  # a working point with too few events for the asymptotic form
    scan: Annotated[int, Field(ge=0)] = 100  # of all working points at once: the look-elsewhere effect
    weights: Annotated[int, Field(ge=0)] = 300  # of the reweighted spectrum, by a bootstrap of the actual weights


class Peaks(Section):
    """The fit of peaks inside the SR, made where there is an excess."""

    max: Annotated[int, Field(ge=1, le=10)] = 5  # peaks looked for
    known: dict[str, Annotated[float, Field(gt=0)]] = {}  # {name: mass} to compare with; none: no comparison is made


class Significance(Section):
    """The bump hunt's test (paper, step 4)."""

    family: Literal["polynomial", "bernstein", "exponential", "dijet3", "dijet4", "ua2"] = "polynomial"
    degree: Annotated[int, Field(ge=1, le=9)] = 5
    # how the function is chosen: as given; ATLAS's ladder; an F-test up to degree; an envelope of many
    choice: Literal["fixed", "ladder", "f_test", "envelope"] = "fixed"
    penalty: Annotated[float, Field(ge=0)] = 1.0  # of the envelope, in -2 ln L for every coefficient
    # scale of the weights of the likelihood test: one for all sidebands, unbiased; one a bin as in the paper, which
    # claims too much on background alone (tests/benchmarks/likelihood.py)
    weight_scales: Literal["pooled", "per_bin"] = "pooled"
    n_bins_sr: Positive = 11
    n_working_points: Annotated[int, Field(ge=2)] = 25
    fpr_min: Fraction = 1e-3
    figure_fprs: Annotated[list[Rate], Field(min_length=1)] = [1.0, 0.25, 0.1, 0.05, 0.01, 0.005, 0.001]
    degrees: list[Annotated[int, Field(ge=1, le=9)]] = [3, 5, 7]  # variations of the classifier's curve (Fig. 4)
    binnings: list[Positive] = [7, 11, 15]
    toys: Toys = Toys()
    peaks: Peaks = Peaks()

    @property
    def highest_degree(self) -> int:
        """The most that a background function has of coefficients beyond the normalisation."""
        of_dijets = self.choice == "ladder" or (self.choice == "fixed" and self.family in DIJET)
        return MOST_OF_DIJETS if of_dijets else self.degree
