"""The studies by name. A new one is one file in this folder: its products, and a function that `@study` declares."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dimuon.registry import Registry
from dimuon.workflow.products import Maker

if TYPE_CHECKING:
    from dimuon.studies.study import Study

Run = Callable[["Study"], str]


@dataclass(frozen=True)
class Declaration:
    """A study as its file declares it.

    question: that it answers. run: does it, returns the report for the screen. gate: of what `run` wrote, whether it
    passes; None where there is nothing to pass.
    """

    maker: Maker
    question: str
    run: Run
    gate: Callable[["Study"], bool] | None = None


STUDIES: Registry[Declaration] = Registry("dimuon.studies")


def study(maker: Maker, question: str, gate: Callable[["Study"], bool] | None = None) -> Callable[[Run], Run]:
    """Declare what the decorated function does. maker: names the study and the settings that it depends on."""

    def declare(run: Run) -> Run:
        STUDIES.register(maker.name, Declaration(maker, question, run, gate))
        return run

    return declare
