"""The one exception that users see."""


class UserError(Exception):
    """A mistake that the user can mend.

    The command line shows it as one line and exits with status 2. The message names the
    key or file, the value, what was expected and what to do.
    """
