"""What an analysis says of its data: the one place where exports take names, units and origin from."""

import re
from collections.abc import Collection

from dimuon.bumphunt.result import Statistic
from dimuon.exports.hepdata import Statement
from dimuon.exports.layout import Term, Terms
from dimuon.figures.p_value_axes import variable_label
from dimuon.origin import Origin
from dimuon.workflow import products
from dimuon.workflow.config import Config
from dimuon.workflow.products import Product

SCORE = Term("Mean classifier score")
OF_MASS = (  # files whose bins are of the mass, where no column says it
    products.SPECTRUM,
    products.MASS_HISTOGRAMS,
    products.EFFICIENCIES,
    products.SCULPTING,
)
IN_GEV = {"GeV": 1.0, "TeV": 1e3, "MeV": 1e-3}


def statement(origin: Origin) -> Statement:
    """What HEPData's columns say of events: all that their input states, and no more."""
    energy, luminosity = _quantity(origin.energy), _quantity(origin.luminosity)
    stated = {"SQRT(S)": energy, "Luminosity": luminosity}
    known = {"Data": (origin.label, "")} | {name: value for name, value in stated.items() if value is not None}
    in_gev = [energy[0] * IN_GEV[energy[1]]] if energy and isinstance(energy[0], float) and energy[1] in IN_GEV else []
    return Statement(known, in_gev)


def terms(config: Config, product: Product | None, variables: Collection[str] = ()) -> Terms:
    """What the names in the tables of an analysis stand for. product: that they were drawn from. variables: cut on."""
    data = config.dataset
    mass = Term(data.mass.label, data.mass.unit)
    features = {name: Term(feature.label, feature.unit) for name, feature in data.features.items()}
    own = {name: Term(data.feature(name).label, data.feature(name).unit) for name in config.features.names}
    values = {
        "variable": {name: variable_label(name, data) for name in variables},
        "statistic": {statistic.value: statistic.label for statistic in Statistic},
    }
    axis = mass if product in OF_MASS else SCORE if product is products.SCORES else None
    return Terms(mass, features | own, axis, values)


def summary(config: Config, model: str) -> str:
    """What was searched, in two sentences. model: the background function in words."""
    window, mass = config.window, config.mass_axis
    return (
        f"Numbers behind every figure of the analysis {config.name}. {mass.title} from {mass.value(window.sb_low)} to "
        f"{mass.value(window.sb_high)}, signal region from {mass.value(window.sr_low)} to "
        f"{mass.value(window.sr_high)}; background function: {model}, fitted to the sidebands."
    )


def _quantity(text: str) -> tuple[str | float, str] | None:
    """A number and its unit: (13.0, "TeV"); the text as it is where it is no such pair; None for nothing."""
    if number := re.fullmatch(r"([\d.]+)\s*(\S+)", text):
        return float(number[1]), number[2]
    return (text, "") if text else None
