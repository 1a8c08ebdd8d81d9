"""What an analysis says of its data: the one place where exports take names, units and origin from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dimuon.exports.layout import Term, Terms
from dimuon.features import FEATURES
from dimuon.figures.p_value_axes import variable_label
from dimuon.workflow import products, provenance
from dimuon.workflow.config import Config
from dimuon.workflow.products import Product

MASS = Term("Dimuon mass", "GeV")
SCORE = Term("Mean classifier score")
AXES: Mapping[Product, Term] = {  # what the bins of a file are of, where no column says it
    products.SPECTRUM: MASS,
    products.MASS_HISTOGRAMS: MASS,
    products.EFFICIENCIES: MASS,
    products.SCULPTING: MASS,
    products.SCORES: SCORE,
}


@dataclass(frozen=True)
class Origin:
    """Where the numbers come from. label: in words. qualifiers: {name: (value, unit)} of what the input states.

    energies: of the collisions, GeV; none where the input states none.
    """

    label: str
    qualifiers: Mapping[str, tuple[str | float, str]] = field(default_factory=dict)
    energies: tuple[float, ...] = ()


def origin(config: Config, kind: str) -> Origin:
    """The origin of numbers. kind: of `provenance.ORIGINS`."""
    label = provenance.ORIGIN_LABELS[kind]
    return Origin(label, {"Data": (label, "")})


def terms(config: Config, product: Product | None, variables: tuple[str, ...] = ()) -> Terms:
    """What the names in the tables of an analysis stand for. product: that they were drawn from. variables: cut on."""
    features = {name: Term(feature.label, feature.unit) for name, feature in FEATURES.items()}
    axis = AXES.get(product) if product is not None else None
    return Terms(MASS, features, axis, {"variable": {name: variable_label(name) for name in variables}})


def summary(config: Config, model: str) -> str:
    """What was searched, in two sentences. model: the background function in words."""
    window, unit = config.window, MASS.unit
    return (
        f"Numbers behind every figure of the analysis {config.name}. {MASS.name}: signal region {window.sr_low:g} to "
        f"{window.sr_high:g} {unit}, sidebands from {window.sb_low:g} and to {window.sb_high:g} {unit}; background "
        f"function: {model}, fitted to the sidebands."
    )
