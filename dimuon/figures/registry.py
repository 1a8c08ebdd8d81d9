"""Which figures there are. A new one is one file in `paper`, `checks` or `studies`, and nothing else.

Its generator looks into the saved results and yields the drawings that they give, none where they give none:

    @figure("spectrum", section=Section.DATA, order=140, caption="Mass of every muon pair.", condition=with_selection)
    def drawings(saved):
        ...
        yield Drawing("spectrum", "Inclusive dimuon mass", [path], table, spectrum)
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from dimuon.figures.drawing import Drawing
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section, is_cross
from dimuon.registry import Registry
from dimuon.statistics import model_choice
from dimuon.workflow.config import Config

Generator = Callable[[Saved], Iterable[Drawing]]
Condition = Callable[[Config], bool]


@dataclass(frozen=True)
class Kind:
    """A kind of figure: the drawings of `drawings` have its section and caption unless they bring their own.

    section: None where each drawing has its own. order: on the page, rising. caption: `{model}` in it becomes the
    background function in words, `{events}` what the events are called. condition: which analyses have such figures.
    first: the samples that are searched themselves are looked at first.
    """

    section: Section | None
    order: int
    caption: str
    condition: Condition
    drawings: Generator
    first: bool = False

    def of(self, saved: Saved) -> Iterator[Drawing]:
        """The complete drawings that saved results give."""
        model = model_choice.describe(saved.config.significance)
        for drawing in self.drawings(saved):
            yield replace(
                drawing,
                section=drawing.section or self.section or "",
                caption=(drawing.caption or self.caption).format(model=model, events=saved.data.events),
                data=saved.data.of(saved.run.origin(drawing.inputs)),
                place=self.order,
                first=self.first and drawing.section != Section.CROSS and not is_cross(drawing.name),
            )


FIGURES: Registry[Kind] = Registry("dimuon.figures.paper", "dimuon.figures.checks", "dimuon.figures.studies")


def always(config: Config) -> bool:
    """Every analysis."""
    return True


def with_classifier(config: Config) -> bool:
    """Analyses that train a classifier here, rather than begin with given scores."""
    return config.input.scores is None


def with_selection(config: Config) -> bool:
    """Analyses that select their dimuons here, rather than begin with a given table."""
    return config.input.first_step == 1


def figure(
    name: str,
    *,
    section: Section | None,
    order: int,
    caption: str,
    condition: Condition = always,
    first: bool = False,
) -> Callable[[Generator], Generator]:
    """A decorator that enters a generator of drawings among the figures; the arguments as for `Kind`."""

    def enter(drawings: Generator) -> Generator:
        FIGURES.register(name, Kind(section, order, caption, condition, drawings, first))
        return drawings

    return enter


def read(saved: Saved) -> Iterator[Drawing]:
    """Every figure that the saved files of an analysis give, those that are looked at first before others; fills
    `saved.missing`."""
    others = []
    for kind in sorted(FIGURES.values(), key=lambda kind: (not kind.first, kind.order)):
        if not kind.condition(saved.config):
            continue
        for drawing in kind.of(saved):
            if drawing.first or not kind.first:
                yield drawing
            else:
                others.append(drawing)
    yield from others


def in_order(drawings: Iterable[Drawing]) -> list[Drawing]:
    """As on the page."""
    return sorted(drawings, key=lambda drawing: drawing.place)


def drawings(saved: Saved) -> list[Drawing]:
    """Every figure that the saved files of an analysis give, as on the page; fills `saved.missing`."""
    return in_order(read(saved))
