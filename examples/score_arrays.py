"""Score arrays of one's own with a head, without a cache: `python examples/score_arrays.py`."""

import numpy as np
import torch

import melcache

B, C, D, V = 2, 3, 8, 16  # mentions, candidates, width of texts, width of pictures
draw = np.random.default_rng(0).standard_normal
batch = melcache.make_batch(
    {
        "mention_text": draw((B, D), np.float32),
        "mention_image": draw((B, V), np.float32),
        "entity_text": draw((B, C, D), np.float32),
        "entity_image": draw((B, C, V), np.float32),
        "edges": np.clip(draw((B, C, 2, 2), np.float32), 0, 1),
        "present": np.array([[True, True, True], [True, True, False]]),
        "gold": np.array([1, 0]),
    }
)
print("heads that are trained:", ", ".join(melcache.MODELS))
torch.manual_seed(0)
head = melcache.MODELS["drin"](melcache.DrinConfig(text_width=D, image_width=V, width=4))
with torch.no_grad():
    print(head(batch))  # (B, C), -inf for what is no candidate
print("drin reads", ", ".join(melcache.HEADS["drin"].reads))
