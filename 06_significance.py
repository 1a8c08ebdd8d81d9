"""Step 6: how significant is the excess in the SR? (the paper's step 4: cut and count, and likelihood reweighting)

Reads the dimuons and every scores_<train>_on_<test>.parquet there is, or the one table that input.scores names. For
each it cuts on the classifier, on each feature and at random at the false-positive rates of the YAML, fits the
sidebands and counts in the SR; then it weights every event by its likelihood ratio and repeats the test once. Toys
say what the asymptotic formula cannot: small counts, the scan over the cuts, the weights.

Then it describes what was found in the samples that their own classifier scored: the events that pass the best cut, the
columns of the table in which they differ from the background after the same cut, the peaks in the SR.

Writes, under results/<name>/: significance.json, significance_curves.parquet, mass_histograms.parquet,
feature_histograms.parquet; events.parquet, found_columns.parquet, found_spectra.parquet, peaks.json.
"""

import logging
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from dimuon.bumphunt import excess, headlines, steps
from dimuon.data import samples, whole_table
from dimuon.random import Stream
from dimuon.studies import standing
from dimuon.workflow import cli, products

log = logging.getLogger("dimuon")

FOUND_TABLES = {  # of `dimuon.bumphunt.excess.WhatWasFound`
    products.EVENTS: "events",
    products.FOUND_COLUMNS: "columns",
    products.FOUND_SPECTRA: "spectra",
    products.PEAK_SPECTRA: "masses",
}


@threadpool_limits.wrap(limits=1)  # thousands of small fits: threads cost more than they bring, and round differently
def main(run):
    """Test every sample, print the headline numbers and write the results."""
    settings = run.config.significance
    scored = [whole_table.with_background(run, sample) for sample in samples.read(run)]
    results = [measure(run, sample) for sample in scored]

    sources = sorted({source for sample in scored for source in whole_table.sources(run, sample)})
    tests = [result.found for result in results]
    log.info("%s", "\n".join([headlines.on_screen(tests), *standing.lines(run.results, run, tests)]))
    content = {
        "origin": run.origin(sources).to_json(),
        "events": run.config.dataset.events,
        "mass": run.config.mass_axis.to_json(),
        "settings": settings.model_dump(include={"choice", "family", "degree", "n_bins_sr"}),
        "tests": {test.name: test.to_json() for test in tests},
    }
    run.write_json(run.path(products.SIGNIFICANCE), content, sources)
    for product in dict.fromkeys(product for result in results for product in result.tables):
        frames = [result.tables[product] for result in results if product in result.tables]
        run.write_table(run.path(product), pd.concat(frames, ignore_index=True), sources)
    save_found(run, {s: result for s, result in zip(scored, results, strict=True) if s.train == s.test})


def measure(run, sample):
    """Both tests on one sample, with toys and the tables of the figures."""
    with cli.explained(section="significance", what=sample.sources[-1]):
        return steps.measure(run.config, sample, Stream(run.config.seed), run.config.significance.toys, True)


def save_found(run, matched):
    """Describe what was found in the matched samples, {sample: result}, say it and write it."""
    described = [
        steps.describe(run.config, sample, result, whole_table.read(run, sample)) for sample, result in matched.items()
    ]
    sources = sorted({source for sample in matched for source in whole_table.sources(run, sample)})
    log.info("%s", "\n".join(line for one in described for line in excess.lines(one, run.config.mass_axis.unit)))
    tests = {f"{one.found.train}_on_{one.found.test}": one.found.to_json() for one in described}
    run.write_json(run.path(products.PEAKS), {"tests": tests}, sources)
    for product, name in FOUND_TABLES.items():
        frames = [getattr(one, name) for one in described]
        run.write_table(run.path(product), pd.concat(frames, ignore_index=True), sources)


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
