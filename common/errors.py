"""Every error that melcache raises for a user's mistake or for bad data.

The command lines print such an error as one line and exit with its `exit_code`; anything else is a bug
and keeps its traceback. Texts say: expected, found, where, what to do.
"""


class MelcacheError(Exception):
    """Base of all public errors: `text` is one line, `details` are more lines of our own, such as a release's tree."""

    exit_code = 2

    def __init__(self, text: str = "", details: str = "") -> None:
        super().__init__(text, details)
        self.text, self.details = text, details

    def __str__(self) -> str:
        return f"{self.text}\n{self.details}" if self.details else self.text


class DatasetError(MelcacheError):
    """A release is missing, incomplete, or not in a layout that its adapter knows."""


class CoverageError(MelcacheError):
    """More of a release's images are missing or unreadable than `--max-missing` allows."""

    exit_code = 3


class WeightsError(MelcacheError):
    """Encoder weights are missing, of another model, or not the file they claim to be."""


class CacheError(MelcacheError):
    """A cache is missing, incomplete, corrupt, or not what its manifest says."""


class DeniedError(CacheError):
    """The system lets this user not look at a file or folder, or not read it: it may well be whole.

    Of a cache: whoever takes a damaged one for none must not take this for none.
    """


class BusyError(CacheError):
    """Another process is at work in a folder."""


class ConfigError(MelcacheError):
    """Options that do not fit each other or the cache."""


class UntrainableError(ConfigError):
    """A head whose options do not fit each other or the cache, so that no machine could train it."""


class NetworkError(MelcacheError):
    """A server does not answer, refuses, or answers what nobody asked."""


class OverError(MelcacheError):
    """What a worker was started for has been done meanwhile by others: it ends in order."""


class WorkersError(MelcacheError):
    """Workers on a cluster have not finished, or what they said cannot be found."""


class NotFiniteError(MelcacheError):
    """NaN or infinity where only finite numbers are allowed."""
