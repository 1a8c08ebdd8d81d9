"""The anti-isolated Upsilon in CMS 2016 open data: the package behind the seven numbered scripts."""

__version__ = "0.1.0"
