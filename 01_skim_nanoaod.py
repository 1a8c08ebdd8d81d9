"""Step 1: from NanoAOD to events with two identified muons (paper, "Anti-Isolated Upsilon Selection").

Reads the inputs of the configuration (local files, addresses, a record of the CERN Open Data portal, the published
skim, or a simulation that it writes first) and the certified luminosity sections. Keeps, of the certified events,
those with at least two muons that pass the identification: of each the two hardest, with their trigger decisions.

Writes data/<name>/skim/: one parquet file per input, `manifest.json` (what was read, kept and lost, file by file),
`processed_luminosity.json` (the certified sections read, as CMS JSON) and `spectrum.parquet` (the inclusive dimuon
mass spectrum). Run again after an interruption, it does only what is not done yet. What
another analysis here has read already, with the same identification, triggers and certified luminosity, is not read
again: the skims are linked.
"""

import logging
from pathlib import Path

from dimuon.data import inputs, skim
from dimuon.data import manifest as manifests
from dimuon.data.manifest import MadeWith, Manifest
from dimuon.workflow import cli, executor, products

log = logging.getLogger("dimuon")


def main(run, arguments):
    """Skim every input that is not done yet, then seal the skim."""
    settings = run.config.execution
    triggers = tuple(dict.fromkeys([run.config.selection.trigger, *run.config.input.triggers]))
    files = inputs.resolve(run)
    certified = inputs.certified_luminosity(run)
    mask = certified[1] if certified else None
    made_with = MadeWith(run.config.selection.muon_id, triggers, mask.digest if mask else None)
    manifest = Manifest(run.path(products.MANIFEST), made_with)
    manifest.keep({source.name for source in files})

    undone = [source for source in files if not manifest.is_done(source)]
    if len(undone) < len(files):
        log.info("%d of %d inputs are done already", len(files) - len(undone), len(files))
    others = manifests.of_others(run, made_with)
    taken = {source: path for source in undone if (path := manifest.adopt(source, others))}
    if taken:
        folders = ", ".join(sorted({str(path.parent) for path in taken.values()}))
        log.info(
            "%d of %d inputs were read already for other analyses: skims shared with %s",
            len(taken),
            len(files),
            folders,
        )
    undone = [source for source in undone if source not in taken]
    tasks = [
        skim.Task(
            source=source,
            output=run.path(products.SKIM, input=source.name),
            muon_id=run.config.selection.muon_id,
            triggers=triggers,
            mask=mask,
            attempts=settings.attempts,
            timeout=settings.timeout,
            download=settings.download,
        )
        for source in undone
        if manifest.failed(source) or not arguments.retry_failed
    ]
    local = [Path(address) for source in undone if not source.is_remote for address in source.addresses]
    with executor.of(settings, skim.WORKER_MODULES, shared=[run.data, *local]) as pool:
        layouts = skim.survey_all(pool, tasks, manifest)
        skim.skim_all(pool, tasks, layouts, manifest)
    is_toy = run.config.input.simulation is not None
    manifest.finish(run, files, is_toy, [certified[0]] if certified else [])


if __name__ == "__main__":
    retry = (
        "--retry-failed",
        {"action": "store_true", "help": "only try the inputs again that failed before"},
    )
    cli.run(Path(__file__).name, main, [retry])
