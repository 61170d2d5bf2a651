"""Tiny open_clip models in folders, with random weights: CLIP, SigLIP, and with text towers of transformers."""

import json

import open_clip
import torch
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import save_file
from timm.models import register_model, vision_transformer

from tests.extract import models

VISION = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
TEXT = {"context_length": 12, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2}
BERT = {"context_length": 20, "hf_proj_type": "linear"}
SIGLIP = {
    "context_length": 10, "vocab_size": 300, "width": 32, "heads": 2, "layers": 2, "no_causal_mask": True,
    "proj_bias": True, "pool_type": "last", "hf_tokenizer_name": "words", "tokenizer_kwargs": {"clean": "canonicalize"},
    "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"},
}  # fmt: skip
MULTILINGUAL = {**TEXT, "vocab_size": 300, "pool_type": "eos", "eos_id": 2, "hf_tokenizer_name": "words"}
TIMM = {"timm_model_name": "vit_small_of_tests", "timm_pool": "map", "timm_proj": "none", "image_size": 32}
SQUASHED = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
CONFIGS = {
    "clip": {"embed_dim": 20, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    "siglip": {
        "embed_dim": 32, "init_logit_bias": -10, "custom_text": True, "vision_cfg": TIMM, "text_cfg": SIGLIP
    },
    "bert": {"embed_dim": 20, "vision_cfg": VISION, "text_cfg": BERT},
    "xlm-roberta": {"embed_dim": 20, "vision_cfg": VISION, "text_cfg": BERT | {"hf_pooler_type": "mean_pooler"}},
    "multilingual": {"embed_dim": 20, "vision_cfg": VISION, "text_cfg": MULTILINGUAL},
}  # fmt: skip


@register_model
def vit_small_of_tests(pretrained=False, **options):
    """A SigLIP tower of timm, small: open_clip passes no sizes on."""
    sizes = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return vision_transformer.vit_base_patch16_siglip_224(**sizes | options)


def save(family, folder):
    """Write a tiny model of a family into a folder, as open_clip lays it out on the Hub, and return the folder."""
    config = json.loads(json.dumps(CONFIGS[family]))
    folder.mkdir()
    if family in models.FAMILIES:
        models.save(family, folder / "tower")
        config["text_cfg"] |= {"hf_model_name": str(folder / "tower"), "hf_tokenizer_name": "words"}
    if "hf_tokenizer_name" in config["text_cfg"]:
        models.save(family if family in models.FAMILIES else "xlm-roberta", folder, model=False)
    preprocess = SQUASHED if family == "siglip" else {}
    models.write(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess})
    kind = CLIP if family in ("clip", "multilingual") else CustomTextCLIP
    torch.manual_seed(1)
    built = json.loads(json.dumps(config))
    built.pop("custom_text", None)
    if family in models.FAMILIES:
        built["text_cfg"]["hf_model_pretrained"] = False
    model = kind(**built)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
        model.logit_scale += 0.25
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def library(folder):
    """Return the model, the transform and the tokenizer as open_clip's own functions make them of a folder."""
    name = f"local-dir:{folder}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    return model.eval(), transform, open_clip.get_tokenizer(name)
