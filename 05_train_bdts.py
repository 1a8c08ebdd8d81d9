"""Step 5: classifiers that tell data from sampled background in the SR (the paper's step 3, likelihood ratios).

Reads the dimuons and background_<charge>.parquet. For each charge it trains an ensemble of boosted decision trees in
five-fold cross-validation, without the mass, and scores every dimuon of both charges: its own with models that never
saw the event, the other's with the mean of all (the paper's cross-applications).

Writes, under data/<name>/: bdts_<charge>.zip, scores_<train>_on_<test>.parquet.
"""

from pathlib import Path

from dimuon import bdt, cli, dimuons, execution, scores


def main(run):
    """Train and apply the classifiers of every charge."""
    config = run.config
    names, files = config.features.names, dimuons.paths(run)
    tables = {charge: dimuons.read(run, charge, names) for charge in files}
    features = {charge: table[names].to_numpy(dtype=float) for charge, table in tables.items()}
    backgrounds = {charge: bdt.read_background(run, charge, names) for charge in files}

    with execution.executor(config.execution.workers, config.execution.scheduler) as pool:
        for train in files:
            ensemble = bdt.train(
                features[train],
                tables[train]["region"] == "SR",
                backgrounds[train],
                n_members=config.bdt.members,
                n_folds=config.bdt.folds,
                settings=config.bdt.classifier_settings,
                seed=(config.seed, "bdt", train),
                pool=pool,
                others={test: features[test] for test in files if test != train},
            )
            save(run, train, ensemble, tables, files)


def save(run, train, ensemble, tables, files):
    """Write the models of one charge and the scores of every table they were applied to."""
    manifest = {
        "classifier": run.config.bdt.classifier,
        "features": run.config.features.names,
        "train": train,
    }
    sources = [files[train], bdt.background_path(run, train)]
    models = run.write_bytes(run.data / f"bdts_{train}.zip", bdt.pack(ensemble.models, manifest), sources)
    for test, of_test in {train: ensemble.data, **ensemble.others}.items():
        table = scores.table(tables[test]["row"], of_test)
        run.write_table(scores.path(run, train, test), table, [models, *sources, files[test]])


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
