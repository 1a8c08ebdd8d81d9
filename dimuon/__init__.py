"""The anti-isolated Upsilon in CMS 2016 open data: the package behind the seven numbered scripts.

As a library: `from dimuon import MassWindow, discovery, search`.
"""

import os
import sys

if sys.argv[:1] == ["-m"] and "dimuon" in sys.orig_argv and not sys.flags.safe_path:  # `python -m dimuon`
    if sys.path[0] != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
        sys.path.append(sys.path.pop(0))  # libraries come before what is called alike in the current folder

import importlib
from typing import TYPE_CHECKING, Any

from dimuon.workflow import machine

if TYPE_CHECKING:
    from dimuon.bumphunt.library import search
    from dimuon.bumphunt.models import trained
    from dimuon.events import Events
    from dimuon.random import Stream
    from dimuon.regions import MassWindow
    from dimuon.statistics.significance import discoveries, discovery

__version__ = "0.1.0"
__all__ = ["Events", "MassWindow", "Stream", "discoveries", "discovery", "search", "trained"]

_HOMES = {
    "Events": "dimuon.events",
    "MassWindow": "dimuon.regions",
    "Stream": "dimuon.random",
    "discoveries": "dimuon.statistics.significance",
    "discovery": "dimuon.statistics.significance",
    "search": "dimuon.bumphunt.library",
    "trained": "dimuon.bumphunt.models",
}


if machine.is_program():
    machine.end_at_interrupt()
    os.environ["MPLBACKEND"] = "agg"  # it draws to files, whatever the shell would show figures with


def __getattr__(name: str) -> Any:
    """A name of the library, imported when it is first asked for: the package itself stays quick to import."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dimuon' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
