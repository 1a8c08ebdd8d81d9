"""Study: the whole chain on null datasets (paper, End Matter), and the p-values that it gives.

The best of many cuts, each placed by a classifier trained on the very events that are counted, need not follow the
asymptotic distribution. Here the distribution is counted: null datasets (`dimuon.studies.nulls`) go through steps 4 to 6 (with
`studies.retrain_flows`, 3 to 6), and the data are compared with them.

Writes, under results/<name>/studies/: pseudoexperiments.parquet (every significance of every null dataset) and
pseudoexperiments.json (calibrated local and global p-values, coverage of the asymptotic ones, uniformity).
"""

import numpy as np
from scipy.stats import norm

from dimuon.background.conditional import ConditionalBackground
from dimuon.bumphunt import steps
from dimuon.errors import UserError
from dimuon.random import Stream
from dimuon.statistics import calibration
from dimuon.statistics.working_points import nearest
from dimuon.studies import ledger
from dimuon.studies.ledger import work_off
from dimuon.studies.nulls import NullModel
from dimuon.workflow.executor import AtOnce, generator, integer_seed
from dimuon.workflow.products import FOUND, PRODUCTS, Product, study_maker

FIXED_FPR = 0.1  # the working point whose coverage is shown beside that of the maximum
CAVEAT = "The null datasets are drawn from flows of the same sidebands: what all flows have wrong, no null shows."
STATISTICS = ("cathode_max", "fixed", "likelihood", "likelihood_pooled", "best_feature", "no_cut")

MAKER = study_maker(
    "pseudoexperiments",
    "studies.members",
    "studies.pseudoexperiments",
    "studies.held_out",
    "studies.retrain_flows",
)
TABLE = PRODUCTS.declare(
    Product(
        "pseudoexperiments",
        "results/{name}/studies/pseudoexperiments.parquet",
        MAKER,
        "the significances of every null dataset",
        ("charge", "experiment", "seed", "member", "variable", "fpr", *FOUND),
    )
)
CALIBRATED = PRODUCTS.declare(
    Product(
        "pseudoexperiments_calibrated",
        "results/{name}/studies/pseudoexperiments.json",
        MAKER,
        "calibrated local and global p-values, coverage of the asymptotic ones, uniformity",
    )
)


def run(study):
    """Do the study; `study` is a `dimuon.studies.study.Study`."""
    config, tasks = study.config, {}
    if config.studies.held_out >= config.studies.pseudoexperiments:
        raise UserError(
            f"studies.held_out = {config.studies.held_out} of studies.pseudoexperiments = "
            f"{config.studies.pseudoexperiments}: none is left to calibrate with; lower the first or raise the second"
        )
    for charge, events in study.events.items():
        model = NullModel.of(config, charge, events, study.background(charge))
        tasks[f"{charge}/data/analysis"] = (search_data, config, charge, events, model.flows)
        tasks[f"{charge}/data/like_nulls"] = (search_like_nulls, config, model, events)
        for index in range(config.studies.pseudoexperiments):
            tasks[f"{charge}/{index}"] = (search_null, config, model, index)
    records = work_off(study.ledger(leave_out=["studies.pseudoexperiments", "studies.held_out"]), tasks, study.pool,
                       "pseudoexperiments")  # fmt: skip
    summary = {charge: summarise(config, charge, records) for charge in study.events}
    study.write_table(TABLE, table(records))
    study.write_json(CALIBRATED, summary)
    return report(summary)


def search_null(config, model, index):
    """One pseudoexperiment, in a worker: {"seed", "member", "n_events", "rows"}; rows as `chain.headline`."""
    seed = integer_seed(config.seed, "pseudoexperiment", model.charge, index)
    config = steps.vary(config, {"seed": seed, "bdt.members": config.studies.members})
    events = model.sample(config, index, seed)
    outcome = steps.search(
        config, model.charge, events, model.background(config, index, events), Stream(seed), AtOnce()
    )
    rows = steps.headline(outcome)
    return {"seed": seed, "member": model.member(index), "n_events": len(events), "rows": rows}


def search_data(config, charge, events, flows):
    """The data themselves, as steps 4 to 6 search them."""
    background = ConditionalBackground.from_bytes(flows)
    return {"rows": steps.headline(steps.search(config, charge, events, background, Stream(config.seed), AtOnce()))}


def search_like_nulls(config, model, events):
    """The data themselves, searched as a null dataset is: with fewer classifiers, and without one of the flows."""
    config = steps.vary(config, {"bdt.members": config.studies.members})
    outcome = steps.search(
        config, model.charge, events, model.background(config, 0, events), Stream(config.seed), AtOnce()
    )
    return {"rows": steps.headline(outcome)}


def table(records):
    """Every significance of every null dataset: charge, experiment, seed, member, variable, fpr, z0, n_obs, ..."""

    def labels(key, record):
        charge, index = key.split("/")
        return {"charge": charge.upper(), "experiment": int(index), "seed": record["seed"], "member": record["member"]}

    nulls = {key: record for key, record in records.items() if "/data/" not in key}
    return ledger.table(nulls, labels, "pseudoexperiment")


def statistics(rows, fixed_fpr=FIXED_FPR):
    """The statistics of one dataset: {name of STATISTICS, and the FPR of each cut on the classifier: Z0}.

    A likelihood value that is not defined (no excess without a cut, as in half of all null datasets) counts as 0.
    """
    values = {row["variable"]: row["z0"] or 0.0 for row in rows if row["variable"] != "cathode"}
    values |= {row["fpr"]: row["z0"] for row in rows if row["variable"] == "cathode"}
    fprs = [name for name in values if isinstance(name, float)]
    return values | {"fixed": values[fprs[nearest(fprs, fixed_fpr)]]}


def summarise(config, charge, records):
    """Calibrated p-values, coverage and uniformity for one charge, as JSON values.

    data: of the data as the analysis searched them ("analysis") and as the nulls are searched ("like_nulls"): the
    second alone is a like-for-like comparison. uniformity: of the last nulls by the others; by_truth: of the nulls of
    one flow by those of the other flows.
    """
    nulls = [record for key, record in records.items() if key.startswith(f"{charge}/") and "/data/" not in key]
    done = [record for record in nulls if "failed" not in record]
    failures = [record["failed"] for record in nulls if "failed" in record]
    held_out = config.studies.held_out
    if len(done) <= held_out:
        first = f", the first with: {failures[0]}" if failures else ""
        raise UserError(
            f"{charge}: {len(done)} of {len(nulls)} pseudoexperiments succeeded and studies.held_out = {held_out} are "
            f"put aside{first}; lower studies.held_out"
        )
    values = [statistics(record["rows"]) for record in done]
    columns = {name: np.array([one[name] for one in values]) for name in values[0]}
    searched = {name: records[f"{charge}/data/{name}"] for name in ("analysis", "like_nulls")}
    for record in searched.values():
        if "failed" in record:
            raise UserError(f"{charge}: the data themselves failed: {record['failed']}")
    rng, member = generator(config.seed, "uniformity", charge), np.array([record["member"] for record in done])
    last = member == member.max()
    return {
        "n": len(nulls),
        "n_failed": len(failures),
        "failures": failures,
        "members": {"analysis": config.bdt.members, "like_nulls": config.studies.members},
        "reach": float(norm.isf(1 / len(nulls))),
        "data": {name: calibrate(record["rows"], columns, len(failures)) for name, record in searched.items()},
        "coverage": {
            name: [row.to_json() for row in calibration.coverage(columns[name], len(failures))] for name in STATISTICS
        },
        "uniformity": {
            name: calibration.uniformity(columns[name][-held_out:], columns[name][:-held_out], rng).to_json()
            for name in STATISTICS
        },
        "by_truth": {
            name: calibration.uniformity(columns[name][last], columns[name][~last], rng).to_json()
            for name in STATISTICS
        }
        if not last.all()
        else None,
    }


def calibrate(rows, nulls, n_failed):
    """Calibrated significances of the data: {statistic: {"local", "global", "asymptotic", "fpr"}}.

    rows: of `chain.headline`. nulls: {statistic or FPR: (n,) Z0}. The best cut has a local p-value, that of its own
    working point, and a global one, of the best of all working points. The others were not chosen among several
    (the best feature was: there only the global one exists).
    """
    found = {}
    for row in rows:
        name = row["variable"]
        if name == "cathode" or row["z0"] is None:
            continue
        overall = calibration.p_value(row["z0"], nulls[name], n_failed).to_json()
        local = overall if name in ("no_cut", "likelihood", "likelihood_pooled") else None
        if name == "cathode_max":
            local = calibration.p_value(row["z0"], nulls[row["fpr"]], n_failed).to_json()
        found[name] = {"asymptotic": row["z0"], "fpr": row["fpr"], "local": local, "global": overall}
    return found


def report(summary):
    """The summary in words, for the screen."""
    lines = []
    for charge, part in summary.items():
        lines.append(
            f"{charge}: {part['n']} null datasets, {part['n_failed']} failed (counted as above every value); beyond "
            f"{part['reach']:.2f} sigma they say nothing"
        )
        for searched, found in part["data"].items():
            lines.append(f"  data searched as {searched.replace('_', ' ')} ({part['members'][searched]} members):")
            lines += [
                f"    {name:<18}asymptotic {value['asymptotic']:.2f}, local {_words(value['local'])}, "
                f"global {_words(value['global'])}"
                for name, value in found.items()
            ]
        for name, rows in part["coverage"].items():
            fractions = ", ".join(f"{row['z0']:g}: {row['fraction']:.4f} ({row['expected']:.4f})" for row in rows)
            lines.append(f"  fraction of {name} above (asymptotic): {fractions}")
        for key, words in (("uniformity", "held-out p-values"), ("by_truth", "p-values of the nulls of another flow")):
            found = ", ".join(f"{name} {value['p']:.3f}" for name, value in (part[key] or {}).items())
            lines.append(f"  uniformity of {words}, KS p: {found or 'one flow only'}")
    return "\n".join([*lines, CAVEAT])


def _words(value):
    if value is None:
        return "-"
    if value["p"] is None:
        return f"none of {value['n']} above, Z0 > {value['z0_low']:.2f}"
    z0 = "-" if value["z0"] is None else f"{value['z0']:.2f}"
    return f"p = {value['p']:.4f} [{value['p_low']:.4f}, {value['p_high']:.4f}], Z0 = {z0}"
