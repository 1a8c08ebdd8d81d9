"""Named parts that are found by being there: a new estimator, classifier, study or figure is one file."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Parts by name. All modules of `packages` are imported when the registry is first asked, and register themselves.

    A module of such a package is therefore light: it imports torch, XGBoost and the like where they are used.
    """

    def __init__(self, *packages: str) -> None:
        self._packages, self._parts, self._complete = packages, dict[str, T](), False

    def register(self, name: str, part: T) -> T:
        """Enter a part; ValueError where the name is taken by another."""
        if name in self._parts and self._parts[name] is not part:
            raise ValueError(f"{', '.join(self._packages)}: {name!r} is registered twice")
        self._parts[name] = part
        return part

    def named(self, name: str) -> Callable[[T], T]:
        """A decorator that enters what it decorates."""
        return lambda part: self.register(name, part)

    def __getitem__(self, name: str) -> T:
        self._load()
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._parts)

    def __len__(self) -> int:
        self._load()
        return len(self._parts)

    def _load(self) -> None:
        if not self._complete:
            self._complete = True
            for name in self._packages:
                package = importlib.import_module(name)
                for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
                    importlib.import_module(f"{name}.{module}")
