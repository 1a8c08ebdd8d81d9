"""The score tables between step 5 and the steps after it, always matched to the dimuons that they score."""

import numpy as np
import pandas as pd

from dimuon.errors import UserError
from dimuon.workflow import products
from dimuon.workflow.provenance import load_table

NAMES = ("row", "fold", "score", "score_std")


def path(run, train, test):
    """Where the scores by the classifiers of the charge `train` lie.

    test: the charge scored, or "background" for the sampled events that the classifiers were trained against.
    """
    return run.path(products.SCORES, train=train, test=test)


def table(rows, scores):
    """The table of some `dimuon.classifiers.cross_validation.Scores`. rows: (n_events,), of the table that was scored."""
    return pd.DataFrame({"row": rows, "fold": scores.fold, "score": scores.mean, "score_std": scores.spread})


def members_path(run, train, test):
    """Where the scores of every single member lie, if they were kept (`bdt.keep_members`)."""
    return run.path(products.MEMBERS, train=train, test=test)


def members_table(rows, scores):
    """The table of every member's score, one member after the other. Arguments as for `table`."""
    n_events, n_members = scores.members.shape
    return pd.DataFrame({
        "member": np.repeat(np.arange(n_members), n_events),
        "row": np.tile(rows, n_members),
        "fold": np.tile(scores.fold, n_members),
        "score": scores.members.T.ravel(),
    })  # fmt: skip


def read_members(run, train, test, dimuons):
    """(n_events, n_members) scores in the order of `dimuons`; otherwise as `read`."""
    path = members_path(run, train, test)
    if not path.exists():
        raise UserError(f"{path}: not found; set bdt.keep_members: true and run 05_train_bdts.py again")
    frame = run.read_table(path, ["member", "row", "score"])
    by_member = [match(part, dimuons, path)["score"].to_numpy() for _, part in frame.groupby("member")]
    return np.column_stack(by_member)


def read(run, train, test, dimuons):
    """The scores in the order of `dimuons`, as a DataFrame with the columns row, fold, score and score_std.

    dimuons: DataFrame of `dimuon.data.dimuons.read` for the charge `test`. Raises `UserError` where the two tables do not
    hold the same events, or a score is not between 0 and 1.
    """
    return match(load_table(run.require(path(run, train, test)), NAMES), dimuons, path(run, train, test))


def match(scores, dimuons, source="the scores table"):
    """`scores` in the order of `dimuons`; both have a column `row`. Raises `UserError` as `read` does."""
    if scores["row"].duplicated().any():
        row = scores["row"][scores["row"].duplicated()].iloc[0]
        raise UserError(f"{source}: row {row} is there twice; run 05_train_bdts.py again")
    missing = np.setdiff1d(dimuons["row"], scores["row"])
    unknown = np.setdiff1d(scores["row"], dimuons["row"])
    if missing.size or unknown.size:
        raise UserError(
            f"{source}: does not match the dimuon table: {missing.size} of {len(dimuons)} dimuons have no score, "
            f"{unknown.size} of {len(scores)} scores have no dimuon; run 05_train_bdts.py again"
        )
    bad = ~scores["score"].between(0, 1)
    if bad.any():
        raise UserError(
            f"{source}: score {scores['score'][bad].iloc[0]} in row {scores['row'][bad].iloc[0]} is not in [0, 1]"
        )
    return scores.set_index("row").loc[dimuons["row"]].reset_index()
