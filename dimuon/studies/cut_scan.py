"""Study: simultaneous classical cuts on dimuon pT and both muons' IP3D (paper, "Scan Over Multiple Cuts").

The best of a hundred cuts is worth less than it says; how much less is counted in null datasets (`dimuon.studies.nulls`), which
have the correlations of the features with each other and with the mass that the flows learned.

Writes, under results/<name>/studies/: cut_scan.parquet (every cut on the data), cut_scan_toys.parquet (the best cut of
every null dataset) and cut_scan.json (best cut, local and corrected significance).
"""

import numpy as np
import pandas as pd

from dimuon.bumphunt import cut_and_count
from dimuon.errors import UserError
from dimuon.statistics import calibration, model_choice
from dimuon.statistics.likelihood_ratio import MIN_BACKGROUND
from dimuon.statistics.significance import discoveries
from dimuon.statistics.spectra import Spectra
from dimuon.studies.ledger import work_off
from dimuon.studies.nulls import NullModel
from dimuon.workflow.executor import integer_seed
from dimuon.workflow.products import FOUND, PRODUCTS, Product, study_maker

NEEDED = ("dimu_pt", "mu0_ip3d", "mu1_ip3d")
TOO_FEW_EVENTS = "no cut of the scan leaves enough events: loosen studies.scan_pt and studies.scan_ip3d"

MAKER = study_maker("cut_scan", "studies.pseudoexperiments", "studies.scan_pt", "studies.scan_ip3d")
CUTS = PRODUCTS.declare(
    Product(
        "cut_scan",
        "results/{name}/studies/cut_scan.parquet",
        MAKER,
        "the significance after every pair of classical cuts",
        ("charge", "pt_cut", "ip3d_cut", *FOUND, "n_bkg_err"),
    )
)
TOYS = PRODUCTS.declare(
    Product(
        "cut_scan_toys",
        "results/{name}/studies/cut_scan_toys.parquet",
        MAKER,
        "the best pair of cuts of every null dataset",
        ("charge", "experiment", "seed", "pt_cut", "ip3d_cut", "z0"),
    )
)
BEST = PRODUCTS.declare(
    Product("cut_scan_best", "results/{name}/studies/cut_scan.json", MAKER, "the best cut, local and corrected")
)


def run(study):
    """Do the study; `study` is a `dimuon.studies.study.Study`."""
    config, tasks, scans, best = study.config, {}, {}, {}
    missing = [name for name in NEEDED if name not in config.features.names]
    if missing:
        raise UserError(f"features.set: {missing[0]} is not among the features, so there is nothing to scan")
    done = study.ledger(leave_out=["studies.pseudoexperiments"])
    for charge, events in study.events.items():
        scans[charge] = scan(config, events)
        best[charge] = best_of(scans[charge])  # a scan that leaves nothing is said before the toys
        model = NullModel.of(config, charge, events, study.background(charge))
        for index in range(config.studies.pseudoexperiments):
            tasks[f"{charge}/{index}"] = (scan_null, config, model, index)
    records = work_off(done, tasks, study.pool, "cut scan")
    summary, toys = {}, []
    for charge, found in best.items():
        nulls = {key: value for key, value in records.items() if key.startswith(f"{charge}/")}
        good = [value for value in nulls.values() if "failed" not in value]
        n_failed = len(nulls) - len(good)
        corrected = calibration.p_value(found["z0"], [value["z0"] for value in good], n_failed)
        summary[charge] = {"best": found, "global": corrected.to_json(), "n": len(nulls), "n_failed": n_failed}
        toys.append(pd.DataFrame(good).assign(charge=charge.upper()))
    study.write_table(
        CUTS,
        pd.concat([cuts.assign(charge=charge.upper()) for charge, cuts in scans.items()], ignore_index=True),
    )
    study.write_table(TOYS, pd.concat(toys, ignore_index=True))
    study.write_json(BEST, summary)
    return report(summary)


def scan(config, events):
    """Every pair of cuts: a DataFrame with pt_cut [GeV], ip3d_cut [cm], n_obs, n_bkg, n_bkg_err, n_sig, z0, valid.

    Kept are events with dimuon pT at or above the one and both IP3D at or below the other. Where fewer than
    `MIN_BACKGROUND` events are left in the sidebands there is no fit (NaN, not valid).
    """
    names = config.features.names
    pt = events.features[:, names.index("dimu_pt")]
    ip3d = np.abs(events.features[:, [names.index(n) for n in NEEDED[1:]]])  # a few samples of the flows are negative
    cuts = [(p, d) for p in config.studies.scan_pt for d in config.studies.scan_ip3d]
    kept = np.array([(pt >= p) & (ip3d <= d).all(axis=1) for p, d in cuts])
    model = model_choice.model_of(config.significance, config.window)
    spectra = Spectra.of(events.mass, model.bins, selections=kept)
    enough = spectra.counts[:, :-1].sum(axis=1) >= MIN_BACKGROUND
    table = pd.DataFrame(cuts, columns=["pt_cut", "ip3d_cut"]).assign(n_obs=spectra.counts[:, -1], valid=False)
    fields = ["n_bkg", "n_bkg_err", "n_sig", "z0"]
    table[fields] = np.nan
    if enough.any():
        found = discoveries(spectra[enough], model)
        table.loc[enough, fields] = np.column_stack([getattr(found, name) for name in fields])
        table.loc[enough, "valid"] = found.valid
    return table


def best_of(cuts):
    """The most significant cut among the valid ones, as a dict. cuts: of `scan`. Raises `UserError` for none."""
    valid = cuts[cuts["valid"]]
    if valid.empty:
        raise UserError(TOO_FEW_EVENTS)
    return cut_and_count.plain(valid.loc[valid["z0"].idxmax()].to_dict())


def scan_null(config, model, index):
    """The best cut of one null dataset, in a worker: {"experiment", "seed", "pt_cut", "ip3d_cut", "z0"}."""
    seed = integer_seed(config.seed, "cut scan", model.charge, index)
    best = best_of(scan(config, model.sample(config, index, seed)))
    return {"experiment": index, "seed": seed} | {name: best[name] for name in ("pt_cut", "ip3d_cut", "z0")}


def report(summary):
    """The summary in words, for the screen."""
    lines = []
    for charge, part in summary.items():
        best, corrected = part["best"], part["global"]
        if corrected["p"] is None:
            words = f"none of {corrected['n']} null datasets reaches it: more than {corrected['z0_low']:.2f} sigma"
        elif corrected["z0"] is None:
            words = f"reached by all of {corrected['n']} null datasets"
        else:
            words = f"{corrected['z0']:.2f} sigma (p = {corrected['p']:.4f} of {corrected['n']} null datasets)"
        lines.append(
            f"{charge}: best of the cuts pT > {best['pt_cut']:g} GeV, IP3D < {best['ip3d_cut']:g} cm: "
            f"{best['z0']:.2f} sigma; corrected for the number of cuts: {words}; {part['n_failed']} failed"
        )
    return "\n".join(lines)
