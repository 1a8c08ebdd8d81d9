"""All figures and the report, on results as large as the paper's: `python -m tests.benchmarks.report`.

The small simulated results, with as many dimuons, sampled events and working points as the paper's analysis has, and
every study. Time from the start of step 7, as a person runs it, to the first page that can be looked at (Figs. 1 to 4,
the rest still to come) and to the whole one; peak memory of the largest process and of all.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import small_results
from tests.benchmarks import common

SCRIPT = Path(__file__).parents[2] / "07_plots.py"
SCALE = 2.6  # times the dimuons of the small results: 12,300 OS and 7,200 SS after all cuts


def main():
    """Measure and save."""
    with tempfile.TemporaryDirectory() as folder:
        small_results.write_studies(small_results.build(folder, events=SCALE), folder)
        with contextlib.chdir(folder):
            first_page = Path("results/small/report.html")
            first_page.unlink(missing_ok=True)
            began = time.time()
            seconds, cpu, largest, together = measure([sys.executable, str(SCRIPT), "small.yaml"], first_page)
            first = LOOKED.get(first_page, time.time()) - began
            n_figures = len(list(Path("results/small/figures").glob("*.png")))
            megabytes = Path("results/small/report.html").stat().st_size / 1e6
    common.save("report", [
        {"name": "report_s", "value": seconds, "unit": "s"},
        {"name": "first_look_s", "value": first, "unit": "s"},
        {"name": "cpu_s", "value": cpu, "unit": "s"},
        {"name": "peak_mb", "value": together, "unit": "MB"},
        {"name": "peak_mb_largest_process", "value": largest, "unit": "MB"},
        {"name": "figures", "value": n_figures, "unit": ""},
        {"name": "page_mb", "value": megabytes, "unit": "MB"},
    ])  # fmt: skip


LOOKED = {}  # when a file was first there


def measure(command, awaited=None):
    """Of a command and all it starts: seconds, CPU seconds, peak MB of the largest process, peak MB of all together.

    Looked at four times a second. awaited: a file; when it is first there stands in `LOOKED`.
    """
    start, largest, together, used = time.perf_counter(), 0.0, 0.0, {}
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            members = family(process.pid)
            used |= {pid: seconds for pid in members if (seconds := cpu_seconds(pid))}
            sizes = [resident(pid) for pid in members]
            largest, together = max([largest, *sizes]), max(together, sum(sizes))
            if awaited is not None and awaited not in LOOKED and awaited.exists():
                LOOKED[awaited] = time.time()
            time.sleep(0.25)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - start, sum(used.values()), largest, together


def family(pid):
    """The process and all that it started, by /proc."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in thread.read_text().split():
                found += family(int(child))
    return found


def cpu_seconds(pid):
    """CPU time of a process so far [s]; 0 once it is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def resident(pid):
    """Memory of a process that it does not share, plus its part of what it shares [MB]; 0 once it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1e3
    return 0.0


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "Agg")
    main()
