"""How a mention and what was found beside it become one vector: vectors (B, P) -> (B, parts * P)."""

import torch
from torch import Tensor, nn


class Gated(nn.Module):
    """mention + sum over units u of sigmoid(W_u [mention; u] + b_u) * u: a gate for each number of a unit."""

    reads, parts = ("mention", "vision", "text"), 1

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gates = nn.ModuleDict({unit: nn.Linear(2 * width, width) for unit in self.reads[1:]})
        for gate in self.gates.values():
            nn.init.xavier_uniform_(gate.weight)

    def forward(self, mention: Tensor, vision: Tensor, text: Tensor) -> Tensor:
        units = zip(self.gates.values(), (vision, text), strict=True)
        return mention + sum(torch.sigmoid(gate(torch.cat([mention, unit], -1))) * unit for gate, unit in units)


class Summed(nn.Module):
    """mention + vision + text."""

    reads, parts = ("mention", "vision", "text"), 1

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, mention: Tensor, vision: Tensor, text: Tensor) -> Tensor:
        return mention + vision + text


class Concatenated(nn.Module):
    """[sentence; image; mention]: no unit at all."""

    reads, parts = ("sentence", "image", "mention"), 3

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, sentence: Tensor, image: Tensor, mention: Tensor) -> Tensor:
        return torch.cat([sentence, image, mention], -1)


FUSIONS = {"gate": Gated, "sum": Summed, "concat": Concatenated}
