"""No input that a user can hand in ends in a traceback: any table, any value of a configuration, any ROOT structure.

100 examples of each, always the same; `HYPOTHESIS_PROFILE=thorough`, as in `make slow`, takes 2,000 at random.
"""

import contextlib
import copy
import importlib.util
import io
import os
import random
import resource
import string
from pathlib import Path
from unittest import mock

import awkward as ak
import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
import yaml
from hypothesis import strategies as st

from dimuon.bumphunt import steps
from dimuon.commands import inspect
from dimuon.data import skim, sources
from dimuon.data.manifest_entry import ManifestEntry
from dimuon.errors import UserError
from dimuon.workflow import cli, config, executor
from dimuon.workflow.provenance import Run
from tests import nanoaod_files
from tests.conftest import ROOT

COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
}
hypothesis.settings.register_profile("quick", max_examples=100, derandomize=True, **COMMON)
hypothesis.settings.register_profile("thorough", max_examples=2000, **COMMON)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(call):
    """What a step that does `call` says on standard error: a line, or nothing. It must not be a traceback."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = cli.guarded("step", call)
    assert code in (0, 2), said.getvalue()
    assert said.getvalue().count("\n") == (code != 0)
    return said.getvalue()


# configurations -------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from([
    "name", "seed", "input", "dimuons", "table", "file", "mass", "files", "record", "window", "sb_low", "sr_low",
    "features", "set", "define", "label", "unit", "range", "log", "estimator", "kind", "members", "bdt", "classifier",
    "significance", "degree", "n_bins_sr", "toys", "scan", "studies", "execution", "workers", "cuts", "min", "mine",
])  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.integers(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(
        ["", "os", "maf", "xgboost", "a.parquet", "$HOME", "${X}", "~", "1e3", "{", "$m_{jj}$", "a\nb", "é"]
    ),
    st.text(max_size=6),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
VALID = {
    "name": "a",
    "seed": 1,
    "input": {"table": {"file": "t.parquet", "mass": "m", "cuts": {"x": {"min": 0.0}}}},
    "window": {"sb_low": 2.6, "sr_low": 3.2, "sr_high": 3.8, "sb_high": 5.0},
    "mass": {"unit": "TeV"},
    "features": {"set": ["x"], "define": {"x": {"label": "x", "range": [0.0, 1.0]}}},
    "estimator": {"kind": "maf", "members": 1},
    "background": {"degree": 3},
    "bdt": {"folds": 5, "classifier": {"kind": "xgboost"}},
    "significance": {"degree": 3, "toys": {"local": 0}, "figure_fprs": [1.0]},
    "studies": {"injected": [0, 25]},
    "execution": {"workers": 2},
}


def places(value, place=()):
    """The places of all values in a configuration."""
    yield place
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*place, key))


def changed(content, place, value):
    """A configuration with another value at a place."""
    content = copy.deepcopy(content)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return content


@pytest.mark.slow
@hypothesis.given(st.sampled_from([place for place in places(VALID) if place]), VALUES, st.none() | KEYS)
def test_any_value_anywhere_in_a_configuration(place, value, further):
    content = changed(VALID, place if further is None else (*place[:1], further), value) if (
        further is None or isinstance(VALID[place[0]], dict)
    ) else changed(VALID, (further,), value)  # fmt: skip
    Path("a.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")

    def load():
        chosen = config.load("a.yaml")
        chosen.dataset, chosen.declared_columns, chosen.model_dump(mode="json")

    told(load)


@pytest.mark.slow
@hypothesis.given(
    st.text(alphabet=string.printable + "é\0\t", max_size=60) | st.binary(max_size=40), st.integers(0, 600)
)
def test_any_text_in_a_configuration(text, position):
    whole = yaml.safe_dump(VALID).encode()
    content = text if isinstance(text, bytes) else text.encode()
    Path("a.yaml").write_bytes(whole[:position] + content + whole[position:])
    told(lambda: config.load("a.yaml") and None)


# tables ---------------------------------------------------------------------------------------------------------------

N_ROWS = 40
REALS = st.one_of(
    st.floats(2.6, 5.0), st.floats(), st.sampled_from([0.0, -0.0, np.nan, np.inf, 1e30, -1e308, 5e-324, 3.5])
)


@st.composite
def columns(draw):
    """A column of any kind, of `N_ROWS` values."""
    kind = draw(
        st.sampled_from(["spectrum", "reals", "one", "kinds", "integers", "truths", "lists", "other", "nested"])
    )
    rng = np.random.default_rng(draw(st.integers(0, 5)))
    if kind == "spectrum":
        return pa.array(
            rng.uniform(2.6, 5.0, N_ROWS).astype(draw(st.sampled_from([np.float16, np.float32, np.float64])))
        )
    if kind == "one":
        return pa.array([draw(REALS)] * N_ROWS)
    few = {
        "reals": REALS | st.none(),
        "kinds": st.sampled_from(["OS", "SS", "os ", "", "1", "9,5", None, "True", "é"]),
        "integers": st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1, None]),
        "truths": st.booleans() | st.none(),
        "lists": st.lists(st.floats(0, 9), max_size=2),
        "other": st.sampled_from([pd.Timestamp(0), None]),
        "nested": st.sampled_from([{"a": 1.0}, {"a": None}]),
    }[kind]
    values = pa.array(draw(st.lists(few, min_size=1, max_size=4)))
    whole = pa.concat_arrays([values] * N_ROWS)[:N_ROWS]
    is_dictionary = kind in ("kinds", "reals") and whole.null_count < N_ROWS and draw(st.booleans())
    return whole.dictionary_encode() if is_dictionary else whole


NAMES = st.sampled_from(["m", "x", "charge", "anti_isolated", "score", "weight", "row", "region", "event", "dimu_mass"])
SPECTRUM = pa.array(2.6 + 2.4 * np.random.default_rng(2).beta(1, 2, N_ROWS))
FEATURE = pa.array(np.random.default_rng(3).normal(0, 1, N_ROWS))
SCORE = pa.array(np.random.default_rng(4).uniform(0, 1, N_ROWS))
INPUTS = {
    "table": {"table": {"file": "t.parquet", "mass": "m"}},
    "cut": {
        "table": {"file": "t.parquet", "mass": "m + 0 * x", "columns": {"x": "x * 1"}, "cuts": {"x": {"min": 0.0}}}
    },
    "split": {"table": {"file": "t.parquet", "mass": "m", "split": {"all": "charge == 'OS'"}}},
    "csv": {"table": {"file": "t.csv", "mass": "m"}},
    "root": {"table": {"file": "t.root", "mass": "m"}},
    "dimuons": {"dimuons": "t.parquet"},
    "scores": {"scores": "t.parquet"},
}


def script(name):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(f"script_{name[:2]}", ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scripts():
    return {name: script(name) for name in ("03_train_flows.py", "06_significance.py")}


def write(table, given):
    """Write a table as the kind of file that is asked for; not what such a file cannot hold."""
    if given == "csv":
        table.to_pandas().to_csv("t.csv", index=False)
    elif given == "root":
        numbers = {name: table[name].to_pandas().to_numpy() for name in table.column_names}
        with uproot.recreate("t.root") as file:
            kept = {name: values for name, values in numbers.items() if values.dtype.kind in "iuf"}
            file["events"] = {name: v.astype(float) if v.dtype == np.float16 else v for name, v in kept.items()} or {
                "q": [1]
            }
    else:
        pq.write_table(table, "t.parquet")


BEGUN = "what was to come begins"


@pytest.mark.slow
@hypothesis.given(
    st.sampled_from(sorted(INPUTS)),
    st.dictionaries(st.sampled_from(["mass", "x", "charge", "score"]), columns(), max_size=1),
    st.dictionaries(NAMES, columns(), max_size=1),
    st.sampled_from(["", "", "", "", "", "x", "charge"]),
)
def test_any_table(scripts, given, needed, further, without):
    """Up to where training, or the test, begins; as `inspect` shows it, too."""
    mass = "dimu_mass" if given in ("dimuons", "scores") else "m"
    plain = {mass: SPECTRUM, "x": FEATURE, "charge": pa.array(["OS", "SS"] * (N_ROWS // 2)), "score": SCORE}
    needed = {mass if name == "mass" else name: column for name, column in needed.items()}
    content = {name: column for name, column in (plain | further | needed).items() if name != without}
    table = pa.table(content or {"q": pa.array([1.0])})
    write(table, given)
    own = {
        "name": "a",
        "input": INPUTS[given],
        "background": {"degree": 1},
        "significance": {"degree": 1, "degrees": [1]},
    }
    Path("a.yaml").write_text(yaml.safe_dump(VALID | own))
    name = "06_significance.py" if given == "scores" else "03_train_flows.py"

    def begin():
        scripts[name].main(Run(config.load("a.yaml"), name, "a.yaml"))

    begins = mock.Mock(side_effect=UserError(BEGUN))
    here = mock.Mock(return_value=contextlib.nullcontext(executor.AtOnce()))
    with (
        mock.patch.object(steps, "train_background", begins),
        mock.patch.object(steps, "measure", begins),
        mock.patch.object(steps.sculpting, "distance_correlation", mock.Mock(return_value=mock.Mock(value=0.0))),
        mock.patch.object(executor, "executor", here),
        np.errstate(all="ignore"),
    ):
        hypothesis.target(float(BEGUN in told(begin)))
    if given not in ("csv", "root"):
        told(lambda: inspect.describe("t.parquet") and None)


# ROOT structures ------------------------------------------------------------------------------------------------------

KINDS = st.sampled_from(
    [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64, bool]
)


@st.composite
def structures(draw):
    """(what is written as `Events`, {branch: array}) of 30 events: NanoAOD with up to three branches changed."""
    arrays = nanoaod_files.events(30, seed=draw(st.integers(0, 3)))
    flat = {name: arrays[name] for name in ("run", "luminosityBlock", "event", nanoaod_files.TRIGGER)}
    flat |= {f"Muon_{name}": arrays["Muon"][name] for name in arrays["Muon"].fields}
    flat["nJet"] = ak.num(arrays["Jet"]["pt"]).to_numpy()
    for branch in draw(st.lists(st.sampled_from(sorted(flat)), max_size=3, unique=True)):
        how = draw(st.sampled_from(["absent", "kind", "flat", "jagged", "wide", "fewer", "huge", "twice jagged"]))
        if how == "absent":
            del flat[branch]
        elif how == "kind":
            flat[branch] = ak.values_astype(flat[branch], draw(KINDS))
        elif how == "flat":
            flat[branch] = np.zeros(30, draw(KINDS))
        elif how == "jagged":
            flat[branch] = ak.Array([[1.0]] * 30)
        elif how == "wide":
            flat[branch] = np.zeros((30, 2))
        elif how == "fewer" and isinstance(flat[branch], ak.Array):
            flat[branch] = flat[branch][:, :1]
        elif how == "huge":
            flat[branch] = np.full(30, draw(REALS))
        elif how == "twice jagged":
            flat[branch] = ak.Array([[[1.0], []]] * 30)
    kind = draw(st.sampled_from(["tree", "rntuple", "rntuple", "histogram", "folder", "text", "nothing"]))
    return kind, flat


def write_root(kind, arrays):
    """Write a structure; False where uproot cannot write such branches."""
    arrays = {name: ak.to_numpy(v) if isinstance(v, ak.Array) and v.ndim == 1 else v for name, v in arrays.items()}
    with uproot.recreate("a.root") as file:
        if kind == "folder":
            file.mkdir("Events")
        elif kind in ("histogram", "text"):
            file["Events"] = np.histogram([1.0]) if kind == "histogram" else "none"
        elif kind != "nothing":
            try:
                file.mkrntuple("Events", ak.Array(arrays)) if kind == "rntuple" else file.__setitem__("Events", arrays)
            except (TypeError, ValueError, NotImplementedError):
                return False
    return True


def skimmed(path="a.root"):
    """An entry of the manifest, or the reason why there is none: nothing else may come of a file."""
    source = sources.from_files([path])[0]
    task = skim.Task(source, Path("a.parquet"), "Muon_tightId", (nanoaod_files.TRIGGER,), None, 1, 1.0, False)
    with np.errstate(all="ignore"):
        entry, refusal = None, path
        try:
            entry = skim.skim(task, skim.survey(task))
        except (UserError, sources.ReadFailed) as error:
            refusal = str(error)
    assert refusal.startswith(path)
    assert "\n" not in refusal
    assert entry is None or isinstance(entry, ManifestEntry)
    return entry


@pytest.mark.slow
@hypothesis.given(structures())
def test_any_root_structure(structure):
    if write_root(*structure):
        skimmed()
        told(lambda: inspect.describe("a.root") and None)


@pytest.fixture
def limited_memory():
    """A damaged length may ask for any amount: an error here, as on a machine that has no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
@hypothesis.given(st.sampled_from(["tree", "rntuple"]), st.integers(0, 10**6), st.booleans())
def test_any_damage_of_a_root_file(limited_memory, kind, seed, cut):
    content = intact(kind)
    rng = random.Random(seed)
    if cut:
        content = content[: rng.randrange(len(content))]
    else:
        content = bytearray(content)
        for _ in range(rng.randrange(1, 6)):
            content[rng.randrange(len(content))] = rng.randrange(256)
    Path("a.root").write_bytes(content)
    skimmed()


def intact(kind, written={}):  # noqa: B006
    """The bytes of a sound file, written once."""
    if kind not in written:
        arrays = nanoaod_files.events(30)
        flat = {name: arrays[name] for name in ("run", "luminosityBlock", "event", nanoaod_files.TRIGGER)}
        assert write_root(kind, flat | {f"Muon_{name}": arrays["Muon"][name] for name in arrays["Muon"].fields})
        written[kind] = Path("a.root").read_bytes()
        assert skimmed() is not None
    return written[kind]
