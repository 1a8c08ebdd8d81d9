"""Step 6: how significant is the excess in the SR? (the paper's step 4: cut and count, and likelihood reweighting)

Reads the dimuons and every scores_<train>_on_<test>.parquet there is, or the one table that input.scores names. For
each it cuts on the classifier, on each feature and at random at the false-positive rates of the YAML, fits the
sidebands and counts in the SR; then it weights every event by its likelihood ratio and repeats the test once.

Writes, under results/<name>/: significance.json, significance_curves.parquet, mass_histograms.parquet,
feature_histograms.parquet.
"""

import logging
from pathlib import Path

import pandas as pd

from dimuon import artifacts, bumphunt, cli, samples
from dimuon.errors import UserError
from dimuon.execution import generator
from dimuon.families import Polynomial
from dimuon.significance import Spectra, discoveries
from dimuon.working_points import rates

log = logging.getLogger("dimuon")


def main(run):
    """Test every sample, print the headline numbers and write the results."""
    settings = run.config.significance
    found = samples.read(run)
    family = Polynomial(run.config.window.binning(settings.n_bins_sr), settings.degree)
    outcomes = {sample.name: search(run, sample, family) for sample in found}

    sources = sorted({source for sample in found for source in sample.sources})
    tests = {name: outcome["summary"] for name, outcome in outcomes.items()}
    content = {
        "origin": artifacts.origin_of(*sources),
        "settings": {"degree": settings.degree, "n_bins_sr": settings.n_bins_sr},
        "tests": tests,
    }
    log.info("%s", bumphunt.headlines(tests))
    run.write_json(run.results / "significance.json", content, sources)
    for table in ("significance_curves", "mass_histograms", "feature_histograms"):
        frames = [outcome[table] for outcome in outcomes.values() if outcome[table] is not None]
        if frames:
            run.write_table(run.results / f"{table}.parquet", pd.concat(frames, ignore_index=True), sources)


def search(run, sample, family):
    """Both tests on one sample: {"summary": dict, and the name of each table: DataFrame}."""
    settings, window = run.config.significance, run.config.window
    fprs = rates(settings.n_working_points, settings.fpr_min)
    rng = generator(run.config.seed, "random cut", sample.name)
    variables = bumphunt.cut_variables(sample.score, sample.features, rng)
    classifier = variables[0]
    try:
        curves = bumphunt.cut_and_count(sample.mass, variables, fprs, family)
        others = bumphunt.variations(sample.mass, [classifier], fprs, family, settings.degrees, settings.binnings)
        bare = discoveries(Spectra.of(sample.mass, family.bins), family).one(0)
        likelihood, weights, reason = bumphunt.reweighted(sample.mass, sample.score, family, sample.weight)
        spectra = [bumphunt.mass_histograms(sample.mass, classifier, settings.figure_fprs, family)]
        if weights is not None:
            weighted = bumphunt.mass_histogram(sample.mass, family, weights)
            spectra.append(weighted.assign(variable="likelihood", fpr=1.0))
    except ValueError as error:
        raise UserError(f"{sample.sources[-1]}: {error}") from error
    features = bumphunt.feature_histograms(
        sample.mass, sample.features, classifier, settings.figure_fprs, window, sample.before
    )
    labels = {"train": sample.train, "test": sample.test}
    tables = {
        "significance_curves": pd.concat([curves, others]),
        "mass_histograms": pd.concat(spectra),
        "feature_histograms": features,
    }
    head = labels | {"n_events": len(sample.mass)} | bumphunt.summary(curves, bare, likelihood, reason)
    return {"summary": head} | {
        name: table if table is None else table.assign(**labels) for name, table in tables.items()
    }


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
