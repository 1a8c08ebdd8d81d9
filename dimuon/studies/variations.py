"""Study: does the result depend on a choice? (paper, End Matter, "Systematic Variations", Fig. 4)

Every variation changes one choice and runs steps 4 to 6 again; flows are trained again only where the choice changes
what they learn, once for all variations that share them, and kept under data/<name>/studies/,
of another window under data/<name>/windows/<SR>/studies/.

Writes, under results/<name>/studies/: variations.parquet (every significance of every variation) and variations.json
(the baseline and the range of each kind of variation).
"""

import hashlib
import json
import logging
from pathlib import Path

from scipy.stats import norm

from dimuon.background.conditional import ConditionalBackground
from dimuon.bumphunt import steps
from dimuon.columns import Column
from dimuon.errors import UserError
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.studies import ledger
from dimuon.studies.ledger import FAILURES, fail, work_off
from dimuon.workflow import provenance
from dimuon.workflow.executor import AtOnce, integer_seed
from dimuon.workflow.products import FOUND, KEPT_FLOWS, PRODUCTS, STEP_3, Product, study_maker

log = logging.getLogger("dimuon")

FLOWS = {
    "slides' flow": {"estimator.hidden": 128, "estimator.epochs": 1000},
    "published file's flow": {"estimator.hidden": 20, "estimator.epochs": 400},
}
SHOWN = ("no_cut", "cathode_max", "best_feature", "likelihood")

MAKER = study_maker(
    "variations",
    "studies.variations",
    "studies.seeds",
    "studies.retrain_flows",
    "studies.sr_shift",
    "studies.sideband_shift",
)
TABLE = PRODUCTS.declare(
    Product(
        "variations",
        "results/{name}/studies/variations.parquet",
        MAKER,
        "the significances after every systematic variation",
        ("charge", "seed", "degree", "n_bins_sr", "variable", "fpr", "p0", *FOUND),
        own={
            "kind": Column("text", "group of variations that it belongs to"),
            "variation": Column("text", "what was changed"),
        },
    )
)
RANGES = PRODUCTS.declare(
    Product(
        "variations_ranges",
        "results/{name}/studies/variations.json",
        MAKER,
        "the baseline and the range of each kind of variation",
    )
)


def run(study):
    """Do the study; `study` is a `dimuon.studies.study.Study`."""
    chosen = choices(study.config)
    done, tasks = study.ledger(), {}
    for charge in study.events:
        for name, (_, changes) in chosen.items():
            key, varied = f"{charge}/{name}", steps.vary(study.config, changes)
            tasks[key] = () if key in done.records else task(study, varied, charge)  # done: no flows are needed
    records = work_off(done, tasks, study.pool, "variations")
    frame = table(study.config, chosen, records)
    study.write_table(TABLE, frame)
    summary = summarise(frame, records)
    study.write_json(RANGES, summary)
    return report(frame, summary)


def choices(config):
    """{name: (kind, {setting: value})} of the variations, the baseline first.

    `UserError` where a shift is too large for the window.
    """
    settings, window, studies = config.significance, config.window, config.studies
    makers = {
        "fits": lambda: [
            (f"degree {degree}, {n_bins_sr} bins", {
                "background.degree": degree, "background.n_bins_sr": n_bins_sr,
                "significance.degree": degree, "significance.n_bins_sr": n_bins_sr,
            })
            for degree in settings.degrees for n_bins_sr in settings.binnings
        ],
        "seeds": lambda: [
            (f"seed {index}", {"seed": integer_seed(config.seed, "variation", index)}) for index in range(studies.seeds)
        ],
        "sr_edges": lambda: [
            (f"SR {window.sr_low - shift:g}-{window.sr_high + shift:g} GeV", {"window": MassWindow(
                window.sb_low, window.sr_low - shift, window.sr_high + shift, window.sb_high)})
            for shift in (studies.sr_shift, -studies.sr_shift)
        ],
        "sideband_edges": lambda: [
            (f"window {low:g}-{high:g} GeV", {"window": MassWindow(low, window.sr_low, window.sr_high, high)})
            for low, high in (
                (window.sb_low + studies.sideband_shift, window.sb_high),
                (window.sb_low, window.sb_high - studies.sideband_shift),
            )
        ],
        "preprocessing": lambda: [
            (f"feature limits from {where}", {"features.limits_from": where}) for where in ("all", "sidebands")
        ],
        "flow": FLOWS.items,
    }  # fmt: skip
    chosen = {"baseline": ("baseline", {})}
    for kind in studies.variations:
        try:
            made = makers[kind]()
        except ValueError as error:
            raise UserError(f"studies.sr_shift or studies.sideband_shift is too large for {kind}: {error}") from error
        for name, changes in made:
            if steps.vary(config, changes) != config:
                chosen[name] = (kind, changes)
    return chosen


def task(study, varied, charge, seed=None):
    """One variation for `ledger.work_off`, its flows trained first where that is needed.

    seed: of everything but the flows (None: that of `varied`). Where the flows or the events cannot be had, as with a
    window that leaves too few events, the task is one that fails with that reason.
    """
    try:
        events, trained = study.read(varied, charge), flows(study, varied, charge)
    except FAILURES as error:
        return fail, error
    return search, varied if seed is None else steps.vary(varied, {"seed": seed}), charge, events, trained


def flows(study, varied, charge):
    """The trained flows for a varied configuration, as bytes: step 3's own, or trained here, once."""
    if not study.config.studies.retrain_flows:
        varied = steps.vary(varied, {"seed": study.config.seed})
    settings = provenance.chosen_settings(varied, STEP_3.settings)
    if settings == provenance.chosen_settings(study.config, STEP_3.settings):
        return study.background(charge).to_bytes()
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    window = None if varied.window == study.config.window else varied.window.label
    step = provenance.Run(varied, STEP_3.command, study.run.config_path, window)
    path = step.path(KEPT_FLOWS, charge=charge, digest=digest)
    if path.exists() and _is_whole(path):
        return path.read_bytes()
    log.info("%s: training the %s flows of another choice", path, charge)
    events = {each: study.read(varied, each) for each in study.events}
    scaler = steps.scaler_of(varied, events)
    background = steps.train_background(
        varied, charge, events[charge], scaler, Stream(varied.seed), study.pool, path.with_suffix(".checkpoint")
    )
    step.write_bytes(path, background.to_bytes(), study.files)
    return path.read_bytes()


def _is_whole(path):
    """Whether kept flows are as written and from the dimuons as they are now; their settings are in their name."""
    meta = provenance.sidecar(path)
    made_from = {path: meta["sha256"], **meta["inputs"]} if meta else {path: None}
    return all(Path(name).exists() and provenance.file_hash(name) == digest for name, digest in made_from.items())


def search(varied, charge, events, flow_bytes):
    """One variation, in a worker: {"seed", "rows"}; rows as `chain.headline`."""
    background = ConditionalBackground.from_bytes(flow_bytes)
    return {
        "seed": varied.seed,
        "rows": steps.headline(steps.search(varied, charge, events, background, Stream(varied.seed), AtOnce())),
    }


def table(config, chosen, records):
    """Every significance of every variation, a row each: labels, variable, fpr, z0, p0, n_obs, n_bkg, n_sig, valid."""

    def labels(key, record):
        charge, _, name = key.partition("/")
        kind, changes = chosen[name]
        varied = steps.vary(config, changes).significance
        return {"charge": charge.upper(), "kind": kind, "variation": name, "seed": record["seed"],
                "degree": varied.degree, "n_bins_sr": varied.n_bins_sr}  # fmt: skip

    frame = ledger.table(records, labels, "variation")
    return frame.assign(p0=norm.sf(frame["z0"]))


def summarise(frame, records):
    """{charge: {"failures": {variation: reason}, statistic: {"baseline", kind: {"n", "low", "median", "high"}}}}."""
    summary = {}
    for charge, part in frame.groupby("charge", sort=False):
        found = {}
        for variable in SHOWN:
            rows = part[part["variable"] == variable]
            found[variable] = {"baseline": None}
            for kind, of_kind in rows.groupby("kind", sort=False):
                z0 = of_kind["z0"].dropna()
                if kind == "baseline":
                    found[variable]["baseline"] = z0.item() if len(z0) else None
                elif len(z0):
                    found[variable][kind] = {
                        "n": len(z0), "low": z0.min(), "median": z0.median(), "high": z0.max()
                    }  # fmt: skip
        failed = {key.partition("/")[2]: record["failed"] for key, record in records.items()
                  if key.startswith(f"{charge.lower()}/") and "failed" in record}  # fmt: skip
        summary[charge.lower()] = found | {"failures": failed}
    return summary


def report(frame, summary):
    """The table of variations in words, for the screen."""
    lines = []
    for (charge, name), part in frame.groupby(["charge", "variation"], sort=False):
        rows = part.set_index("variable")
        words = [f"{rows.loc[variable, 'z0']:>6.2f}" for variable in SHOWN]
        fpr = rows.loc["cathode_max", "fpr"]
        lines.append(f"{charge:<3}{name:<32}{''.join(words)}   best cut at FPR {fpr:.3g}")
    head = f"{'':<3}{'Z0':<32}{''.join(f' {name[:5]:>5}' for name in ('no cut', 'cut', 'feature', 'likelihood'))}"
    failures = [f"{charge}: {name} failed: {reason}" for charge, part in summary.items()
                for name, reason in part["failures"].items()]  # fmt: skip
    return "\n".join([head, *lines, *failures])
