"""Study: the whole chain on null datasets (paper, End Matter), and the p-values that it gives.

The best of many cuts, each placed by a classifier trained on the very events that are counted, need not follow the
asymptotic distribution. Here the distribution is counted: null datasets (`dimuon.nulls`) go through steps 4 to 6 (with
`studies.retrain_flows`, 3 to 6), and the data are compared with them.

Writes, under results/<name>/studies/: pseudoexperiments.parquet (every significance of every null dataset) and
pseudoexperiments.json (calibrated local and global p-values, coverage of the asymptotic ones, uniformity).
"""

import numpy as np
import pandas as pd

from dimuon import calibration, chain
from dimuon.errors import UserError
from dimuon.execution import AtOnce, generator, integer_seed
from dimuon.ledger import work_off
from dimuon.nulls import NullModel

FIXED_FPR = 0.1  # the working point whose coverage is shown beside that of the maximum
STATISTICS = ("cathode_max", "fixed", "likelihood", "likelihood_pooled", "best_feature", "no_cut")


def run(study):
    """Do the study; `study` is a `dimuon.studies.Study`."""
    config, tasks = study.config, {}
    if config.studies.held_out >= config.studies.pseudoexperiments:
        raise UserError(
            f"studies.held_out = {config.studies.held_out} of studies.pseudoexperiments = "
            f"{config.studies.pseudoexperiments}: none is left to calibrate with; lower the first or raise the second"
        )
    for charge, events in study.events.items():
        background = study.background(charge)
        model = NullModel.of(config, charge, events, background)
        for members in (config.bdt.members, config.studies.members):
            tasks[f"{charge}/data/{members}"] = (search_data, config, charge, events, model.flows, members)
        for index in range(config.studies.pseudoexperiments):
            tasks[f"{charge}/{index}"] = (search_null, config, model, index)
    records = work_off(study.ledger(leave_out=["studies.pseudoexperiments", "studies.held_out"]), tasks, study.pool,
                       "pseudoexperiments")  # fmt: skip
    summary = {charge: summarise(config, charge, records) for charge in study.events}
    study.write_table("pseudoexperiments.parquet", table(records))
    study.write_json("pseudoexperiments.json", summary)
    return report(summary)


def search_null(config, model, index):
    """One pseudoexperiment, in a worker: {"seed", "member", "n_events", "rows"}; rows as `chain.headline`."""
    seed = integer_seed(config.seed, "pseudoexperiment", model.charge, index)
    config = chain.vary(config, {"seed": seed, "bdt.members": config.studies.members})
    events = model.sample(config, index, seed)
    outcome = chain.search(config, model.charge, events, model.background(config, index, events), AtOnce())
    rows = chain.headline(outcome)
    return {"seed": seed, "member": model.member(index), "n_events": len(events), "rows": rows}


def search_data(config, charge, events, flows, members):
    """The data themselves through the same chain, with ensembles of `members` classifiers per fold."""
    background = chain.ConditionalBackground.from_bytes(flows)
    outcome = chain.search(chain.vary(config, {"bdt.members": members}), charge, events, background, AtOnce())
    return {"seed": config.seed, "member": -1, "n_events": len(events), "rows": chain.headline(outcome)}


def table(records):
    """Every significance of every null dataset: charge, experiment, seed, member, variable, fpr, z0, n_obs, ..."""
    frames = []
    for key, record in records.items():
        charge, index, *_ = key.split("/")
        if index != "data" and "failed" not in record:
            labels = {"charge": charge.upper(), "experiment": int(index)}
            labels |= {name: record[name] for name in ("seed", "member")}
            frames.append(pd.DataFrame(record["rows"]).assign(**labels))
    if not frames:
        raise UserError(f"all {len(records)} pseudoexperiments failed; look at the reasons above")
    frame = pd.concat(frames, ignore_index=True)
    return frame.astype({name: float for name in ("fpr", "z0", "n_obs", "n_bkg", "n_sig")} | {"valid": "boolean"})


def statistics(rows, fixed_fpr=FIXED_FPR):
    """The statistics of one dataset: {name of STATISTICS, and the FPR of each cut on the classifier: Z0}.

    A likelihood value that is not defined (no excess without a cut, as in half of all null datasets) counts as 0.
    """
    values = {row["variable"]: row["z0"] or 0.0 for row in rows if row["variable"] != "cathode"}
    values |= {row["fpr"]: row["z0"] for row in rows if row["variable"] == "cathode"}
    nearest = min((name for name in values if isinstance(name, float)), key=lambda fpr: abs(np.log(fpr / fixed_fpr)))
    return values | {"fixed": values[nearest]}


def summarise(config, charge, records):
    """Calibrated p-values, coverage and uniformity for one charge, as JSON values."""
    nulls = [record for key, record in records.items() if key.startswith(f"{charge}/") and "/data/" not in key]
    done = [statistics(record["rows"]) for record in nulls if "failed" not in record]
    failures = [record["failed"] for record in nulls if "failed" in record]
    if not done:
        raise UserError(f"{charge}: all {len(nulls)} pseudoexperiments failed, the first with: {failures[0]}")
    columns = {name: np.array([values[name] for values in done]) for name in done[0]}
    summary = {"n": len(nulls), "n_failed": len(failures), "failures": failures}
    summary |= {"members": config.bdt.members, "data": {}}  # those of step 6, and its searches by number of members
    for members in sorted({config.bdt.members, config.studies.members}):
        record = records[f"{charge}/data/{members}"]
        if "failed" in record:
            raise UserError(f"{charge}: the data themselves failed: {record['failed']}")
        summary["data"][str(members)] = calibrate(record["rows"], columns, len(failures))
    summary["coverage"] = {name: calibration.coverage(columns[name], len(failures)) for name in STATISTICS}
    held_out = config.studies.held_out
    rng = generator(config.seed, "uniformity", charge)
    summary["uniformity"] = {
        name: calibration.uniformity(columns[name][-held_out:], columns[name][:-held_out], rng) for name in STATISTICS
    }
    summary["reach"] = summary["data"][str(config.bdt.members)]["cathode_max"]["global"]["reach"]
    return summary


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
        overall = calibration.p_value(row["z0"], nulls[name], n_failed).asdict()
        local = overall if name in ("no_cut", "likelihood", "likelihood_pooled") else None
        if name == "cathode_max":
            local = calibration.p_value(row["z0"], nulls[row["fpr"]], n_failed).asdict()
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
        for members, found in part["data"].items():
            for name, value in found.items():
                lines.append(
                    f"  {name:<14}({members} members) asymptotic {value['asymptotic']:.2f}, "
                    f"local {_words(value['local'])}, global {_words(value['global'])}"
                )
        for name, rows in part["coverage"].items():
            fractions = ", ".join(f"{row['z0']:g}: {row['fraction']:.4f} ({row['expected']:.4f})" for row in rows)
            lines.append(f"  fraction of {name} above (asymptotic): {fractions}")
        lines.append("  uniformity of held-out p-values, KS p: " + ", ".join(
            f"{name} {value['p']:.3f}" for name, value in part["uniformity"].items()))  # fmt: skip
    return "\n".join(lines)


def _words(value):
    if value is None:
        return "-"
    if value["p"] is None:
        return f"none of {value['n']} above, Z0 > {value['z0_low']:.2f}"
    z0 = "-" if value["z0"] is None else f"{value['z0']:.2f}"
    return f"p = {value['p']:.4f} [{value['p_low']:.4f}, {value['p_high']:.4f}], Z0 = {z0}"
