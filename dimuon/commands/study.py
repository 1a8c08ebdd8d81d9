"""Do one study of how far a result can be believed; it goes on where it was stopped."""

import argparse

from dimuon.studies import study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `study`."""
    parser.add_argument("name", metavar="NAME", choices=study.STUDIES, help=", ".join(study.STUDIES))
    parser.add_argument("config", metavar="CONFIG.yaml", help="the analysis, e.g. configs/upsilon.yaml")


def main(arguments: argparse.Namespace) -> None:
    """Do it."""
    study.study(arguments.name, arguments.config)
