"""What spoils a model's folder, for tables of models that cannot be used, and what the error of each must be."""

import json
import shutil
from contextlib import contextmanager

import pytest
from safetensors.torch import load_file, save_file

from common.errors import WeightsError
from tests.extract.models import write

WEIGHTS = "model.safetensors"
LONGEST = 700  # characters of an error


def remove(*names):
    """A function that takes files and folders out of a folder."""

    def removed(folder):
        for path in (folder / name for name in names):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return removed


def written(name, text):
    """A function that writes a file of a folder anew."""
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def edit_json(name, **values):
    """A function that sets values of a JSON file of a folder; None takes one out."""

    def edited(folder):
        found = json.loads((folder / name).read_text()) | values
        write(folder / name, {key: value for key, value in found.items() if value is not None})

    return edited


def edit_state(change, file=WEIGHTS):
    """A function that changes the weights of a folder, a dict of tensors, in place."""

    def edited(folder):
        state = load_file(folder / file)
        change(state)
        save_file(state, folder / file, {"format": "pt"})

    return edited


@contextmanager
def refused(message, kinds=WeightsError):
    """Expect an error of one of some kinds that is one line with a `message`."""
    with pytest.raises(kinds, match=message) as error:
        yield
    assert "\n" not in str(error.value) and len(str(error.value)) < LONGEST


def flat(value, path=()):
    """Yield the path and value of everything in a recipe that is no mapping."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from flat(inner, (*path, name))
        else:
            yield ".".join((*path, name)), inner
