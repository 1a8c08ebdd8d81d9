"""What the section `input` of the configuration names: the files to skim, their origin, the certified luminosity."""

from pathlib import Path

from dimuon.data import luminosity, portal, sources
from dimuon.errors import UserError
from dimuon.random import Stream
from dimuon.simulation import nanoaod_files
from dimuon.simulation.settings import Simulation
from dimuon.workflow import products
from dimuon.workflow.provenance import Run


def resolve(run: Run) -> list[sources.Source]:
    """What step 1 has to read; writes the simulation where it is asked for.

    Raises `UserError` where nothing is found, or the input starts at a later step.
    """
    given = run.config.input
    if given.files is not None:
        return sources.from_files(given.files, given.portal)
    if given.record is not None:
        return portal.root_files(_record(run, given.record))
    if given.published_skim is not None:
        return sources.from_published_skim(given.published_skim)
    if given.simulation is not None:
        return sources.from_files([str(path) for path in _simulated(run, given.simulation)])
    raise UserError(
        "input: this configuration starts at a later step; step 1 needs simulation, files, record or published_skim"
    )


def certified_luminosity(run: Run) -> tuple[Path | str, luminosity.LuminosityMask] | None:
    """The file of the certified luminosity and what it certifies: the simulation's own, or that of the configuration.

    None where everything is to be kept.
    """
    given: str | int | Path | None = run.config.input.certified_luminosity
    if run.config.input.simulation is not None:
        given = _simulated_luminosity(run)
    if isinstance(given, int):
        path = run.path(products.CERTIFIED_LUMINOSITY, record=str(given))
        given = portal.certified_luminosity(_record(run, given), path)
    return None if given is None else (given, luminosity.read(given))


def _record(run: Run, number: int) -> portal.Record:
    settings = run.config.execution
    cache = run.path(products.RECORD, record=str(number))
    return portal.Record(number, run.config.input.portal, cache, settings.attempts, settings.timeout)


def _simulated(run: Run, simulation: Simulation) -> list[Path]:
    """The files of the simulation, written now unless they are there and made with the same settings."""
    certified = _simulated_luminosity(run)
    files = sorted(certified.parent.glob("*.root"))
    if len(files) != simulation.n_files or any(run.stale(path) for path in (*files, certified)):
        stream, trigger = Stream(run.config.seed), run.config.selection.trigger
        files = nanoaod_files.write_nanoaod(certified.parent, simulation, stream, trigger)
        for path in (*files, certified):
            run.seal(path, origin="simulated")
    return files


def _simulated_luminosity(run: Run) -> Path:
    return run.path(products.SIMULATED, file="certified_luminosity.json")
