"""Step 6: how significant is the excess in the SR? (the paper's step 4: cut and count, and likelihood reweighting)

Reads the dimuons and every scores_<train>_on_<test>.parquet there is, or the one table that input.scores names. For
each it cuts on the classifier, on each feature and at random at the false-positive rates of the YAML, fits the
sidebands and counts in the SR; then it weights every event by its likelihood ratio and repeats the test once. Toys
say what the asymptotic formula cannot: small counts, the scan over the cuts, the weights.

Writes, under results/<name>/: significance.json, significance_curves.parquet, mass_histograms.parquet,
feature_histograms.parquet.
"""

import logging
from functools import partial
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from dimuon.bumphunt import cut_and_count
from dimuon.data import samples
from dimuon.errors import UserError
from dimuon.statistics import model_choice
from dimuon.statistics.working_points import rates
from dimuon.studies import standing
from dimuon.workflow import cli, products, provenance
from dimuon.workflow.executor import generator

log = logging.getLogger("dimuon")


@threadpool_limits.wrap(limits=1)  # thousands of small fits: threads cost more than they bring, and round differently
def main(run):
    """Test every sample, print the headline numbers and write the results."""
    settings = run.config.significance
    model = model_choice.model_of(settings, run.config.window)
    found = samples.read(run)
    outcomes = {sample.name: search(run, sample, model) for sample in found}

    sources = sorted({source for sample in found for source in sample.sources})
    tests = {name: summary for name, (summary, tables) in outcomes.items()}
    log.info("%s", "\n".join([cut_and_count.headlines(tests), *standing.lines(run.results, run)]))
    content = {
        "origin": provenance.origin_of(*sources),
        "settings": settings.model_dump(include={"choice", "family", "degree", "n_bins_sr"}),
        "tests": tests,
    }
    run.write_json(run.path(products.SIGNIFICANCE), content, sources)
    for product in (products.CURVES, products.MASS_HISTOGRAMS, products.FEATURE_HISTOGRAMS):
        frames = [tables[product] for summary, tables in outcomes.values() if tables[product] is not None]
        if frames:
            run.write_table(run.path(product), pd.concat(frames, ignore_index=True), sources)


def search(run, sample, model):
    """Both tests on one sample: the headline numbers, and {product: DataFrame}."""
    settings, mass = run.config.significance, sample.mass
    stream = partial(generator, run.config.seed, sample.name)
    variables = cut_and_count.cut_variables(sample.score, sample.features, stream("random cut"), sample.members)
    classifier, fprs = variables[0], rates(settings.n_working_points, settings.fpr_min)
    try:
        curves, spectra = cut_and_count.cut_and_count(mass, variables, fprs, model)
        curves = cut_and_count.add_toys(curves, spectra, model, settings.toys.local, stream("toys"))
        curves = cut_and_count.add_sculpting(
            curves, mass, variables, fprs, model.bins, settings.degree, stream("sculpting")
        )
        others = cut_and_count.variations(mass, [classifier], fprs, model, settings.degrees, settings.binnings)
        likelihood, weights = cut_and_count.reweighted(mass, sample.score, model, sample.weight)
        summary = cut_and_count.summary(curves, spectra, model, settings.toys, stream)
        summary |= cut_and_count.summary_of_weights(likelihood, mass, weights, model, settings.toys, stream("weights"))
        histograms = cut_and_count.mass_histograms(mass, classifier, settings.figure_fprs, model, weights)
    except ValueError as error:
        raise UserError(f"{sample.sources[-1]}: {error}") from error
    features = cut_and_count.feature_histograms(
        mass, sample.features, classifier, settings.figure_fprs, run.config.window, sample.before
    )
    labels = {"train": sample.train, "test": sample.test}
    tables = {
        products.CURVES: cut_and_count.marked(curves, others),
        products.MASS_HISTOGRAMS: histograms,
        products.FEATURE_HISTOGRAMS: features,
    }
    tables = {product: table if table is None else table.assign(**labels) for product, table in tables.items()}
    return labels | {"n_events": len(mass)} | summary, tables


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
