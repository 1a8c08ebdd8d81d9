"""The one error that is the user's to mend."""


class UserError(Exception):
    """A mistake the user can mend: one line that names the file or key, what was found, and what to do.

    Scripts print it on standard error without a traceback and exit with code 2.
    """
