"""Heads by name: `MODELS["drin"](config)`."""

from train.models.drin import Drin

MODELS = {"drin": Drin}
