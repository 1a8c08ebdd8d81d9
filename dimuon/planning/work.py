"""A piece of work and what it takes: on this machine, on many workers."""

from dataclasses import dataclass

DISPATCH = 0.005  # s of the scheduler for each task, assumed; it hands out one after the other


@dataclass(frozen=True)
class Work:
    """What a step, study or scan takes. serial_s: s in the process that asks. parallel_s: CPU s of its tasks together.

    n_tasks: into which that is divided; longest_s: of them, 0: all are alike. starts: programs that are started one
    after the other. driver_mb, worker_mb: memory of the process that asks and of each worker. disk_mb: of its files.
    read_mb: over the network. shared_mb: that every worker is sent once; task_mb: that each task is sent and sends.
    """

    name: str
    reason: str
    serial_s: float
    parallel_s: float = 0.0
    n_tasks: int = 0
    longest_s: float = 0.0
    start_s: float = 0.0
    driver_mb: float = 0.0
    worker_mb: float = 0.0
    disk_mb: float = 0.0
    read_mb: float = 0.0
    shared_mb: float = 0.0
    task_mb: float = 0.0

    def wall(self, n_workers: int) -> float:
        """Seconds with so many workers: tasks in rounds, none shorter than the longest, none faster than dispatched."""
        if not self.n_tasks:
            return self.start_s + self.serial_s
        rounds = -(-self.n_tasks // n_workers)
        alike = rounds * self.parallel_s / self.n_tasks
        uneven = max(self.longest_s, self.parallel_s / min(n_workers, self.n_tasks))
        tasks = uneven if self.longest_s else alike
        return 2 * self.start_s + self.serial_s + max(tasks, self.n_tasks * DISPATCH)  # the workers start, too

    @property
    def cpu(self) -> float:
        """CPU seconds of all processes: libraries are loaded by the one that asks, and once for its workers."""
        return self.start_s * (2 if self.n_tasks else 1) + self.serial_s + self.parallel_s

    def memory(self, n_workers: int) -> float:
        """MB of all processes together."""
        return self.driver_mb + (min(n_workers, self.n_tasks) * self.worker_mb if self.n_tasks else 0.0)

    def network(self, n_workers: int) -> float:
        """MB that are read over the network or travel to and from workers of other machines."""
        busy = min(n_workers, self.n_tasks)
        return self.read_mb + busy * self.shared_mb + self.n_tasks * self.task_mb

    @property
    def useful_workers(self) -> int:
        """Workers beyond which it is no faster by a tenth: 1 where nothing is done side by side."""
        n = 1
        while n < 2**20 and self.wall(2 * n) < 0.95 * self.wall(n):
            n *= 2
        return n
