"""Entity vertices of one modality, computed or still the features that a linear layer maps to them."""

from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn import functional

from train.layers.products import Dots, Sums


@dataclass(frozen=True)
class Vertices:
    """Entity vertices (B, C, D); with `entry` not computed yet: entry(values), where values are features (B, C, F)."""

    values: Tensor
    entry: nn.Linear | None = None

    def dots(self, queries: Tensor) -> tuple[Tensor, "Vertices"]:
        """Return the dot product of every query with every vertex, (B, k, D) -> (B, k, C), and the vertices."""
        if self.entry is None:
            found, values = Dots.apply(self.values, queries)
            return found, replace(self, values=values)
        found = (queries @ self.entry.weight) @ self.values.mT
        if self.entry.bias is not None:
            found = found + (queries @ self.entry.bias)[..., None]
        return found, self

    def sums(self, weights: Tensor) -> tuple[Tensor, "Vertices"]:
        """Return weighted sums of the vertices, (B, k, C) -> (B, k, D), and the vertices."""
        if self.entry is None:
            found, values = Sums.apply(self.values, weights)
            return found, replace(self, values=values)
        found = functional.linear(weights @ self.values, self.entry.weight)
        if self.entry.bias is not None:
            found = found + weights.sum(-1, keepdim=True) * self.entry.bias
        return found, self

    def through(self, layer: nn.Linear) -> Tensor:
        """Return layer(vertices), (B, C, D)."""
        if self.entry is None:
            return layer(self.values)
        weight, bias = layer.weight @ self.entry.weight, layer.bias
        if self.entry.bias is not None:
            bias = functional.linear(self.entry.bias, layer.weight, layer.bias)
        return functional.linear(self.values, weight, bias)
