"""The section `execution`: where the work runs. Nothing in it changes a result."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dimuon.settings import Positive, Section

ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):\d{1,5}")
QUEUES = {"slurm": "sbatch", "htcondor": "condor_submit", "pbs": "qsub"}  # what hands a job to each


class Cluster(Section):
    """Workers on a Dask cluster that is started for a step and ends with it (docs/scaling.md)."""

    kind: Literal["local", "slurm", "htcondor", "pbs"]
    workers: Positive | None = None  # processes of one thread; None: of kind local one for each core
    adaptive: bool = False  # as many as there is work for, at most `workers`
    per_job: Positive = 1  # workers, and so cores, of a job of the queue
    memory: str = "4GB"  # of a job
    disk: str = "4GB"  # of a job, where the queue asks for it (htcondor)
    walltime: str = "04:00:00"  # of a job
    queue: str | None = None  # its name; None: that which the site takes by itself
    account: str | None = None  # that the time is taken from
    directives: list[str] = []  # further lines of the job's head: "--constraint=haswell"
    prologue: list[str] = []  # lines of the job before the workers start: "source /home/me/.venv/bin/activate"
    interface: str | None = None  # network between the nodes, as `ip link` names it: "ib0"

    @property
    def is_queue(self) -> bool:
        """Whether its workers are jobs of a queue."""
        return self.kind in QUEUES

    @model_validator(mode="after")
    def _of_known_size(self) -> "Cluster":
        if self.is_queue and self.workers is None:
            raise ValueError(f"workers is missing: say how many worker processes {self.kind} is to start")
        return self


class Execution(Section):
    """Where the work runs; nothing here changes a result."""

    workers: Positive | None = None  # None: every core it may use
    scheduler: str | None = None  # address of a Dask scheduler that runs already; None: local processes
    cluster: Cluster | None = None  # of Dask, started for each step; None: local processes
    attempts: Positive = 5  # tries per remote file, with growing pauses between them
    timeout: Annotated[float, Field(gt=0)] = 60.0  # seconds without an answer, or a worker, that count as a failure
    download: bool = False  # fetch remote files whole and check their checksum, instead of reading what is needed

    @field_validator("scheduler")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is None or ADDRESS.fullmatch(value):
            return value
        if value.startswith(("http://", "https://")):
            raise ValueError("that is the address of a dashboard; that of the scheduler is like tcp://HOST:8786")
        raise ValueError("not the address of a Dask scheduler, which is like tcp://HOST:8786")

    @model_validator(mode="after")
    def _one_place(self) -> "Execution":
        if self.scheduler is not None and self.cluster is not None:
            raise ValueError("give a scheduler that runs already or a cluster to start, not both")
        return self
