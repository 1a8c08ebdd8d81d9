"""The score tables between step 5 and the steps after it, always matched to the dimuons that they score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from dimuon.arrays import FloatArray, IntArray
from dimuon.errors import UserError
from dimuon.workflow import products
from dimuon.workflow.provenance import Run, load_table

NAMES = ("row", "fold", "score", "score_std")

Rows = Sequence[int] | IntArray | pd.Series  # of the table that was scored


class EventScores(Protocol):
    """What an ensemble says of a table: `dimuon.classifiers.cross_validation.Scores`."""

    @property
    def fold(self) -> IntArray:
        """(n_events,), -1 where the models of all folds scored the event."""

    @property
    def members(self) -> FloatArray:
        """(n_events, n_members)."""

    @property
    def mean(self) -> FloatArray:
        """(n_events,), 0 to 1."""

    @property
    def spread(self) -> FloatArray:
        """(n_events,), standard deviation over the models."""


def path(run: Run, train: str, test: str) -> Path:
    """Where the scores by the classifiers of the charge `train` lie.

    test: the charge scored, or "background" for the sampled events that the classifiers were trained against.
    """
    return run.path(products.SCORES, train=train, test=test)


def table(rows: Rows, scores: EventScores) -> pd.DataFrame:
    """The table of the scores of some events. rows: (n_events,)."""
    return pd.DataFrame({"row": rows, "fold": scores.fold, "score": scores.mean, "score_std": scores.spread})


def members_path(run: Run, train: str, test: str) -> Path:
    """Where the scores of every single member lie, if they were kept (`bdt.keep_members`)."""
    return run.path(products.MEMBERS, train=train, test=test)


def members_table(rows: Rows, scores: EventScores) -> pd.DataFrame:
    """The table of every member's score, one member after the other. rows: (n_events,)."""
    n_events, n_members = scores.members.shape
    return pd.DataFrame(
        {
            "member": np.repeat(np.arange(n_members), n_events),
            "row": np.tile(rows, n_members),
            "fold": np.tile(scores.fold, n_members),
            "score": scores.members.T.ravel(),
        }
    )


def read_members(run: Run, train: str, test: str, rows: Rows) -> FloatArray:
    """(n_events, n_members) scores of the dimuons in these rows; otherwise as `read`."""
    file = members_path(run, train, test)
    if not file.exists():
        raise UserError(f"{file}: not found; set bdt.keep_members: true and run 05_train_bdts.py again")
    frame = run.read_table(file, ["member", "row", "score"])
    by_member = [match(part, rows, file)["score"].to_numpy() for _, part in frame.groupby("member")]
    return np.column_stack(by_member)


def read(run: Run, train: str, test: str, rows: Rows) -> pd.DataFrame:
    """The scores of the dimuons in these rows, with the columns row, fold, score and score_std.

    rows: (n_events,), of all dimuons of the charge `test` that a search looks at. Raises `UserError` where the scores
    are those of other events, or one is not between 0 and 1.
    """
    file = path(run, train, test)
    return match(load_table(run.require(file), NAMES), rows, file)


def match(scores: pd.DataFrame, rows: Rows, source: Path | str = "the scores table") -> pd.DataFrame:
    """`scores`, which have a column `row`, in the order of `rows`. Raises `UserError` as `read` does."""
    rows = np.asarray(rows)
    if scores["row"].duplicated().any():
        row = scores["row"][scores["row"].duplicated()].iloc[0]
        raise UserError(f"{source}: row {row} is there twice; run 05_train_bdts.py again")
    missing = np.setdiff1d(rows, scores["row"])
    unknown = np.setdiff1d(scores["row"], rows)
    if missing.size or unknown.size:
        raise UserError(
            f"{source}: does not match the dimuon table: {missing.size} of {len(rows)} dimuons have no score, "
            f"{unknown.size} of {len(scores)} scores have no dimuon; run 05_train_bdts.py again"
        )
    bad = ~scores["score"].between(0, 1)
    if bad.any():
        raise UserError(
            f"{source}: score {scores['score'][bad].iloc[0]} in row {scores['row'][bad].iloc[0]} is not in [0, 1]"
        )
    return scores.set_index("row").loc[rows].reset_index()
