"""The sections of the report, and where a train-test combination stands in it."""

from enum import StrEnum


class Section(StrEnum):
    """The headings of the report, in its order."""

    SEARCH = "Search"
    FOUND = "What was found"
    SCAN = "Mass scan"
    CONTROL = "Same-sign control"
    ROBUSTNESS = "Robustness"
    CROSS = "Cross-applications"
    CLASSIFIER = "Classifier"
    METHODS = "Methods compared"
    BACKGROUND = "Background model"
    DATA = "Data"


PAPER_PANELS = {("os", "os"): "fig2", ("ss", "ss"): "fig1"}


def section_of(train: str, test: str) -> Section:
    """Where the figures of a train-test combination stand."""
    if train != test:
        return Section.CROSS
    return Section.CONTROL if test == "ss" else Section.SEARCH


def paper_panel(panel: str, train: str, test: str) -> str:
    """Panel "a" or "b" of the paper's Fig. 1 (the control) or 2 (the search): "fig2a"; "" of other samples."""
    number = PAPER_PANELS.get((train, test))
    return f"{number}{panel}" if number else ""


CROSS = "cross_"  # begins the names of figures whose classifier was trained on another sample


def figure_name(content: str, train: str, test: str, number: str = "") -> str:
    """The file name of a figure of one train-test combination. content: what it shows. number: in the paper.

    >>> figure_name("mass_cathode", "os", "os", "fig2a"), figure_name("mass_cathode", "all", "all")
    ('fig2a_mass_cathode_os_on_os', 'mass_cathode_all')
    """
    if number:
        return f"{number}_{content}_{train}_on_{test}"
    return f"{content}_{test}" if train == test else f"{CROSS}{content}_{train}_on_{test}"


def is_cross(name: str) -> bool:
    """Whether a figure is of events that a classifier of another sample scored."""
    return name.startswith(CROSS)
