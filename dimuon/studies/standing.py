"""What the studies say of the headline numbers, in lines that stand beside them wherever they are shown."""

from dimuon.workflow import provenance
from dimuon.workflow.products import PRODUCTS

NAMES = {
    "cathode_max": "best classifier cut", "likelihood": "likelihood", "likelihood_pooled": "likelihood, one scale",
}  # fmt: skip


def lines(folder, run=None):
    """The verdict of the controls and the calibrated significances, in words: a list of lines.

    folder: results/<name> of the analysis. run: `artifacts.Run`, to say where a study was made with other settings or
    from other files (None: not looked at).
    """
    said = []
    for product, say in (("controls_verdicts", _controls), ("pseudoexperiments_calibrated", _calibrated)):
        path, maker = PRODUCTS[product].at(folder), PRODUCTS[product].maker
        name = maker.name
        if not path.exists():
            said.append(f"{name}: not made yet (python {maker.command} CONFIG.yaml)")
        elif run is not None and (reason := run.stale(path)):
            said.append(f"{name}: out of date ({reason})")
        else:
            said += say(provenance.load_json(path))
    return said


def _controls(content):
    """The verdict in one line. content: of controls.json."""
    failed = [name for name, control in content["controls"].items() if not control["passed"]]
    if failed:
        return [f"controls without a signal: NOT PASSED by {', '.join(failed)}; {content['criterion']}"]
    return [f"controls without a signal: passed by {', '.join(content['controls'])}"]


def _calibrated(content):
    """The p-values counted in null datasets, a line for each charge. content: of pseudoexperiments.json."""
    said = []
    for charge, part in content.items():
        data = part["data"]["like_nulls"]
        found = [f"{words} {_global(data[name])}" for name, words in NAMES.items() if data.get(name)]
        said.append(
            f"{charge}, calibrated by {part['n']} null datasets ({part['n_failed']} failed): {'; '.join(found)}; "
            f"beyond {part['reach']:.1f} sigma they say nothing"
        )
    return said


def _global(found):
    value, words = found["global"], f"{found['asymptotic']:.1f} sigma"
    if value["p"] is None:
        return f"{words} is above all of them (global Z0 > {value['z0_low']:.1f})"
    z0 = "" if value["z0"] is None else f" (Z0 = {max(value['z0'], 0):.1f})"
    return f"{words} has global p = {value['p']:.3g}{z0}"
