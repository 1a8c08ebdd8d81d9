"""Tables for the screen."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], sides: str, gap: str = "   ") -> list[str]:
    """Rows of texts as lines with their columns under each other. sides: "<" or ">" for each column.

    >>> print("\\n".join(aligned([["method", "Z0"], ["no cut", "3.1"], ["likelihood", "12.0"]], "<>")))
    method         Z0
    no cut        3.1
    likelihood   12.0
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        gap.join(f"{text:{side}{width}}" for text, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]
