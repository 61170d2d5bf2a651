"""Commands and options as they are typed: who types `make extract LIMIT=5` is told of LIMIT=, not of --limit alone."""

import os
import re
from collections.abc import Mapping

from common.foreign import make, shell

TARGETS = "MELCACHE_TARGETS"  # in the environment, of our Makefile: "extract:DATASET,DATA train:DATASET,..."
TARGET_OF = {"compare": "reproduce"}  # of a command, where its name is another
TAKEN = "MELCACHE_MAKE"  # in the environment: the variables that the target of our Makefile takes
SWITCHES = ("PUSH", "PLAN", "EXPLAIN", "REPORT")
OPTION = re.compile(r"(?<![\w/=-])--([a-z][a-z-]*[a-z])")
COMMAND = re.compile(
    r"\b(?:melcache|make|python -m|torchrun) .*?(?:; |\. |$)"
)  # what is suggested is typed as it stands


def suggested(command: str, options: Mapping[str, object]) -> str:
    """Return a command of melcache with options by name, for a shell: by make, where make runs this and has a target.

    An option without a value is a switch. Values are quoted: those of strangers do no harm.
    """
    target = TARGET_OF.get(command, command)
    taken = dict(entry.split(":") for entry in os.environ.get(TARGETS, "").split()).get(target)
    words = {name: f"--{name} {shell(value)}" if value else f"--{name}" for name, value in options.items()}
    if taken is None:
        return " ".join(["melcache", command, *words.values()])
    variables = {name: name.upper().replace("-", "_") for name in words}
    given = [make(word, options[name] or 1) for name, word in variables.items() if word in taken.split(",")]
    others = [words[name] for name, word in variables.items() if word not in taken.split(",")]
    return " ".join(["make", target, *given, *([make("ARGS", " ".join(others))] if others else [])])


def spelled(text: str) -> str:
    """Return a message, and behind it how make takes the options that it names; as it is where no make runs this."""
    taken = os.environ.get(TAKEN, "").split()
    if not taken or "--" not in text:
        return text
    names = dict.fromkeys(OPTION.findall(COMMAND.sub("", text)))
    variables = {name: name.upper().replace("-", "_") for name in names}
    words = [f"{word}={'1' if word in SWITCHES else '...'}" for word in variables.values() if word in taken]
    others = [f"--{name}" for name, word in variables.items() if word not in taken]
    words += [f"ARGS='{' '.join(others)} ...'"] * (bool(others) and "ARGS" in taken)
    return f"{text} (make: {', '.join(words)})" if words else text
