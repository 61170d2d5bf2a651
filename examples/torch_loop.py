"""A training loop of one's own on a cache's vectors: `python examples/torch_loop.py CACHE`."""

import sys

import torch
from torch.utils.data import DataLoader

import melcache

SPAN, TEXT = "mention.text.span", "entity.text.sentence"
reader = melcache.open(sys.argv[1])
train = melcache.Mentions(reader, "train", [SPAN, TEXT])
width = reader.shape(SPAN)[1]
torch.manual_seed(0)
map_mention = torch.nn.Linear(width, width)
optimizer = torch.optim.Adam(map_mention.parameters(), 1e-2)
for epoch in range(2):
    total = 0.0
    for batch in DataLoader(train, batch_size=16, shuffle=True):
        mentions, candidates = map_mention(batch[SPAN].float()), batch[TEXT].float()  # (B, D), (B, C, D)
        scores = torch.einsum("bd,bcd->bc", mentions, candidates).masked_fill(~batch["present"], -torch.inf)
        known = batch["gold"] >= 0
        loss = torch.nn.functional.cross_entropy(scores[known], batch["gold"][known], reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}: loss {total / len(train):.3f}")
