"""Do one study of how far a result can be believed; it goes on where it was stopped."""

import argparse

from dimuon.studies import study
from dimuon.studies.registry import STUDIES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `study`."""
    parser.epilog = "\n".join(f"{name:<20}{STUDIES[name].question}" for name in sorted(STUDIES))
    parser.add_argument("name", metavar="NAME", choices=sorted(STUDIES), help=", ".join(sorted(STUDIES)))
    parser.add_argument("config", metavar="CONFIG.yaml", help="the analysis, e.g. configs/upsilon.yaml")


def main(arguments: argparse.Namespace) -> None:
    """Do it."""
    study.do(arguments.name, arguments.config)
