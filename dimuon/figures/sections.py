"""The sections of the report, and where a train-test combination stands in it."""

from enum import StrEnum


class Section(StrEnum):
    """The headings of the report, in its order."""

    SEARCH = "Opposite-sign search"
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
    return Section.SEARCH if test == "os" else Section.CONTROL


def paper_name(panel: str, content: str, train: str, test: str) -> str:
    """The file name of a panel of Fig. 1 (the control) or 2 (the search), "cross" elsewhere. panel: "a" or "b"."""
    number = PAPER_NUMBERS.get((train, test))
    prefix = "cross" if number is None else f"{number}{panel}"
    return f"{prefix}_{content}_{train}_on_{test}"
