"""The files of the bench."""

from dimuon.columns import Column
from dimuon.workflow.products import BENCH_MAKER, PRODUCTS, Product

LABELS = {
    "sample": Column("text", '"simulated", or the sample of the data'),
    "features": Column("text", "feature set that the method sees"),
    "leak": Column("", "fraction of the signal events that lie in the sidebands"),
    "noise": Column("", "features of pure noise that were added"),
}
SHARED = ("method", "n_injected", "repeat")
STATISTICS = {
    "z0_loose": Column("sigma", "significance at the fixed cut that keeps 10 % of the sideband events"),
    "z0_tight": Column("sigma", "significance at the fixed cut that keeps 1 % of the sideband events"),
    "z0_loose_median": Column("sigma", "z0_loose by the median of the histograms of the members; missing: no ensemble"),
    "z0_tight_median": Column("sigma", "z0_tight by that median; missing: no ensemble, or the median is empty"),
    "z0_own": Column("sigma", "significance by the method's own test of the whole SR; missing: it has none"),
}

CELLS = PRODUCTS.declare(
    Product(
        "bench_cells",
        "results/{name}/bench/cells.parquet",
        BENCH_MAKER,
        "what each method finds on each sample; the same seed gives the same bytes",
        (*SHARED, "seed", "z0_max", "z0_likelihood", "sculpted", "auc"),
        own={
            **LABELS,
            **STATISTICS,
            "n_events": Column("events", "searched, in the whole window"),
            "sideband_auc": Column(
                "", "of a classifier that tells the background model from the sidebands; missing: none"
            ),
            "sideband_auc_err": Column("", "its standard error"),
            "template_auc": Column(
                "", "of a classifier that tells the template from true SR background; missing: none"
            ),
            "template_auc_err": Column("", "its standard error"),
            "improvement_max": Column("", "largest significance improvement eps_S / sqrt(eps_B) of labelled events"),
            "improvement_loose": Column("", "the same where 10 % of the background pass"),
            "improvement_tight": Column("", "the same where 1 % of the background pass, or as tight a cut as is known"),
            "argos": Column("", "largest eps_SR / sqrt(eps_B) - sqrt(eps_B) of the events searched (arXiv:2511.14832)"),
            "argos_fpr": Column("", "fraction of the sideband events that pass where it is"),
        },
    )
)
CURVES = PRODUCTS.declare(
    Product(
        "bench_curves",
        "results/{name}/bench/curves.parquet",
        BENCH_MAKER,
        "significance improvement against signal efficiency, as far as the background count is known to 20 %",
        (*SHARED, *LABELS),
        own={
            "eps_signal": Column("", "fraction of the labelled signal events that pass"),
            "eps_background": Column("", "fraction of the labelled background events that pass"),
            "improvement": Column("", "eps_signal / sqrt(eps_background)"),
            "improvement_low": Column("", "lower end of its 68 % interval"),
            "improvement_high": Column("", "upper end of its 68 % interval"),
        },
    )
)
NULLS = PRODUCTS.declare(
    Product(
        "bench_nulls",
        "results/{name}/bench/nulls.parquet",
        BENCH_MAKER,
        "the significances of further samples without signal, searched with what was learned before. SIMULATED",
        (*SHARED, *LABELS, *STATISTICS, "z0_max", "z0_likelihood", "experiment"),
        optional=True,
    )
)
COSTS = PRODUCTS.declare(
    Product(
        "bench_costs",
        "results/{name}/bench/costs.parquet",
        BENCH_MAKER,
        "time and memory of each cell, as measured once",
        (*SHARED, *LABELS),
        own={
            "seconds": Column("s", "wall time, learning and scoring"),
            "cpu_seconds": Column("s", "time of the processor meanwhile, which other programs do not prolong"),
            "peak_mb": Column("MB", "most memory of the process meanwhile, all that it had before included"),
        },
    )
)
SUMMARY = PRODUCTS.declare(
    Product(
        "bench_summary",
        "results/{name}/bench/bench.json",
        BENCH_MAKER,
        "methods ranked with bands, false-alarm rates, correlations of their scores, in numbers and words",
    )
)
