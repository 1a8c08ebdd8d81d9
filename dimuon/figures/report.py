"""One self-contained page that tells the story of an analysis: numbers, verdicts, figures, provenance."""

import base64
import importlib.resources
import math
from itertools import groupby

import jinja2

from dimuon.figures.style import CHARGE_NAMES, describe_test, fpr_name
from dimuon.statistics import model_choice
from dimuon.studies import standing
from dimuon.workflow import products, provenance

# what a check must reach to pass
P_DOUBTFUL = 0.01  # p-value of the sideband fit
AUC_CLOSED = 0.53  # of a classifier that tells sampled from real sideband events
AUC_INTERPOLATED = 0.55  # the same in windows of mass that the flows did not see
KS_CLOSED = 0.025  # distance of each feature
N_FLAGGED = 2  # working points flagged at the 1 % level; of 24 clean ones, 0.24 are expected to be
Z_QUIET = 3.0  # local significance of the best of all cuts in the same-sign control

SECTIONS = (
    "Opposite-sign search", "Same-sign control", "Cross-applications", "Robustness", "Classifier", "Background model",
    "Data",
)  # fmt: skip


def page(saved, drawings, files):
    """The HTML text of the report.

    saved: `gallery.Saved` after the drawings were made. drawings: of `gallery.drawings`. files: {name: {suffix: path}}.
    """
    config = saved.run.config
    summary = saved.summary
    origin, checks = saved.origin, verdicts(saved)
    context = {
        "name": config.name,
        "origin": origin,
        "origin_label": provenance.ORIGIN_LABELS[origin],
        "warnings": warnings(origin, summary, saved, checks),
        "headline": headline(summary),
        "cutflow": cutflow(saved),
        "standing": standing.lines(saved.run.results, saved.run),
        "verdicts": checks,
        "settings": settings_in_words(config),
        "sections": _sections(drawings, files),
        "missing": sorted((str(path), remedy) for path, remedy in saved.missing.items()),
        "not_made": not_made(saved),
        "provenance": provenance_table(saved),
        "versions": provenance.versions(),
        "commit": provenance.git_commit(),
        "seed": config.seed,
        "config_path": saved.run.config_path,
        "steps": steps(config),
    }
    return _environment().get_template("report.html").render(context)


def steps(config):
    """[(command, whether it is optional)] that an analysis takes, in the order in which they are run."""
    given = config.input
    numbered = [maker.command for maker in products.STEPS]
    first = 5 if given.scores is not None else 2 if given.dimuons is not None else 0
    optional = [
        maker.command
        for maker in products.PRODUCTS.studies()
        if given.scores is None and (maker != products.CONVERGENCE.maker or config.bdt.keeps_members)
    ]
    *before, last = numbered[first:]
    return [*((step, False) for step in before), *((step, True) for step in optional), (last, False)]


def _environment():
    folder = importlib.resources.files("dimuon.figures") / "templates"
    loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(z=z_text, p=p_text, events=events_text)
    return environment


def z_text(value):
    """A significance in words: "5.7σ", or a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.1f}σ"


def p_text(value):
    """A p-value in words, two digits."""
    if value is None or not math.isfinite(value):
        return "–"
    if value >= 0.01:
        return f"{value:.2f}"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}·10" + str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def events_text(value):
    """A number of events: whole where it is, one decimal where not."""
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:,.1f}"


def _ordered(summary):
    """The tests of `significance.json`, the matched ones first; none where there is no summary."""
    return sorted((summary or {"tests": {}})["tests"].values(), key=lambda test: test["train"] != test["test"])


def headline(summary):
    """Rows of the headline table, one per train-test combination, as dicts."""
    if summary is None:
        return []
    rows = []
    for test in _ordered(summary):
        best, cathode, likelihood = test["best_feature"], test["cathode_max"], test["likelihood"]
        rows.append({
            "what": describe_test(test["train"], test["test"]),
            "n_events": test["n_events"],
            "no_cut": test["no_cut"],
            "best": best,
            "best_name": best["variable"] if best else None,
            "best_fpr": fpr_name(best["fpr"]) if best else None,
            "cathode": cathode,
            "cathode_fpr": fpr_name(cathode["fpr"]) if cathode else None,
            "likelihood": likelihood,
            "likelihood_reason": test["likelihood_reason"],
            "global": {"bound": False} | test["global"] if test.get("global") else None,
            "sidebands": test["sidebands"],
        })  # fmt: skip
    return rows


def _likelihood_bias(test):
    """The bias of the weighted test on background alone in a sentence, where it is more than three of its errors."""
    behaviour, pooled = test.get("likelihood_calibration"), test.get("likelihood_pooled")
    if not behaviour or abs(behaviour["mean"]) < 3 * behaviour["std"] / math.sqrt(behaviour["n_toys"]):
        return None
    return (
        f"on background alone the likelihood value reads {behaviour['mean']:+.2f}σ on the mean "
        f"({behaviour['n_toys']} bootstrap toys); with one scale of the weights for all sidebands it is "
        f"{z_text(pooled['z0'])}."
    )


def warnings(origin, summary, saved, checks):
    """What must be known before any number is believed, one sentence each. checks: of `verdicts`."""
    said = []
    if origin == "simulated":
        said.append(
            "SIMULATED: the events are a toy, made by dimuon.simulation.nanoaod_files. No number here is a measurement."
        )
    if origin == "rebuilt":
        said.append(
            "The masses are measured CMS data; part of the features is REBUILT (column features_measured of the dimuon "
            "table). Significances after a cut depend on them and are not a measurement."
        )
    simulated = [path.stem for path in saved.used if provenance.origin_of(path) == "simulated"]
    if origin != "simulated" and simulated:
        said.append(f"SIMULATED signal is used in {', '.join(simulated)}, and nowhere else on this page.")
    failed = [verdict["check"] for verdict in checks if verdict["verdict"] == _verdict(False)]
    if failed:
        said.append(f"Checks that fail: {'; '.join(failed)}.")
    for test in _ordered(summary):
        best, what = test["cathode_max"], describe_test(test["train"], test["test"])
        if best and not best["valid"]:
            said.append(
                f"{what}: the largest significance ({z_text(best['z0'])} at FPR {fpr_name(best['fpr'])}) stands where "
                "too few events are left for the asymptotic formula."
            )
        if best and best.get("sculpted"):
            said.append(
                f"{what}: the cut of the largest significance (FPR {fpr_name(best['fpr'])}) is flagged: it shapes the "
                "mass in the sidebands."
            )
        if biased := _likelihood_bias(test):
            said.append(f"{what}: {biased}")
    if saved.missing:
        said.append(f"{len(saved.missing)} files of this analysis are missing or out of date; see “What is missing”.")
    commits = {provenance.sidecar(path).get("git_commit") for path in saved.used} - {None}
    if len(commits) > 1:
        said.append(f"The files were made with {len(commits)} different commits of the source; see “Provenance”.")
    if (commit := provenance.git_commit()) and commit.endswith("+changes"):
        said.append("Made with source files that differ from the commit named below.")
    return said


def verdicts(saved):
    """What the checks say, one dict (check, verdict, seen) each, for those whose files are there."""
    said, model = [], _capital(model_choice.describe(saved.config.significance))
    for test in _ordered(saved.summary):
        if test["train"] != test["test"]:
            continue  # the same sample, tested above
        fit, what = test["sidebands"], describe_test(test["train"], test["test"])
        said.append({
            "check": f"{model} describes the sidebands, {what}", "verdict": _verdict(fit["p_chi2"] >= P_DOUBTFUL),
            "seen": f"χ² = {fit['chi2']:.1f} for {fit['ndf']} degrees of freedom, p = {p_text(fit['p_chi2'])}",
        })  # fmt: skip
        if test["test"] == "ss" and (best := test["cathode_max"]):
            seen = f"largest local significance {z_text(best['z0'])} at FPR {fpr_name(best['fpr'])}"
            quiet = best["z0"] < Z_QUIET
            said.append(
                {
                    "check": "No signal where there is none (same sign)",
                    "verdict": _verdict(quiet),
                    "seen": seen,
                }
            )
    for charge in saved.charges if saved.config.input.scores is None else ():
        tests = saved.json(saved.run.path(products.CLOSURE, charge=charge)) or {}
        if whole := tests.get("sidebands", {}).get("sidebands"):
            largest = max(value["distance"] for value in whole["ks"].values())
            seen = f"AUC {whole['auc']:.3f} ± {whole['auc_err']:.3f}, largest KS distance {largest:.3f}"
            closes = whole["auc"] < AUC_CLOSED and largest < KS_CLOSED
            name = f"Samples agree with the {CHARGE_NAMES[charge]} sidebands"
            said.append({"check": name, "verdict": _verdict(closes), "seen": seen})
        for test, what, limit in (
            ("half_split", f"half of the {CHARGE_NAMES[charge]} sidebands", AUC_CLOSED),
            ("shifted_windows", f"{CHARGE_NAMES[charge]} windows of mass", AUC_INTERPOLATED),
        ):
            records = {place: record for place, record in tests.get(test, {}).items() if "auc" in record}
            if records:
                closes = all(record["auc"] < limit for record in records.values())
                seen = ", ".join(f"{place}: {r['auc']:.3f} ± {r['auc_err']:.3f}" for place, r in records.items())
                name = f"Samples agree with {what} that the flows did not see"
                said.append({"check": name, "verdict": _verdict(closes), "seen": f"AUC in {seen}"})
    return said + sculpting(saved) + controls(saved)


def controls(saved):
    """Verdicts of the study of samples without a signal, where it was made."""
    path = saved.run.path(products.PRODUCTS["controls_verdicts"])
    content = saved.optional(path) if saved.config.input.scores is None else None
    return [
        {
            "check": f"No signal in the control {name.replace('_', ' ')}",
            "verdict": _verdict(control["passed"]),
            "seen": f"Z0 over {control['n_seeds']} seeds ({control['n_failed']} failed): {_gate(control['points'])}; "
            f"asked is a {content['criterion']}",
        }
        for name, control in (content or {"controls": {}})["controls"].items()
    ]


def _gate(points):
    """The median and spread at each point of the gate, in words."""
    return ", ".join(
        f"{point['what']} {point['median']:.2f} ± {point['spread']:.2f}" for point in points if point["gate"]
    )


def not_made(saved):
    """[(what, how to get it)] of the parts that an analysis may do without and this one does."""
    config, path = saved.config, saved.run.config_path
    first = next(step for step, _ in steps(config) if not step.startswith("01"))
    found = []
    if "ss" not in saved.charges:
        remedy = f"add ss to selection.charges, run `python {first} {path}` and the steps after it"
        found.append(("same-sign control", remedy))
    if config.significance.toys.scan == 0:
        found.append(("global significance", f"set significance.toys.scan, run `python 06_significance.py {path}`"))
    if saved.run.path(products.CONVERGENCE) in saved.not_made and not config.bdt.keeps_members:
        found.append(("members for the convergence", f"set bdt.keep_members, run `python 05_train_bdts.py {path}`"))
    studies = {remedy: file.stem.replace("_", " ") for file, remedy in saved.not_made.items()}
    return found + [(what, remedy) for remedy, what in studies.items()]


def sculpting(saved):
    """Verdicts on whether the scores know the mass in the sidebands, one per matched test."""
    said = []
    for charge in saved.charges if saved.config.input.scores is None else ():
        same = {"train": charge, "test": charge}
        record = saved.json(saved.run.path(products.SCULPTING_TEST, **same))
        table = saved.table(saved.run.path(products.SCULPTING, **same))
        if record is None or table is None:
            continue
        flagged = table.groupby("fpr")["sculpted"].any()
        p_values = {name: record[name]["p_value"] for name in ("spearman", "distance_correlation")}
        shown = ", ".join(f"{name.replace('_', ' ')} p = {p_text(value)}" for name, value in p_values.items())
        below_one = flagged[flagged.index < 1]  # a cut that keeps everything cannot sculpt
        said.append({
            "check": f"Cuts do not sculpt the mass in the {CHARGE_NAMES[charge]} sidebands",
            "verdict": _verdict(below_one.sum() <= N_FLAGGED),
            "seen": f"{below_one.sum()} of {len(below_one)} working points flagged; score against mass: {shown}",
        })  # fmt: skip
    return said


def _capital(words):
    return words[0].upper() + words[1:]


def _verdict(passed):
    return "passes" if passed else "FAILS"


def cutflow(saved):
    """Header and rows of the cutflow table in words, or None where the analysis starts later."""
    if saved.config.input.dimuons is not None or saved.config.input.scores is not None:
        return None
    content = saved.json(saved.run.path(products.CUTFLOW))
    if content is None:
        return None
    header = ["Step", "All", "Opposite sign", "efficiency", "Same sign", "efficiency"]
    rows = []
    for step in content["steps"]:
        cells = [step["name"], _count(step["events"]["all"])]
        for charge in ("os", "ss"):
            cells += [_count(step["events"][charge]), _percent(step["efficiency"][charge])]
        rows.append(cells)
    return {"header": header, "rows": rows}


def _count(value):
    return "–" if value is None else f"{value:,}"


def _percent(value):
    return "–" if value is None else f"{100 * value:.3g} %"


def settings_in_words(config):
    """The settings of an analysis as sentences, in the order of the steps."""
    window, flow, bdt, test = config.window, config.flow, config.bdt, config.significance
    given = config.input.model_dump(exclude_none=True)
    source = next(
        f"{name} = {value}" for name, value in given.items() if name not in ("certified_luminosity", "triggers")
    )
    return [
        f"Input: {source}.",
        f"Selection: the two hardest muons that pass {config.selection.muon_id}, trigger {config.selection.trigger}, "
        f"{_cuts_in_words(config.selection.cuts)}; anti-isolation {_cuts_in_words(config.selection.anti_isolation)}.",
        f"Mass window: low sideband {window.sb_low:g}–{window.sr_low:g} GeV, signal region {window.sr_low:g}–"
        f"{window.sr_high:g} GeV, high sideband {window.sr_high:g}–{window.sb_high:g} GeV.",
        f"Features: {', '.join(config.features.names)}; scaled with limits from {config.features.limits_from} events.",
        f"Flows: {flow.members} members of kind {flow.kind}, {flow.blocks} blocks of {flow.hidden} hidden features, "
        f"up to {flow.epochs} epochs, batches of {flow.batch_size}, learning rate {flow.learning_rate:g}.",
        f"Background: a polynomial of degree {config.background.degree} in the sidebands, "
        f"{config.background.n_bins_sr} bins over the signal region, {config.background.oversampling:g} sampled events "
        "per expected one.",
        f"Classifier: {bdt.members} members in {bdt.folds} folds; the mass is never given to it.",
        f"Test: {model_choice.describe(test)}, {test.n_bins_sr} bins over the signal region, "
        f"{test.n_working_points} working points from FPR 1 to {test.fpr_min:g}.",
    ]


def _cuts_in_words(cuts):
    ends = [
        f"{name} {sign} {value:g}"
        for name, cut in cuts.items()
        for sign, value in ((">", cut.min), ("<", cut.max))
        if value is not None
    ]
    return ", ".join(ends) or "none"


def _sections(drawings, files):
    """[(heading, anchor, figures)] in the order of `SECTIONS`, each figure with its image and numbers inside."""
    order = {name: rank for rank, name in enumerate(SECTIONS)}
    ranked = sorted(drawings, key=lambda drawing: order[drawing.section])
    return [
        (
            heading,
            heading.lower().replace(" ", "-"),
            [_embedded(drawing, files[drawing.name]) for drawing in part],
        )
        for heading, part in groupby(ranked, key=lambda drawing: drawing.section)
    ]


def _embedded(drawing, paths):
    return {
        "name": drawing.name,
        "title": drawing.title,
        "caption": drawing.caption,
        "origin": provenance.ORIGIN_LABELS[drawing.origin],
        "png": base64.b64encode(paths["png"].read_bytes()).decode(),
        "csv": base64.b64encode(paths["csv"].read_bytes()).decode(),
        "rows": len(drawing.table),
    }


def provenance_table(saved):
    """One row per file the report rests on: what its sidecar says."""
    rows = []
    for path in saved.used:
        meta = provenance.sidecar(path)
        rows.append({
            "path": str(path), "step": meta.get("step", "given by the user"), "origin": meta.get("origin", "–"),
            "sha256": provenance.file_hash(path), "rows": meta.get("rows"), "seed": meta.get("seed"),
            "commit": meta.get("git_commit"), "written": meta.get("written", "–"),
            "wall_time_s": meta.get("wall_time_s"),
        })  # fmt: skip
    return sorted(rows, key=lambda row: (row["step"], row["path"]))
