"""The settings of the figures."""

from dimuon.settings import Section


class Figures(Section):
    """What is drawn beside the results; nothing here changes a number."""

    overlay: str | list[str] = []  # CSV files with curves of others (docs/tables.md), drawn over the p-values

    @property
    def overlays(self) -> list[str]:
        """The files, in their order."""
        return [self.overlay] if isinstance(self.overlay, str) else self.overlay
