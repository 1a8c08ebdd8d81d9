"""Do what is stale or missing of the seven steps, in order.

Prints the plan first. Several configurations share the steps before the first setting that differs. Each step runs as
the script it is, in a process of its own.
"""

import argparse
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import dimuon
from dimuon.commands import needed
from dimuon.commands.needed import Analysis, Planned
from dimuon.errors import UserError
from dimuon.workflow import cli
from dimuon.workflow.products import PRODUCTS, Maker

log = logging.getLogger("dimuon")
SCRIPTS = Path(dimuon.__file__).resolve().parent.parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `run`."""
    parser.add_argument("configs", nargs="+", metavar="CONFIG.yaml", help="the analyses, e.g. configs/demo.yaml")
    parser.add_argument("--from", dest="first", metavar="STEP", help="first step to look at, e.g. 03")
    parser.add_argument("--to", dest="last", metavar="STEP", help="last step to look at, e.g. 06")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")


def main(arguments: argparse.Namespace) -> int:
    """Plan and run; returns the exit code of the first script that fails, or 0."""
    analyses = [Analysis.load(path) for path in arguments.configs]
    _refuse_repeated(analyses)
    cli.say_folder(arguments.configs[0])
    steps = needed.chosen(arguments.first, arguments.last)
    for index, analysis in enumerate(analyses):
        planned = needed.plan(analysis, steps, analyses[:index], analyses[index + 1 :])
        if not planned:
            start = analysis.steps[0].command
            raise UserError(f"{analysis.path}: no step is left to do: its input starts at {start}; look at --to")
        log.info("%s", "\n".join(describe(analysis, planned)))
    if arguments.dry_run:
        return 0
    flags = [f"--{name}" for name in ("quiet", "verbose") if getattr(arguments, name)]
    for index, analysis in enumerate(analyses):
        for step in (step for step in analysis.steps if step in steps):
            if analysis.reason(step) is None or _shared(step, analysis, analyses[:index] + analyses[index + 1 :]):
                continue
            if code := _script(step, analysis, flags):
                return code
    return 0


def describe(analysis: Analysis, planned: Sequence[Planned]) -> list[str]:
    """The plan of an analysis in words, for the screen."""
    lines = [f"{analysis.path} ({analysis.config.name}):"]
    for each in planned:
        lines.append(f"  {each.step.command:<24}{each.state}")
        if each.reason:
            made = [product for product in PRODUCTS.of(each.step) if not product.optional]
            folders = dict.fromkeys(product.folder for product in made)
            for folder in folders:
                names = ", ".join(product.shown for product in made if product.folder == folder)
                lines.append(f"  {'':<24}  writes {folder}/{analysis.config.name}/: {names}")
    return lines


def _refuse_repeated(analyses: Sequence[Analysis]) -> None:
    by_name: dict[str, str] = {}
    for analysis in analyses:
        name = analysis.config.name
        if name in by_name:
            raise UserError(f"{analysis.path}: name = {name!r} is that of {by_name[name]}, too; give each its own")
        by_name[name] = analysis.path


def _shared(step: Maker, analysis: Analysis, others: Sequence[Analysis]) -> bool:
    """Whether another analysis could give the files of a step."""
    for other in others:
        if analysis.shares(step, other) and (paths := needed.share(step, other, analysis)):
            log.info("%s: %d files shared with %s", step.command, len(paths), other.config.name)
            return True
    return False


def _script(step: Maker, analysis: Analysis, flags: Sequence[str]) -> int:
    script = SCRIPTS / step.command
    if not script.is_file():
        raise UserError(f"{script}: not found; the seven scripts come with the repository, not with the package alone")
    log.debug("%s %s", script, analysis.path)
    code = subprocess.run([sys.executable, str(script), analysis.path, *flags], check=False).returncode
    return code if code in (0, 2) else 1
