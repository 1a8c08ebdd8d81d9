"""Do one study of how far a result can be believed; it goes on where it was stopped."""

import argparse

from dimuon.errors import UserError
from dimuon.studies import study
from dimuon.studies.registry import STUDIES
from dimuon.workflow import cli


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `study`."""
    parser.epilog = "\n".join(f"{name:<20}{STUDIES[name].question}" for name in sorted(STUDIES))
    parser.add_argument("name", metavar="NAME", choices=sorted(STUDIES), help=", ".join(sorted(STUDIES)))
    parser.add_argument("config", metavar="CONFIG.yaml", help="the analysis, e.g. configs/upsilon.yaml")

    parser.add_argument("--gate", action="store_true", help="exit with 1 where it does not pass (controls)")


def main(arguments: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    gates = [name for name in STUDIES if STUDIES[name].gate is not None]
    if arguments.gate and arguments.name not in gates:
        raise UserError(f"--gate: {arguments.name} is no gate, but {', '.join(gates)} is; leave it out")
    cli.say_folder(arguments.config)
    passed = study.do(arguments.name, arguments.config)
    return 1 if arguments.gate and not passed else 0
