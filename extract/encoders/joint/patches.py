"""Patches of a picture as an open_clip image tower leaves them: its last layer's grid, not pooled, not projected."""

from typing import Any

import torch

from extract.encoders.joint.kept import kept


def see(visual: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures' vectors (n, P), as the tower itself gives them, and their patches (n, G, I), row by row.

    pixels (n, 3, H, W). Patches are those that the tower pools: without a class token, and behind the last norm of a
    tower that norms all tokens; of a convolutional tower the places of its last feature map.
    """
    if hasattr(visual, "trunk"):  # timm's
        features = visual.trunk.forward_features(pixels)
        return visual.head(visual.trunk.forward_head(features)), _of_trunk(visual.trunk, features)
    if hasattr(visual, "layer4"):  # a ResNet
        with kept(visual.layer4) as outputs:
            vectors = visual(pixels)
        return vectors, outputs[0].flatten(2).mT
    with kept(visual.transformer) as outputs:
        vectors = visual(pixels)
    tokens = outputs[0][:, 1:]
    pooled_first = visual.attn_pool is not None or visual.final_ln_after_pool
    return vectors, tokens if pooled_first else visual.ln_post(tokens)


def _of_trunk(trunk: Any, features: torch.Tensor) -> torch.Tensor:
    """Return the patches (n, G, I) of what a model of timm makes: a map, of either order of axes, or tokens."""
    if features.ndim == 3:
        return features[:, getattr(trunk, "num_prefix_tokens", 0) :]
    return features.flatten(1, 2) if getattr(trunk, "output_fmt", "NCHW") == "NHWC" else features.flatten(2).mT
