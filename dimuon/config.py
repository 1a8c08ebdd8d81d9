"""`dimuon.config.load(path)`: the checked configuration in a YAML file (see `dimuon.workflow.config`)."""

from dimuon.workflow.config import Config, load

__all__ = ["Config", "load"]
