"""How a table of numbers is laid out: what it depends on, what it measures, with which errors.

The one place that says it, and by rule rather than by table, so that a new figure is laid out without a line here:
`<x>_low` and `<x>_high` without a column `<x>` are the bins of an axis, with one they are an interval around it;
`<x>_err` is the error of `<x>`; texts and the columns of `KEYS` say which of several measurements a row is; what is
left is measured. What stays the same in all rows becomes a qualifier. The other keys become qualifiers of columns side
by side where all share an axis, or tables of their own where each has another one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from dimuon import columns

# numbers that say which measurement a row is, rather than being measured
KEYS = frozenset(
    ("baseline", "degree", "draw", "epoch", "experiment", "fold", "fpr", "ip3d_cut", "member", "n_bins_sr")
    + ("n_injected", "n_members", "pt_cut", "repeat", "row", "seed", "run", "luminosityBlock", "event")
)
# diagnostics of the fits behind a number: in CSV and JSON, not among the numbers of a figure
DETAILS = frozenset(
    ("n_sidebands", "chi2", "ndf", "p_chi2", "p_saturated", "at_boundary", "n_toys", "toys_bound", "sculpted")
)
HEADERS = {  # where the meaning of a column is not how a measurement is called
    "n_obs": "Events observed",
    "n_bkg": "Background expected from the sideband fit",
    "n_data": "Real events",
    "n_sampled": "Sampled events, scaled to the real ones",
    "density": "Probability density",
    "events": "Events",
    "auc": "AUC of a classifier of sampled against real events",
    "ks": "Kolmogorov-Smirnov distance of",
    "auc_loss": "AUC lost when the feature is shuffled",
    "score_change": "Change of the score when the feature is shuffled",
    "n_real": "Real events",
    "z0": "Local significance Z0",
    "p0": "Local p-value p0",
    "cut": "Cut value",
    "fpr": "False-positive rate",
    "train": "Classifier trained on",
    "test": "Applied to",
    "variable": "Cut on",
    "feature": "Feature",
    "region": "Region",
    "charge": "Charge",
    "baseline": "The analysis's own background function",
    "family": "Background function",
    "degree": "Degree",
    "n_bins_sr": "Mass bins over the SR",
}
VALUES = {"SBL": "low sideband", "SR": "signal region", "SBH": "high sideband"}  # of keys, in words
MISSING_KEYS = {"fpr": "before the cut on the classifier and the anti-isolation"}  # what a key that is absent means
FLAGS = {True: "yes", False: "no"}
NOT_UNITS = ("text", "flag", "of the variable")
AXIS_KEY = "feature"  # says what the bins of a row are of: each value has an axis, and so a table, of its own
MAX_COLUMNS = 90  # more side by side are told apart by independent variables instead
MISSING = "-"  # HEPData's mark of a value that does not exist

Value = float | int | str


@dataclass(frozen=True)
class Term:
    """What something is called, and its unit ("" for a pure number)."""

    name: str
    unit: str = ""


@dataclass(frozen=True)
class Terms:
    """What the names of an analysis stand for.

    axis: of the columns bin_low and bin_high, None where nobody knows. mass: of the mass. features: by column. values:
    {column: {value: in words}} of keys, `VALUES` where a column is not in it.
    """

    mass: Term
    features: Mapping[str, Term]
    axis: Term | None = None
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of_axis(self, stem: str, constants: Mapping[str, Any]) -> Term:
        """What the bins of `<stem>_low`, `<stem>_high` are of. constants: keys that are the same in all rows."""
        if stem == "mass":
            return self.mass
        feature = constants.get("feature")
        if feature is not None:
            return self.features.get(str(feature), Term(str(feature)))
        return self.axis or Term(stem)

    def of_column(self, name: str) -> Term:
        """What a column is called."""
        if name in self.features:
            return self.features[name]
        before, _, feature = name.partition("_")
        if before in HEADERS and feature in self.features:  # "ks_dimu_pt"
            return Term(f"{HEADERS[before]} {self.features[feature].name}")
        known = columns.find(name)
        unit = known.unit if known and known.unit not in NOT_UNITS else ""
        return Term(HEADERS.get(name) or (known.meaning if known else name), unit)

    def of_value(self, column: str, value: Any) -> str:
        """A value of a key, as a qualifier says it."""
        if pd.isna(value):
            return MISSING_KEYS.get(column, MISSING)
        if isinstance(value, (bool, np.bool_)):
            return FLAGS[bool(value)]
        if isinstance(value, str):
            named = self.features.get(value)
            return self.values.get(column, VALUES).get(value) or (named.name if named else value)
        return f"{value:.6g}"


@dataclass(frozen=True)
class Uncertainty:
    """Errors of a quantity. minus, plus: one a row, None where there is none."""

    label: str
    minus: Sequence[float | None]
    plus: Sequence[float | None]

    @property
    def symmetric(self) -> bool:
        """Whether both sides are the same throughout."""
        return list(self.minus) == list(self.plus)


@dataclass(frozen=True)
class Independent:
    """What a table depends on. values: one a row, or (low, high) of a bin."""

    term: Term
    values: Sequence[Value] | Sequence[tuple[float, float]]
    binned: bool = False


@dataclass(frozen=True)
class Dependent:
    """What is measured. values: one a row, `MISSING` where there is none. qualifiers: what tells it from its like."""

    term: Term
    values: Sequence[Value]
    uncertainties: Sequence[Uncertainty] = ()
    qualifiers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """A table laid out. part: what tells it from the other tables of the same numbers, "" where it is alone."""

    part: str
    independents: Sequence[Independent]
    dependents: Sequence[Dependent]


def layouts(table: pd.DataFrame, terms: Terms, axis: str | None = None, measured: Collection[str] = ()) -> list[Layout]:
    """The numbers of a table, laid out: several where parts of it have axes of their own.

    axis: the column that it depends on, and measured: those that are measured, where the rules would say otherwise.
    """
    return _Table(table.reset_index(drop=True), terms, axis=axis, measured=frozenset(measured)).layouts()


@dataclass(frozen=True, eq=False)
class _Table:
    """A table, or a part of one; see `layouts`."""

    frame: pd.DataFrame
    terms: Terms
    part: str = ""
    axis: str | None = None
    measured: frozenset[str] = frozenset()

    def layouts(self) -> list[Layout]:
        if self._bins and AXIS_KEY in self._keys and AXIS_KEY not in self._constants:
            return [layout for group in self._groups([AXIS_KEY]) for layout in self._of(AXIS_KEY, group).layouts()]
        if len(self._groups(self._varying)) * len(self._quantities) > MAX_COLUMNS:
            return [self._long()]
        together = self._side_by_side()
        if together is not None:
            return [together]
        for key in self._varying:
            parts = [self._of(key, group) for group in self._groups([key])]
            laid = [part._side_by_side() for part in parts]
            if all(layout is not None for layout in laid) and all(len(part.frame) > 1 for part in parts):
                return [layout for layout in laid if layout is not None]
        return [self._long()]

    def _of(self, key: str, group: pd.DataFrame) -> "_Table":
        name = str(group[key].iloc[0])
        return replace(self, frame=group.reset_index(drop=True), part=f"{self.part} {name}".strip())

    # what the columns are

    @cached_property
    def _names(self) -> list[str]:
        return [str(name) for name in self.frame.columns]

    @cached_property
    def _stems(self) -> list[str]:
        """x of every pair x_low, x_high."""
        ends = [name.removesuffix("_low") for name in self._names if name.endswith("_low")]
        return [stem for stem in ends if f"{stem}_high" in self.frame]

    @cached_property
    def _bins(self) -> list[str]:
        return [stem for stem in self._stems if stem not in self.frame]

    @cached_property
    def _keys(self) -> list[str]:
        named = [name for name in self._names if name not in self.measured]
        return [name for name in named if name in KEYS or _is_text(self.frame[name])]

    @cached_property
    def _constants(self) -> dict[str, Any]:
        """Keys that have one value in all rows."""
        return {name: self.frame[name].iloc[0] for name in self._keys if self.frame[name].nunique(dropna=False) == 1}

    @cached_property
    def _varying(self) -> list[str]:
        """Keys that differ between rows, without the axis and what the axis determines."""
        axis = self._axis
        free = [name for name in self._keys if name not in self._constants and name not in axis]
        if not axis:
            return free
        of_axis = self.frame.groupby(axis, dropna=False)
        return [name for name in free if of_axis[name].nunique(dropna=False).max() > 1]

    @cached_property
    def _axis(self) -> list[str]:
        """The columns across which the numbers are drawn: the ends of a bin, or the key of most values."""
        if self.axis:
            return [self.axis]
        if self._bins:
            return [f"{self._bins[0]}_low", f"{self._bins[0]}_high"]
        varying = [name for name in self._keys if name not in self._constants]
        ranks = {name: (_is_number(self.frame[name]), self.frame[name].nunique(dropna=False)) for name in varying}
        return [max(varying, key=lambda name: ranks[name])] if varying else []

    @cached_property
    def _quantities(self) -> list[str]:
        """What is measured and has a value somewhere, errors aside."""
        ends = {f"{stem}_{end}" for stem in self._stems for end in ("low", "high")}
        errors = {name for name in self._names if name.endswith("_err") and name.removesuffix("_err") in self.frame}
        left = {*ends, *errors, *self._keys, *DETAILS}
        return [name for name in self._names if name not in left and self.frame[name].notna().any()]

    @cached_property
    def _attributes(self) -> list[str]:
        """Keys that the axis determines, such as the region of a bin."""
        return [name for name in self._keys if name not in {*self._constants, *self._varying, *self._axis}]

    # how they are laid out

    def _side_by_side(self) -> Layout | None:
        """Each combination of the keys as columns of their own; None where they do not share an axis."""
        keys, axis = self._varying, self._axis
        groups = self._groups(keys)
        if not axis:
            return self._long() if len(groups) == 1 else None
        if any(group.duplicated(axis).any() for group in groups):
            return None
        longest = max(groups, key=len).reset_index(drop=True)
        index = _points(longest, axis)
        aligned = []
        for group in groups:
            own = group.set_axis(_points(group, axis))
            if not own.index.isin(index).all():
                return None
            aligned.append(own.reindex(index).reset_index(drop=True))
        dependents = [self._text(name, longest) for name in self._attributes]
        for group, values in zip(groups, aligned, strict=True):
            qualifiers = self._qualifiers | self._named(group, keys)
            measured = [name for name in self._quantities if values[name].notna().any()]
            dependents += [self._dependent(name, values, qualifiers) for name in measured]
        return Layout(self.part, self._independents(longest, axis), dependents)

    def _long(self) -> Layout:
        """One row after the other, all keys in columns of their own."""
        keys = [name for name in self._keys if name not in self._constants]
        bins = [f"{stem}_{end}" for stem in self._bins[:1] for end in ("low", "high")]
        independents = self._independents(self.frame, [*bins, *(key for key in keys if key not in bins)])
        if not independents:
            independents = [Independent(Term("row"), list(range(len(self.frame))))]
        dependents = [self._dependent(name, self.frame, self._qualifiers) for name in self._quantities]
        return Layout(self.part, independents, dependents)

    def _groups(self, keys: list[str]) -> list[pd.DataFrame]:
        if not keys:
            return [self.frame]
        return [group for _, group in self.frame.groupby(keys, sort=False, dropna=False)]

    @cached_property
    def _qualifiers(self) -> dict[str, str]:
        return self._named(self.frame, self._constants)

    def _named(self, rows: pd.DataFrame, keys: Iterable[str]) -> dict[str, str]:
        return {self._term(key).name: self.terms.of_value(key, rows[key].iloc[0]) for key in keys}

    def _term(self, name: str) -> Term:
        """What a column is called: "test" is a sample beside "train", and a kind of closure test without it."""
        return Term("Closure test") if name == "test" and "train" not in self.frame else self.terms.of_column(name)

    def _independents(self, rows: pd.DataFrame, names: Sequence[str]) -> list[Independent]:
        variables, left = list[Independent](), list(names)
        if self._bins and left[:2] == [f"{self._bins[0]}_low", f"{self._bins[0]}_high"]:
            low, high = (rows[name].astype(float).tolist() for name in left[:2])
            term = self.terms.of_axis(self._bins[0], self._constants)
            variables.append(Independent(term, list(zip(low, high, strict=True)), binned=True))
            left = left[2:]
        for name in left:
            number = _is_number(self.frame[name])
            values = [_value(item) if number else self.terms.of_value(name, item) for item in rows[name]]
            variables.append(Independent(self._term(name), values))
        return variables

    def _text(self, name: str, rows: pd.DataFrame) -> Dependent:
        values = [self.terms.of_value(name, item) for item in rows[name]]
        return Dependent(self._term(name), values, qualifiers=self._qualifiers)

    def _dependent(self, name: str, rows: pd.DataFrame, qualifiers: Mapping[str, str]) -> Dependent:
        words = [self.terms.of_value(name, item) if isinstance(item, str) else _value(item) for item in rows[name]]
        return Dependent(self._term(name), words, self._uncertainties(name, rows), qualifiers)

    def _uncertainties(self, name: str, rows: pd.DataFrame) -> list[Uncertainty]:
        """Those that the table has: an interval around a value, or a standard error."""
        if name in self._stems:
            value, low, high = (rows[each].astype(float) for each in (name, f"{name}_low", f"{name}_high"))
            return [Uncertainty(_label(f"{name}_low"), _errors(value - low), _errors(high - value))]
        if f"{name}_err" in rows:
            error = _errors(rows[f"{name}_err"].astype(float))
            return [Uncertainty(_label(f"{name}_err"), error, error)]
        return []


def _points(rows: pd.DataFrame, axis: Sequence[str]) -> "pd.Index[Any]":
    """Where rows stand on an axis of one or two columns."""
    return pd.Index([tuple(point) for point in rows[list(axis)].itertuples(index=False)], tupleize_cols=False)


def _is_text(column: "pd.Series[Any]") -> bool:
    """Words; flags among which some are missing are not."""
    return not pd.api.types.is_numeric_dtype(column) and not set(column.dropna().unique()) <= {True, False}


def _is_number(column: "pd.Series[Any]") -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _label(name: str) -> str:
    """What kind of error a column is: "68 % Clopper-Pearson interval", "standard error"."""
    known = columns.find(name)
    meaning = known.meaning if known else "standard error"
    return meaning.removeprefix("lower end of ").removeprefix("its ").removesuffix(f" of {name.removesuffix('_err')}")


def _value(item: Any) -> Value:
    """A number as Python's own, a flag in words, `MISSING` for what is not finite."""
    if pd.isna(item) or (isinstance(item, (float, np.floating)) and not np.isfinite(item)):
        return MISSING
    if isinstance(item, (bool, np.bool_)):
        return FLAGS[bool(item)]
    plain: Value = item.item() if isinstance(item, np.generic) else item
    return plain


def _errors(values: "pd.Series[float]") -> list[float | None]:
    """Lengths of errors, not below zero (an interval may end at its value, to rounding)."""
    return [max(float(value), 0.0) if np.isfinite(value) else None for value in values]
