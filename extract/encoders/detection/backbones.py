"""The backbone that a detector's config.json names: built without weights of its own, and without asking the Hub.

transformers would look a `backbone` with `backbone_kwargs` up there, and take the config that it finds.
"""

from pathlib import Path
from typing import Any

from common.errors import WeightsError

# whose config makes timm's backbone of the name alone
TIMM = ("detr", "conditional_detr", "deformable_detr", "dab-detr", "table-transformer")
KEYS = ("backbone", "backbone_config", "backbone_kwargs", "use_timm_backbone", "use_pretrained_backbone")
KWARGS = {"in_chans": "num_channels", "num_channels": "num_channels", "out_indices": "out_indices"}
KWARGS |= {"output_stride": "output_stride"}


def settled(kind: str, raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a config.json whose backbone is described in it.  Raises WeightsError for one that another model has."""
    rest = {name: value for name, value in raw.items() if name not in KEYS}
    described = raw.get("backbone_config")
    name = described.get("backbone") if isinstance(described, dict) else raw.get("backbone")
    if name is not None and (not isinstance(name, str) or ":" in name):  # hf-hub:NAME, which timm would fetch
        raise WeightsError(f"{folder}/config.json: its backbone is {name!r:.60}, expected the name of a model of timm")
    if described is not None:
        return rest | {"backbone_config": described}
    given = raw.get("backbone_kwargs") or {}
    if name is None:
        return rest
    timm = raw.get("use_timm_backbone", True) and isinstance(given, dict) and set(given) <= set(KWARGS)
    if not timm or (kind not in TIMM and "out_indices" not in given):
        raise WeightsError(
            f"{folder}/config.json takes its backbone from another model, {name!r:.60}. Expected backbone_config, or "
            f"one of timm with no more backbone_kwargs than {', '.join(KWARGS)}"
        )
    if "out_indices" not in given:
        return rest | {"backbone": name}
    described = {"model_type": "timm_backbone", "backbone": name, "features_only": True}
    return rest | {"backbone_config": described | {KWARGS[key]: value for key, value in given.items()}}
