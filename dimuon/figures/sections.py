"""The sections of the report, and where a train-test combination stands in it."""

from enum import StrEnum


class Section(StrEnum):
    """The headings of the report, in its order."""

    SEARCH = "Search"
    FOUND = "What was found"
    CONTROL = "Same-sign control"
    CROSS = "Cross-applications"
    ROBUSTNESS = "Robustness"
    CLASSIFIER = "Classifier"
    BACKGROUND = "Background model"
    DATA = "Data"


PAPER_NUMBERS = {("os", "os"): "fig2", ("ss", "ss"): "fig1"}


def section_of(train: str, test: str) -> Section:
    """Where the figures of a train-test combination stand."""
    if train != test:
        return Section.CROSS
    return Section.CONTROL if test == "ss" else Section.SEARCH


def paper_name(panel: str, content: str, train: str, test: str) -> str:
    """The file name of a panel of Fig. 1 (the control) or 2 (the search); "cross" and "search" of other samples.

    panel: "a" or "b".
    """
    number = PAPER_NUMBERS.get((train, test))
    prefix = f"{number}{panel}" if number else "search" if train == test else "cross"
    return f"{prefix}_{content}_{train}_on_{test}"
