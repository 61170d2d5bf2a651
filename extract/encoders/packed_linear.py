"""Linear layers whose weights oneDNN has packed: the same result to rounding, on some CPUs in half the time.

torch multiplies float32 matrices by MKL, which on AMD's processors does without AVX-512. The packed product is the one
that torch.compile takes for frozen models.
"""

from typing import Any

import torch
from torch import Tensor, nn

ROWS_HINT = 1024  # rows of a product that the packing is made for; others are as right


class PackedLinear(nn.Linear):
    """A linear layer for inference: x (..., in) -> (..., out), float32 on a CPU; models may look at its weights."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__(plain.in_features, plain.out_features, device="meta")
        self.weight, self.bias = plain.weight, plain.bias
        self._packed: Any = torch.ops.mkldnn._reorder_linear_weight(plain.weight.detach(), ROWS_HINT)

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return found


def there() -> bool:
    """Whether this torch has the product and the packing."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


def pack(model: nn.Module) -> None:
    """Replace each plain linear layer of a model on a CPU by a packed one; what derives from them stays."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child.weight.dtype is torch.float32:
                setattr(module, name, PackedLinear(child))
