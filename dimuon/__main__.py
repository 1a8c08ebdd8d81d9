"""`python -m dimuon COMMAND ...`, also installed as `dimuon`: what there is beside the seven scripts."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from dimuon.workflow import cli, messages

COMMANDS = {  # each a module of `dimuon.commands`
    "run": "do what is stale or missing of the seven steps, in order",
    "plan": "say what an analysis will cost: time, memory, disk, network",
    "study": "do a study of how far a result can be believed",
    "scan": "look for a bump that nobody pointed at: the search in windows that slide over the mass",
    "bench": "compare the methods of the field on the same events",
    "limits": "upper limits on the number of signal events, observed and expected",
    "export": "write the results for others: HEPData tables, pyhf workspaces, CSV and JSON",
    "inspect": "say what a file is, where it comes from and what is in it",
    "compare": "show two sets of results side by side",
}


def main(given: Sequence[str] | None = None) -> int:
    """Do a command; returns the exit code. given: the command line without the program (None: that of the process)."""
    line = list(sys.argv[1:] if given is None else given)
    program = "dimuon" if Path(sys.argv[0]).name == "dimuon" else "python -m dimuon"
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    cli.add_common(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, meaning in COMMANDS.items():
        command = commands.add_parser(
            name, help=meaning, formatter_class=argparse.RawDescriptionHelpFormatter, prog=f"{program} {name}"
        )
        if name in line:  # only what is asked for is imported
            module = importlib.import_module(f"dimuon.commands.{name}")
            command.description = module.__doc__
            module.add_arguments(command)
            cli.add_common(command)
    arguments = cli.parsed(parser, line)
    messages.start(arguments)
    module = importlib.import_module(f"dimuon.commands.{arguments.command}")
    return cli.guarded(f"dimuon {arguments.command}", lambda: module.main(arguments))


if __name__ == "__main__":
    sys.exit(main())
