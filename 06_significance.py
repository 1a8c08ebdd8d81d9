"""Step 6: how significant is the excess in the SR? (the paper's step 4: cut and count, and likelihood reweighting)

Reads the dimuons and every scores_<train>_on_<test>.parquet there is, or the one table that input.scores names. For
each it cuts on the classifier, on each feature and at random at the false-positive rates of the YAML, fits the
sidebands and counts in the SR; then it weights every event by its likelihood ratio and repeats the test once. Toys
say what the asymptotic formula cannot: small counts, the scan over the cuts, the weights.

Writes, under results/<name>/: significance.json, significance_curves.parquet, mass_histograms.parquet,
feature_histograms.parquet.
"""

import logging
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from dimuon.bumphunt import headlines, steps
from dimuon.data import samples
from dimuon.random import Stream
from dimuon.studies import standing
from dimuon.workflow import cli, products

log = logging.getLogger("dimuon")


@threadpool_limits.wrap(limits=1)  # thousands of small fits: threads cost more than they bring, and round differently
def main(run):
    """Test every sample, print the headline numbers and write the results."""
    settings = run.config.significance
    scored = samples.read(run)
    results = [measure(run, sample) for sample in scored]

    sources = sorted({source for sample in scored for source in sample.sources})
    tests = [result.found for result in results]
    log.info("%s", "\n".join([headlines.on_screen(tests), *standing.lines(run.results, run)]))
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


def measure(run, sample):
    """Both tests on one sample, with toys and the tables of the figures."""
    with cli.explained(section="significance", what=sample.sources[-1]):
        return steps.measure(run.config, sample, Stream(run.config.seed), run.config.significance.toys, True)


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
