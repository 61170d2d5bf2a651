"""`--slurm`: options of sbatch as words, or lines of a file, key=value."""

import re
import shlex
from collections.abc import Iterable

from common import places
from common.errors import ConfigError
from common.paths import is_special

TIME = "60"  # minutes; a job that comes to its end is requeued and goes on
LEAST = 5  # minutes
MOST = 1 << 16  # bytes of a file
# decided here: how workers are started, told of their end and found again
OURS = ("array", "chdir", "dependency", "error", "no-requeue", "open-mode", "output", "parsable", "requeue", "signal",
        "test-only", "wait", "wrap")  # fmt: skip


def parse(text: str) -> tuple[tuple[str, str], ...]:
    """Return the options that a text names, by name; "" is the value of a switch.  Raises ConfigError."""
    found: dict[str, str] = {}
    for word in _words(text):
        key, given, value = word.removeprefix("--").partition("=")
        key = key.replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z-]*[a-z]", key) or (given and not value) or not value.isprintable():
            raise ConfigError(f"--slurm: {word!r} is no option of sbatch. Expected key=value, such as partition=gpu")
        if key == "clusters":
            raise ConfigError(
                "--slurm: clusters is for sbatch alone. Set SLURM_CLUSTERS, by which squeue and scancel go, too"
            )
        if key in OURS:
            raise ConfigError(f"--slurm: {key} is set by melcache; leave it out")
        if key in found:
            raise ConfigError(f"--slurm: {key} is given twice: leave one out")
        found[key] = value
    if minutes(limit := found.get("time", TIME)) < LEAST:
        raise ConfigError(
            f"--slurm: time={limit}: a job needs {LEAST} minutes at least: it is told 90 s before its end"
        )
    return tuple(found.items())


def give_gpus(options: Iterable[tuple[str, str]]) -> bool:
    """Return whether options ask for GPUs; partitions that give some by themselves are not known here."""
    counts = [value for key, value in options if key == "gpus" or key.startswith("gpus-per-")]
    kinds = [
        item for key, value in options if key == "gres" or key.startswith("tres-per-") for item in value.split(",")
    ]
    named = [re.split("[:=]", kind.removeprefix("gres:").removeprefix("gres/")) for kind in kinds]
    return any(count.rpartition(":")[2] != "0" for count in counts) or any(
        name == "gpu" and rest[-1:] != ["0"] for name, *rest in named
    )


def minutes(text: str) -> int:
    """Return a time in minutes: sbatch reads minutes, minutes:seconds, hours:minutes:seconds and days-hours[:...].

    Raises ConfigError for any other.
    """
    found = re.fullmatch(r"(?:([0-9]{1,4})-)?([0-9]{1,6})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?", text)
    if found is None:
        raise ConfigError(f"--slurm: time={text}: expected minutes, hours:minutes:seconds or days-hours, as sbatch has")
    days, first, second, third = (None if part is None else int(part) for part in found.groups())
    if days is not None:
        return 1440 * days + 60 * (first or 0) + (second or 0)
    return 60 * (first or 0) + (second or 0) if third is not None else max(1, first or 0)


def _words(text: str) -> list[str]:
    try:
        if not text.startswith("@"):
            return shlex.split(text)
        path = places.home(text[1:])
        if is_special(path):
            raise ConfigError(f"--slurm {text}: cannot be read: no regular file has that name")
        if path.stat().st_size > MOST:
            raise ConfigError(f"--slurm {text}: the file has more than {MOST:,} bytes. Expected one option a line")
        return shlex.split(path.read_text(encoding="utf-8"), comments=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--slurm {text}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except ValueError as error:  # a quotation that does not end
        raise ConfigError(f"--slurm {text}: {error}") from None
