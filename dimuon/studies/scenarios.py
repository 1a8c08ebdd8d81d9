"""What every study is made of: scenarios, done by one runner, through one executor, with one ledger.

A scenario is the analysis with something varied. Studies differ in where the events of their scenarios come from (the
data, a null dataset, a null dataset with signal: a `Source`) and in what is read off them (a `Reading`), no more.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from dimuon.background.protocol import BackgroundModel
from dimuon.bumphunt import steps
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.studies.ledger import FAILURES, Task, fail, work_off
from dimuon.studies.study import Study
from dimuon.workflow.config import Config
from dimuon.workflow.executor import AtOnce

NUMBERS = ("fpr", "z0", "z_signed", "n_obs", "n_bkg", "n_sig", "n_kept")  # None where not defined

Row = dict[str, Any]  # of JSON values


class Source:
    """Where the events of a scenario come from, and what they are searched with. It is sent to the workers."""

    def prepared(self, study: Study, scenario: "Scenario") -> "Source":
        """The source with all that it needs, made before the work is handed out: trained, where that is needed."""
        return self

    def events(self, scenario: "Scenario") -> Events:
        """The events that the scenario searches."""
        raise NotImplementedError

    def model(self, scenario: "Scenario", events: Events) -> BackgroundModel:
        """The background model that these events are searched with."""
        raise NotImplementedError


@dataclass(frozen=True)
class Scenario:
    """One search of something varied.

    key: its name in the ledger. config: with the window and all else that is varied; its seed is that of the training
    of the background. stream: of everything after that training. labels: {column: value} of its rows in the study's
    table.
    """

    key: str
    charge: str
    config: Config
    stream: Stream
    source: Source
    labels: Mapping[str, str | int | float] = field(default_factory=dict)


Reading = Callable[[Scenario], list[Row]]


@dataclass(frozen=True)
class Outcome:
    """What was read off a scenario; failed: why nothing was, None where it was."""

    scenario: Scenario
    rows: Sequence[Row] = ()
    failed: str | None = None


def vary(config: Config, changes: Mapping[str, Any]) -> Config:
    """The configuration with some settings changed. changes: {"section.key" or "key": value}."""
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if name:
            value = getattr(config, section).model_copy(update={name: value})
        config = config.model_copy(update={section: value})
    return config


def run(study: Study, scenarios: Iterable[Scenario], read: Reading, leave_out: Sequence[str] = ()) -> list[Outcome]:
    """Do the scenarios that the ledger of the study does not hold yet; returns the outcomes of all, in their order.

    A scenario whose source cannot be prepared, as where a window leaves too few events to train on, is one that failed.
    leave_out: of `Study.ledger`.
    """
    listed, ledger = list(scenarios), study.ledger(leave_out)
    tasks = {each.key: () if each.key in ledger.records else _task(study, each, read) for each in listed}
    records = work_off(ledger, tasks, study.pool, study.name.replace("_", " "))
    return [Outcome(each, records[each.key].get("rows", ()), records[each.key].get("failed")) for each in listed]


def _task(study: Study, scenario: Scenario, read: Reading) -> Task:
    try:
        return _record, replace(scenario, source=scenario.source.prepared(study, scenario)), read
    except FAILURES as error:
        return fail, error


def _record(scenario: Scenario, read: Reading) -> dict[str, Any]:
    """What the ledger keeps of a scenario, in a worker."""
    return {"seed": scenario.stream.seed, "rows": read(scenario)}


def search(scenario: Scenario, events: Events) -> steps.SearchResult:
    """Steps 4 to 6 on the events of a scenario."""
    model = scenario.source.model(scenario, events)
    return steps.search(scenario.config, scenario.charge, events, model, scenario.stream, AtOnce())


def significances(scenario: Scenario) -> list[Row]:
    """The reading of most studies: every significance of steps 4 to 6, rows as of `steps.headline`."""
    return steps.headline(search(scenario, scenario.source.events(scenario)))


def succeeded(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes of the scenarios that did not fail."""
    return [outcome for outcome in outcomes if outcome.failed is None]


def failures(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """{key: reason} of the scenarios that failed."""
    return {outcome.scenario.key: outcome.failed for outcome in outcomes if outcome.failed is not None}


def table(outcomes: Sequence[Outcome], what: str) -> pd.DataFrame:
    """The rows of every scenario that did not fail, with its labels, numbers as float; `UserError` where all failed.

    what: what a scenario is called in the message.
    """
    frames = [pd.DataFrame(each.rows).assign(**each.scenario.labels) for each in succeeded(outcomes)]
    if not frames:
        raise UserError(f"every {what} failed, the first with: {outcomes[0].failed}")
    frame = pd.concat(frames, ignore_index=True)
    kinds = dict.fromkeys(NUMBERS, "float64") | {"valid": "boolean"}
    return frame.astype({name: kind for name, kind in kinds.items() if name in frame})
