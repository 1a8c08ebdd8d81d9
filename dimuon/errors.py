"""Errors that are told in one line."""

import struct
import zlib

# what reading a file that is damaged, cut short or of another kind can raise, whichever library decodes it: a damaged
# address leads to a TypeError or an IndexError, a damaged length to a MemoryError or an OverflowError
DAMAGED = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError),
    *(TypeError, ValueError, struct.error, zlib.error),
)


class UserError(Exception):
    """A mistake that the user can mend: one line that says which file or key, what was found, and what to do."""


class AnalysisError(ValueError):
    """What the method cannot do with the events or settings it was given.

    The wings of the paper's steps raise it; they know no YAML, no file and no command. setting: the parameter to
    change, as the wing that raised it calls it ("learning_rate"). The workflow adds section, file and command.
    """

    def __init__(self, message: str, setting: str | None = None) -> None:
        super().__init__(message, setting)
        self.message, self.setting = message, setting

    def __str__(self) -> str:
        return self.message
