"""Adam as one fused call (Kingma and Ba 2015).

torch.optim.Adam computes the same bits, but constructing one imports torch._dynamo: 4 s before the first step.
"""

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Adam:
    """Adam over `parameters`, with the defaults of torch.optim.Adam.  Nothing here waits for the device."""

    def __init__(self, parameters: list[Tensor], learning_rate: float) -> None:
        self._parameters = parameters
        self._learning_rate = learning_rate
        self._means = [torch.zeros_like(p) for p in parameters]
        self._squares = [torch.zeros_like(p) for p in parameters]
        self._steps = [torch.zeros((), device=p.device) for p in parameters]

    def zero_grad(self) -> None:
        """Drop all gradients, so that backward writes them instead of adding."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step; a parameter without a gradient stays as it is."""
        moved = [i for i, parameter in enumerate(self._parameters) if parameter.grad is not None]
        steps = [self._steps[i] for i in moved]
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            [self._parameters[i] for i in moved],
            [self._parameters[i].grad for i in moved],
            [self._means[i] for i in moved],
            [self._squares[i] for i in moved],
            [],
            steps,
            lr=self._learning_rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """Return all that a continued training needs, by name; the tensors are the live ones."""
        named = {"mean": self._means, "square": self._squares, "step": self._steps}
        return {f"{name}.{i}": tensor for name, tensors in named.items() for i, tensor in enumerate(tensors)}
