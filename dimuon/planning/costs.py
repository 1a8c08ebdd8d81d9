"""What each step, a study and a scan take: sizes times speeds, each in a few terms that are written here.

With n events of a charge, b of them in the sidebands, s in the SR, o the oversampling, m members and k folds:

| | process that asks | tasks |
|---|---|---|
| 1 | simulation of the events, where there is one | events x skim, a task a file |
| 2 | skimmed rows | |
| 3 | doubts of the features | b x epochs, a task for each stack of members |
| 4 | (o s + o b) samples | 9 comparisons, of 3 b real events together, b in the longest |
| 5 | sculpting of every combination of charges | m k classifiers, 20 members of a fold a task; importance |
| 6 | measurement with toys of every combination | |
| 7 | | figures |
| a null dataset | | o s samples, m' k classifiers, the measurement without toys: one task |
"""

from collections.abc import Callable, Iterator

from dimuon.background import training
from dimuon.background.estimators.flows import Flow
from dimuon.classifiers.cross_validation import MEMBERS_PER_TASK
from dimuon.planning.sizes import Sizes
from dimuon.planning.speeds import Speeds
from dimuon.planning.work import Work
from dimuon.workflow import products
from dimuon.workflow.config import Config
from dimuon.workflow.products import Maker

SELECT_S = 2e-5  # s a row of the skim that step 2 takes: NumPy, measured on 56,000 rows
DESCRIBE_S = 0.4  # s that step 6 takes to describe what was found in a sample
PLACES = 9  # at which step 4 compares: both sidebands, each, three slices of each
FIGURE_SHARE = 2.3  # s of a figure of the report for each of the one that is measured: more panels and formulas
ROW_MB, SKIM_MB, SAMPLED_MB = 160e-6, 120e-6, 35e-6  # on disk: of a dimuon, of a skimmed event, of a sampled event
IN_MEMORY = 6.0  # times the bytes of a table that a step holds at its peak (8 a number)
COLUMNS = 30  # of the dimuon table


class Costs:
    """The costs of one analysis."""

    def __init__(self, config: Config, sizes: Sizes, speeds: Speeds) -> None:
        self.config, self.sizes, self.speeds = config, sizes, speeds
        self.charges = list(sizes.charges)
        self._of_step: dict[Maker, Callable[[], dict[str, float]]] = {
            products.STEP_1: self._step_1,
            products.STEP_2: self._step_2,
            products.STEP_3: self._step_3,
            products.STEP_4: self._step_4,
            products.STEP_5: self._step_5,
            products.STEP_6: self._step_6,
            products.STEP_7: self._step_7,
        }

    def step(self, step: Maker, reason: str) -> Work:
        """One of the seven steps."""
        base = {
            "start_s": self.speeds.start_s,
            "driver_mb": self.speeds.program_mb,
            "worker_mb": self.speeds.program_mb,
        }
        own = self._of_step[step]()
        if step in (products.STEP_1, products.STEP_2, products.STEP_7):
            base["start_s"] = self.speeds.light_s
        own = {name: value + (base.get(name, 0.0) if name.endswith("_mb") else 0.0) for name, value in own.items()}
        n_tasks = int(own.pop("n_tasks", 0))
        return Work(step.command, reason, n_tasks=n_tasks, **(base | own))

    def nulls(self, name: str, n: int, members: int, reason: str, fits: int = 0) -> Work:
        """Null datasets through the whole chain, so many in all; fits: background models trained beside."""
        largest = max(self.charges, key=lambda charge: self.sizes.charges[charge])
        each = self.chain_s(largest, members)
        fitting = self.fit_s(largest)
        return Work(
            name,
            reason,
            serial_s=0.0,
            parallel_s=n * each + fits * fitting,
            n_tasks=n + fits * self.n_stacks,
            longest_s=max(each, fitting / self.n_stacks if fits else 0.0),
            start_s=self.speeds.start_s,
            driver_mb=self.speeds.program_mb + n * 0.02,
            worker_mb=self.speeds.program_mb + self._table_mb(self.sizes.charges[largest]),
            disk_mb=n * 0.02,
            shared_mb=1.0,
            task_mb=0.03,
        )

    def chain_s(self, charge: str, members: int) -> float:
        """Seconds that one null dataset takes."""
        scale = self._scale(charge)
        return scale * (self.speeds.chain_s + members * self.config.bdt.folds * self.speeds.member_s)

    def fit_s(self, charge: str) -> float:
        """CPU seconds of one training of the background."""
        return self.sizes.sidebands(charge) * self.epochs * self.speeds.fit_s

    @property
    def epochs(self) -> int:
        """Of the training; a method without has one."""
        estimator = self.config.estimator
        return estimator.epochs if isinstance(estimator, Flow) else 1

    @property
    def n_stacks(self) -> int:
        """Parts of a training that may be done side by side."""
        estimator = self.config.estimator
        return len(training.stacks(estimator.members, estimator.device)) if isinstance(estimator, Flow) else 1

    def _scale(self, charge: str) -> float:
        return self.sizes.charges[charge] / self.speeds.n_events

    def _table_mb(self, n_events: float) -> float:
        return n_events * (len(self.config.features.names) + 4) * 8 * IN_MEMORY / 1e6

    @property
    def _sampled(self) -> float:
        oversampling = self.config.background.oversampling
        return sum(oversampling * n for n in self.sizes.charges.values())

    def _step_1(self) -> dict[str, float]:
        sizes, simulated = self.sizes, self.config.input.simulation is not None
        return {
            "serial_s": sizes.events * self.speeds.simulate_s if simulated else 0.0,
            "parallel_s": sizes.events * self.speeds.skim_s,
            "n_tasks": sizes.n_files,
            "worker_mb": 150.0,  # a range of a file at a time
            "disk_mb": sizes.skimmed * SKIM_MB + (sizes.events * 250e-6 if simulated else 0.0),
            "read_mb": 0.0 if simulated or self.config.input.files is not None else sizes.input_mb,
        }

    def _step_2(self) -> dict[str, float]:
        sizes = self.sizes
        held = sizes.rows * COLUMNS * 8 * IN_MEMORY / 1e6
        return {"serial_s": sizes.skimmed * SELECT_S, "driver_mb": held, "disk_mb": sizes.rows * ROW_MB}

    def _step_3(self) -> dict[str, float]:
        fits = {charge: self.fit_s(charge) for charge in self.charges}
        return {
            "serial_s": sum(self._scale(charge) * self.speeds.doubt_s for charge in self.charges),
            "parallel_s": sum(fits.values()),
            "n_tasks": len(fits) * self.n_stacks,
            "longest_s": max(fits.values()) / self.n_stacks,
            "driver_mb": self._table_mb(sum(self.sizes.charges.values())),
            "worker_mb": self._table_mb(max(self.sizes.charges.values())),
            "disk_mb": 1.0,
            "shared_mb": max(self.sizes.charges.values()) * len(self.config.features.names) * 4e-6,
            "task_mb": 1.0,
        }

    def _step_4(self) -> dict[str, float]:
        settings, sidebands = self.config.background, {c: self.sizes.sidebands(c) for c in self.charges}
        held_out = len(settings.shifted_windows) + int(settings.half_split)
        compare = {charge: n * self.speeds.compare_s for charge, n in sidebands.items()}
        return {
            "serial_s": self._sampled * self.speeds.sample_s,
            "parallel_s": sum(3 * each for each in compare.values())
            + held_out * sum(self.fit_s(charge) for charge in self.charges),
            "n_tasks": len(self.charges) * (PLACES + held_out * self.n_stacks),
            "longest_s": sum(compare.values()),  # one charge after the other
            "driver_mb": self._table_mb(self._sampled),
            "worker_mb": self._table_mb(max(sidebands.values()) * (1 + settings.oversampling)),
            "disk_mb": self._sampled * SAMPLED_MB,
            "task_mb": max(sidebands.values()) * len(self.config.features.names) * 8e-6,
        }

    def _step_5(self) -> dict[str, float]:
        bdt, n_charges, speeds = self.config.bdt, len(self.charges), self.speeds
        models = bdt.members * bdt.folds
        tasks = bdt.folds * -(-bdt.members // MEMBERS_PER_TASK)
        scaled = sum(self._scale(charge) for charge in self.charges)
        return {
            "serial_s": scaled * n_charges * speeds.sculpting_s,
            "parallel_s": scaled * models * (speeds.member_s + speeds.importance_s),
            "n_tasks": n_charges * tasks,
            "driver_mb": self._table_mb(self._sampled)
            + sum(self.sizes.charges.values()) * n_charges * bdt.members * 8e-6,
            "worker_mb": self._table_mb(self._sampled / n_charges),
            "disk_mb": n_charges * models * 0.003 + sum(self.sizes.charges.values()) * n_charges * 15e-6,
            "task_mb": self._sampled / n_charges * 8e-6,
        }

    def _step_6(self) -> dict[str, float]:
        n_charges = len(self.charges)
        scaled = sum(self._scale(charge) for charge in self.charges)
        return {
            "serial_s": scaled * n_charges * self.speeds.measure_s + n_charges * DESCRIBE_S,
            "driver_mb": self.sizes.rows * COLUMNS * 8 * IN_MEMORY / 1e6,
            "disk_mb": 1.0,
        }

    def _step_7(self) -> dict[str, float]:
        n_charges = len(self.charges)
        n_figures = 6 + 9 * n_charges + 6 * n_charges**2
        return {
            "serial_s": 2.0,
            "parallel_s": n_figures * FIGURE_SHARE * self.speeds.figure_s,
            "n_tasks": n_figures,
            "disk_mb": n_figures * 0.5,
        }


def studies(costs: Costs, names: list[str]) -> Iterator[Work]:
    """The studies of some names: how many chains each does (`dimuon.studies`)."""
    settings, n_charges = costs.config.studies, len(costs.charges)
    retrained = settings.retrain_flows
    chains = {
        "pseudoexperiments": (n_charges * settings.pseudoexperiments, settings.members),
        "injection": (n_charges * len(settings.injected) * settings.repeats, settings.members),
        "controls": (3 * settings.seeds, costs.config.bdt.members),
        "variations": (n_charges * len(settings.variations) * settings.seeds // 2, costs.config.bdt.members),
    }
    for name in names:
        if name in chains:
            n, members = chains[name]
            fits = n if retrained and name == "pseudoexperiments" else 0
            yield costs.nulls(f"study {name}", n, members, f"{n:,} searches", fits)
