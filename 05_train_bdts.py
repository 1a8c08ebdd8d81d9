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

from dimuon.bumphunt import steps
from dimuon.classifiers import archive, cross_validation
from dimuon.data import background_table, scores
from dimuon.data.dimuons import Dimuons
from dimuon.random import Stream
from dimuon.workflow import cli, executor, products


def main(run):
    """Train and apply the classifiers of every charge."""
    config, dimuons, stream = run.config, Dimuons(run), Stream(run.config.seed)
    files, names = dimuons.paths, config.features.names
    events = {charge: dimuons.events(charge) for charge in files}
    backgrounds = {charge: background_table.read(run, charge, names) for charge in files}
    with executor.of(config.execution, cross_validation.worker_modules(config.bdt.classifier)) as pool:
        for train, own in events.items():
            background, sampled_file = backgrounds[train], background_table.path(run, train)
            others = {test: table for test, table in events.items() if test != train}
            with cli.explained(section="bdt", what=files[train]):
                ensemble = steps.classify(config, train, own, background, stream, pool, others)
            worth = steps.weigh_features(config, train, ensemble, own, background, stream, pool)
            models = save_models(run, train, ensemble, worth, [files[train], sampled_file])
            save_scores(run, train, "background", background, ensemble.background, [models, sampled_file])
            for test, of_test in {train: ensemble.data, **ensemble.others}.items():
                sources = [models, files[test]]
                save_scores(run, train, test, events[test], of_test, sources)
                sampled = (background, ensemble.background.mean) if test == train else None
                with cli.explained(section="background", what=scores.path(run, train, test)):
                    checked = steps.check_sculpting(config, train, test, events[test], of_test, stream, sampled)
                save_sculpting(run, train, test, checked, sources)


def save_models(run, train, ensemble, worth, sources):
    """Write the models and what they go by; returns the path of the models."""
    content = {"train": train, "classifier": ensemble.kind, "features": run.config.features.names}
    run.write_json(run.path(products.IMPORTANCE, charge=train), content | worth.to_json(), sources)
    return run.write_bytes(
        run.path(products.CLASSIFIERS, charge=train), archive.pack(ensemble.models, content), sources
    )


def save_scores(run, train, test, events, of_test, sources):
    """Write the scores of one train-test combination."""
    run.write_table(scores.path(run, train, test), scores.table(events.row, of_test), sources)
    if run.config.bdt.keeps_members:
        run.write_table(scores.members_path(run, train, test), scores.members_table(events.row, of_test), sources)


def save_sculpting(run, train, test, checked, sources):
    """Write how a score and its cuts depend on the mass."""
    record, efficiencies = checked
    pair = {"train": train, "test": test}
    run.write_json(run.path(products.SCULPTING_TEST, **pair), pair | record, sources)
    run.write_table(run.path(products.SCULPTING, **pair), efficiencies, sources)


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
