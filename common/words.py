"""What a mistyped name was meant to be."""

import difflib


def nearest(word, known):
    """Return " (did you mean drin?)", with the nearest of the `known` names, where one is near; else "".

    The Makefile runs this with the system's python3, of whatever version.
    """
    found = difflib.get_close_matches(word.lower(), [name.lower() for name in known], 1)
    return next((f" (did you mean {name}?)" for name in known if found == [name.lower()]), "")
