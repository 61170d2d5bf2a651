"""Options as make takes them: whoever types `make extract LIMIT=5` is told of LIMIT=, not of --limit alone."""

import os
import re

TAKEN = "MELCACHE_MAKE"  # in the environment: the variables that the target of our Makefile takes
SWITCHES = ("PUSH", "PLAN", "EXPLAIN")
OPTION = re.compile(r"(?<![\w/=-])--([a-z][a-z-]*[a-z])")
COMMAND = re.compile(
    r"\b(?:melcache|make|python -m|torchrun) .*?(?:; |\. |$)"
)  # what is suggested is typed as it stands


def spelled(text: str) -> str:
    """Return a message, and behind it how make takes the options that it names; as it is where no make runs this."""
    taken = os.environ.get(TAKEN, "").split()
    if not taken or "--" not in text or "(make: " in text:
        return text
    names = dict.fromkeys(OPTION.findall(COMMAND.sub("", text)))
    variables = {name: name.upper().replace("-", "_") for name in names}
    words = [f"{word}={'1' if word in SWITCHES else '...'}" for word in variables.values() if word in taken]
    others = [f"--{name}" for name, word in variables.items() if word not in taken]
    words += [f"ARGS='{' '.join(others)} ...'"] * (bool(others) and "ARGS" in taken)
    return f"{text} (make: {', '.join(words)})" if words else text
