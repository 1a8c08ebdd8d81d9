"""What the section `input` of the configuration names: the files to skim, their origin, the certified luminosity."""

from dimuon.data import luminosity, portal, sources
from dimuon.errors import UserError
from dimuon.simulation import nanoaod_files
from dimuon.workflow import products


def resolve(run):
    """The `sources.Source`s that step 1 has to read; writes the simulation where it is asked for.

    Raises `UserError` where nothing is found, or the input starts at a later step.
    """
    given = run.config.input
    if given.files is not None:
        return sources.from_files(given.files, given.portal)
    if given.record is not None:
        return portal.root_files(given.record, given.portal, *_asking(run, given.record))
    if given.published_skim is not None:
        return sources.from_published_skim(given.published_skim)
    if given.simulation is not None:
        return sources.from_files([str(path) for path in _simulated(run)])
    raise UserError(
        "input: this configuration starts at a later step; step 1 needs simulation, files, record or published_skim"
    )


def certified_luminosity(run):
    """(path, `LuminosityMask`) of the analysis: the simulation's own, that of the configuration, or (None, None)."""
    given = run.config.input.certified_luminosity
    if run.config.input.simulation is not None:
        given = _simulated_luminosity(run)
    if isinstance(given, int):
        path = run.path(products.CERTIFIED_LUMINOSITY, record=str(given))
        given = portal.certified_luminosity(given, path, run.config.input.portal, *_asking(run, given))
    return (None, None) if given is None else (given, luminosity.read(given))


def _asking(run, record):
    settings = run.config.execution
    return run.path(products.RECORD, record=str(record)), settings.attempts, settings.timeout


def _simulated(run):
    """The files of the simulation, written now unless they are there and made with the same settings."""
    folder, given = _simulated_luminosity(run).parent, run.config.input.simulation
    files = sorted(folder.glob("*.root"))
    if len(files) != given.n_files or any(run.stale(path) for path in (*files, _simulated_luminosity(run))):
        files = nanoaod_files.write_nanoaod(folder, given, run.config.seed, run.config.selection.trigger)
        for path in (*files, _simulated_luminosity(run)):
            run.seal(path, origin="simulated")
    return files


def _simulated_luminosity(run):
    return run.path(products.SIMULATED, file="certified_luminosity.json")
