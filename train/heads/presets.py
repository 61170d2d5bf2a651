"""Knobs of training where nobody says them: DRIN's, what authors of a head do instead, and on which dataset."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train.checks import shown
from train.heads.registry import HEADS

# knob: its value, and the source of that
DEFAULTS: dict[str, tuple[Any, str]] = {
    "epochs": (30, "DRIN 4.4"),
    "batch": (64, "DRIN 4.4"),
    "learning_rate": (1e-3, "DRIN 4.4"),
    "weight_decay": (0.0, ""),
    "warm_up": (0, ""),
    "decay": (False, ""),
    "clip_norm": (0.0, ""),
    "restart": (0, ""),
}


def of(model: str, dataset: str) -> dict[str, Any]:
    """Return the knobs of a head on a cache, named or by its path."""
    entry, general = HEADS.get(model), {name: value for name, (value, _) in DEFAULTS.items()}
    if entry is None:
        return general
    return general | dict(entry.defaults) | dict(entry.on_dataset.get(Path(dataset).name, {}))


def told(knob: str) -> str:
    """Return a knob's defaults for its help: "default: 30, DRIN 4.4; dwe_authors 300, on wikidiverse 500"."""
    value, source = DEFAULTS[knob]
    return "; ".join([f"default: {', '.join(filter(None, (shown(value), source)))}", *_of_heads(knob)])


def _of_heads(knob: str) -> Iterator[str]:
    alike: dict[str, list[str]] = {}
    for name, entry in HEADS.items():
        own = [shown(entry.defaults[knob])] if knob in entry.defaults else []
        own += [f"on {dataset} {shown(knobs[knob])}" for dataset, knobs in entry.on_dataset.items() if knob in knobs]
        if own:
            alike.setdefault(", ".join(own), []).append(name)
    yield from (f"{', '.join(names)} {own}" for own, names in alike.items())
