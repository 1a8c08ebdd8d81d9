"""Study: the chain where there is no signal, as a gate before any significance is believed.

Two kinds of controls: the SS dimuons in the search window, and the OS dimuons with the signal region moved into each
sideband, the real signal region left out altogether. Each control runs steps 4 to 6 with several seeds, on flows
trained for its window. It passes where the median Z0 over the seeds and its spread (standard deviation) are both below
one at each of the gate's working points and for the likelihood (criterion of arXiv:2502.09770, section V E). The
working points are fixed beforehand: the best of many would exceed one by being the best of many.

One dataset without any signal still exceeds Z0 = 1 in 16 % of all cases at a given working point: a failed control is a
reason to look, a passed one no proof.

Writes, under results/<name>/studies/: controls.parquet (every significance of every seed) and controls.json.
"""

from dimuon.bumphunt import steps
from dimuon.columns import Column
from dimuon.errors import UserError
from dimuon.regions import MassWindow
from dimuon.studies import ledger, variations
from dimuon.studies.ledger import work_off
from dimuon.workflow.executor import integer_seed
from dimuon.workflow.products import FOUND, PRODUCTS, Product, study_maker

LIMIT = 1.0  # of the median Z0 and of its spread
CRITERION = "median Z0 over seeds and its standard deviation below 1 at each working point (arXiv:2502.09770, V E)"

MAKER = study_maker("controls", "studies.members", "studies.seeds", "studies.gate_fprs")
TABLE = PRODUCTS.declare(
    Product(
        "controls",
        "results/{name}/studies/controls.parquet",
        MAKER,
        "the significances where there is no signal",
        ("seed", "variable", "fpr", *FOUND),
        own={"control": Column("text", 'where there is no signal: "ss", or the OS window shifted into a sideband')},
    )
)
VERDICTS = PRODUCTS.declare(
    Product("controls_verdicts", "results/{name}/studies/controls.json", MAKER, "which controls pass, and how clearly")
)


def run(study):
    """Do the study; `study` is a `dimuon.studies.study.Study`."""
    config, done, tasks = study.config, study.ledger(), {}
    for name, (charge, window) in controls(config, study.events).items():
        varied = steps.vary(config, {"window": window, "bdt.members": config.studies.members})
        for index in range(config.studies.seeds):
            key, seed = f"{name}/{index}", integer_seed(config.seed, "control", name, index)
            tasks[key] = () if key in done.records else variations.task(study, varied, charge, seed)
    if not tasks:
        raise UserError("selection.charges: neither ss nor os dimuons, so there is no control")
    records = work_off(done, tasks, study.pool, "controls")
    frame = table(records)
    summary = verdict(frame, records, config.studies.gate_fprs)
    study.write_table(TABLE, frame)
    study.write_json(VERDICTS, summary)
    return report(summary)


def controls(config, charges):
    """{name: (charge, `MassWindow`)} of the controls that the given charges allow."""
    found = {}
    if "ss" in charges:
        found["ss"] = ("ss", config.window)
    if "os" in charges:
        for side, window in zip(("low", "high"), shifted(config.window), strict=True):
            found[f"os_{side}_sideband"] = ("os", window)
    return found


def shifted(window):
    """The windows with the SR, as wide as it is, in the middle of the low and of the high sideband.

    Each ends where the real SR begins. In a sideband narrower than two SR widths the SR is half of it.
    """
    windows = []
    for low, high in ((window.sb_low, window.sr_low), (window.sr_high, window.sb_high)):
        half = min(window.sr_high - window.sr_low, (high - low) / 2) / 2
        middle = (low + high) / 2
        windows.append(MassWindow(low, round(middle - half, 6), round(middle + half, 6), high))
    return tuple(windows)


def table(records):
    """Every significance of every seed: control, seed, variable, fpr, z0, n_obs, n_bkg, n_sig, valid."""
    return ledger.table(
        records, lambda key, record: {"control": key.partition("/")[0], "seed": record["seed"]}, "control"
    )


def verdict(frame, records, gate_fprs):
    """{"passed", "criterion", "controls": {name: {"passed", "n_seeds", "n_failed", "points": [...]}}}.

    Each point has what, gate (it counts), median, spread and passed. The likelihood without an excess in the unweighted
    fit has Z0 = 0. A control with a failed seed does not pass. The best cut is shown and does not count.
    """
    found = {}
    names = dict.fromkeys(key.partition("/")[0] for key in records)
    for name in names:
        part = frame[frame["control"] == name]
        failures = [r["failed"] for key, r in records.items() if key.startswith(f"{name}/") and "failed" in r]
        points = [_point(f"FPR {fpr:g}", _nearest(part, fpr), True) for fpr in gate_fprs] if len(part) else []
        for variable, gate in (("likelihood", True), ("no_cut", False), ("cathode_max", False)):
            if len(part):
                points.append(_point(variable, part[part["variable"] == variable], gate))
        passed = bool(points) and not failures and all(point["passed"] for point in points if point["gate"])
        found[name] = {"passed": passed, "n_seeds": int(part["seed"].nunique()), "n_failed": len(failures),
                       "failures": failures, "points": points}  # fmt: skip
    return {
        "passed": all(part["passed"] for part in found.values()),
        "criterion": CRITERION,
        "controls": found,
    }


def _nearest(frame, fpr):
    cathode = frame[frame["variable"] == "cathode"]
    distance = (cathode["fpr"] / fpr - 1).abs()
    return cathode[distance <= distance.min() * (1 + 1e-9) + 1e-12]


def _point(what, rows, gate):
    z0 = rows["z0"].fillna(0.0)
    median, spread = float(z0.median()), float(z0.std(ddof=1)) if len(z0) > 1 else 0.0
    return {
        "what": what,
        "gate": gate,
        "median": median,
        "spread": spread,
        "passed": median < LIMIT and spread < LIMIT,
    }


def report(summary):
    """The verdicts in words, for the screen."""
    lines = [f"controls: {'passed' if summary['passed'] else 'NOT PASSED'} ({summary['criterion']})"]
    for name, part in summary["controls"].items():
        words = ", ".join(
            f"{point['what']} {point['median']:.2f} +- {point['spread']:.2f}"
            + " (not in the gate)" * (not point["gate"])
            for point in part["points"]
        )
        state = "passed" if part["passed"] else "NOT PASSED"
        lines.append(f"  {name}: {state}, {part['n_seeds']} seeds, {part['n_failed']} failed: {words}")
    return "\n".join(lines)
