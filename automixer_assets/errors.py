"""The one exception for what a user can mend: bad input, bad settings, a missing or busy artefact.

Its message is one sentence that names the file, row or key and the remedy. Programming errors stay what they are.
"""


class AutomixerError(Exception):
    """Something the user can mend; the message says what, where, and what to do."""


class ConfigurationError(AutomixerError):
    """Bad settings or bad usage, seen before anything ran: the command line's exit code 2."""
