"""Toy sizes of detectors by family, for random-tiny: the real class, a few small layers."""

from pathlib import Path
from typing import Any

from common.errors import WeightsError
from extract.encoders.detection import backbones

PIXELS = {"size": {"height": 64, "width": 64}}  # of a picture, whatever its shape
LAYERS = {
    "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_queries": 20,
}  # fmt: skip
# untrained at their own scale, all queries would see one box
SCALES = {"init_std": 0.3, "init_xavier_std": 5.0}
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
LAST = {"model_type": "resnet", **STAGES, "out_features": ["stage4"]}
THREE = ["stage2", "stage3", "stage4"]
DETR = {"d_model": 64, **LAYERS, **SCALES, "backbone_config": LAST}
RT_DETR = {
    "d_model": 64, **LAYERS, "encoder_hidden_dim": 64, "encoder_in_channels": [16, 16, 16],
    "decoder_in_channels": [64, 64, 64], "initializer_range": 0.3,
    "backbone_config": {"model_type": "rt_detr_resnet", **STAGES, "out_features": THREE},
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "detr": DETR,
    "table-transformer": DETR,
    "conditional_detr": DETR,
    "deformable_detr": DETR | {"backbone_config": LAST | {"out_features": THREE}, "num_feature_levels": 4},
    "rt_detr": RT_DETR,
    "rt_detr_v2": RT_DETR,
    "yolos": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "image_size": [64, 64], "patch_size": 16, "num_detection_tokens": 20, "initializer_range": 0.3,
    },
}  # fmt: skip
# of a config.json: how its own backbone is made
BACKBONE = (*backbones.KEYS, "dilation")


def small(kind: str, raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the config of a toy of a family.  Raises WeightsError for one of which there is none."""
    if kind not in SIZES:
        raise WeightsError(
            f"{folder} is of family {kind}, of which there is no toy; there are {', '.join(SIZES)}. Pass "
            "--detector-weights random-full or leave the option out"
        )
    return {name: value for name, value in raw.items() if name not in BACKBONE} | SIZES[kind]
