"""Heads by name: `MODELS["drin"](config)`."""

from train.models.drin import Drin
from train.models.joint import Joint

MODELS = {"drin": Drin, "bert": Joint, "jmel": Joint, "clip_linear": Joint}
