"""Step 5: classifiers that tell data from sampled background in the SR (the paper's step 3, likelihood ratios).

Reads the dimuons and background_<charge>.parquet. For each charge it trains an ensemble of boosted decision trees in
five-fold cross-validation, without the mass, and scores every dimuon of both charges: its own with models that never
saw the event, the other's with the mean of all (the paper's cross-applications). The sampled background is scored like
the own dimuons. Then it asks whether any of the four scores knows the mass, and what the classifiers go by.

Writes, under data/<name>/: bdts_<charge>.zip, importance_<charge>.json, scores_<train>_on_<test>.parquet (test: a
charge, or "background"), sculpting_<train>_on_<test>.{json,parquet}, and members_<train>_on_<test>.parquet where the
YAML asks for them.
"""

from pathlib import Path

from dimuon.classifiers import archive, cross_validation, importance
from dimuon.data import background_table, dimuons, scores
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.statistics import sculpting
from dimuon.statistics.working_points import rates
from dimuon.workflow import cli, executor, products


def main(run):
    """Train and apply the classifiers of every charge."""
    config, files, names = run.config, dimuons.paths(run), run.config.features.names
    tables = {charge: dimuons.read(run, charge, names) for charge in files}
    events = {charge: Events.of(table["dimu_mass"], table[names], names) for charge, table in tables.items()}
    backgrounds = {charge: background_table.read(run, charge, names) for charge in files}

    where = config.execution.workers, config.execution.scheduler
    with executor.executor(*where, preload=cross_validation.worker_modules(config.bdt.classifier)) as pool:
        for train in files:
            in_sr = (tables[train]["region"] == "SR").to_numpy()
            common = {"stream": Stream(config.seed).child("bdt", train), "pool": pool}
            with cli.explained(section="bdt", what=files[train]):
                ensemble = cross_validation.train(
                    events[train],
                    in_sr,
                    backgrounds[train],
                    settings=config.bdt.classifier,
                    n_members=config.bdt.members,
                    n_folds=config.bdt.folds,
                    others={test: events[test] for test in files if test != train},
                    **common,
                )
            worth = importance.importance(ensemble, events[train], in_sr, backgrounds[train], **common)
            sampled_file = background_table.path(run, train)
            models = save_models(run, train, ensemble, worth, [files[train], sampled_file])
            sources = [models, sampled_file]
            save_scores(run, train, "background", backgrounds[train].row, ensemble.background, sources)
            for test, of_test in {train: ensemble.data, **ensemble.others}.items():
                sources = [models, files[test]]
                save_scores(run, train, test, tables[test]["row"], of_test, sources)
                sampled = (backgrounds[train].mass, ensemble.background.mean) if test == train else None
                check_sculpting(run, train, test, tables[test], of_test, sampled, sources)


def save_models(run, train, ensemble, worth, sources):
    """Write the models and what they go by; returns the path of the models."""
    content = {"train": train, "classifier": ensemble.kind, "features": run.config.features.names}
    run.write_json(run.path(products.IMPORTANCE, charge=train), content | worth.to_json(), sources)
    models = archive.pack(ensemble.models, content)
    return run.write_bytes(run.path(products.CLASSIFIERS, charge=train), models, sources)


def save_scores(run, train, test, rows, of_test, sources):
    """Write the scores of one train-test combination."""
    run.write_table(scores.path(run, train, test), scores.table(rows, of_test), sources)
    if run.config.bdt.keeps_members:
        run.write_table(scores.members_path(run, train, test), scores.members_table(rows, of_test), sources)


def check_sculpting(run, train, test, table, of_test, sampled, sources):
    """Write how the score and its cuts depend on the mass, in the bins of the background fit."""
    bins, degree = run.config.window.binning(run.config.background.n_bins_sr), run.config.background.degree
    mass, fprs = table["dimu_mass"].to_numpy(dtype=float), rates()
    rng = executor.generator(run.config.seed, "sculpting", train, test)
    try:
        record, efficiencies = sculpting.report(mass, of_test.mean, fprs, bins, degree, rng, sampled)
    except ValueError as error:
        raise UserError(f"{scores.path(run, train, test)}: {error}") from error
    pair = {"train": train, "test": test}
    run.write_json(run.path(products.SCULPTING_TEST, **pair), pair | record, sources)
    run.write_table(run.path(products.SCULPTING, **pair), efficiencies, sources)


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
