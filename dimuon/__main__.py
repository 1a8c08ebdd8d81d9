"""`python -m dimuon COMMAND ...`: what there is beside the seven scripts."""

import sys

from dimuon.commands import compare, inspect
from dimuon.statistics import ensemble
from dimuon.studies import study

COMMANDS = {"study": study.main, "inspect": inspect.main, "compare": compare.main}


def main():
    """Hand the rest of the command line to the command that it names."""
    if sys.argv[1:3] == ["study", "convergence"]:
        sys.argv[1:3] = []
        return ensemble.command()
    command = COMMANDS[sys.argv.pop(1)]
    return command()


if __name__ == "__main__":
    sys.exit(main())
