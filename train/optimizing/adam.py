"""Adam as one fused call (Kingma and Ba 2015), with what schedules and clipping need.

torch.optim.Adam and AdamW compute the same bits, but constructing one imports torch._dynamo: 4 s before the first step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class Schedule:
    """The learning rate's course: it grows over `warm_up` steps, then with `decay_to` steps in all falls to 0 there.

    `weight_decay` is decoupled (AdamW), `clip_norm` the largest norm of a seed's gradient; 0 turns each off.
    """

    learning_rate: float
    warm_up: int = 0
    decay_to: int = 0
    weight_decay: float = 0.0
    clip_norm: float = 0.0

    @property
    def constant(self) -> bool:
        """Whether the learning rate is the same in every step."""
        return not self.warm_up and not self.decay_to


class Adam:
    """Adam over `parameters`, with the defaults of torch.optim.Adam.  Nothing here waits for the device.

    With `stacked`, each parameter's first axis is the seeds', whose gradients are clipped apart.
    """

    def __init__(self, parameters: list[Tensor], schedule: Schedule, *, stacked: bool = False) -> None:
        self._parameters, self._schedule, self._stacked = parameters, schedule, stacked
        self._means = [torch.zeros_like(p) for p in parameters]
        self._squares = [torch.zeros_like(p) for p in parameters]
        self._steps = [torch.zeros((), device=p.device) for p in parameters]
        self._taken = torch.zeros((), device=parameters[0].device)

    def zero_grad(self) -> None:
        """Drop all gradients, so that backward writes them instead of adding."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step; a parameter without a gradient stays as it is."""
        moved = [i for i, parameter in enumerate(self._parameters) if parameter.grad is not None]
        if self._schedule.clip_norm:
            self._clip([self._parameters[i].grad for i in moved])
        steps = [self._steps[i] for i in moved]
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            [self._parameters[i] for i in moved],
            [self._parameters[i].grad for i in moved],
            [self._means[i] for i in moved],
            [self._squares[i] for i in moved],
            [],
            steps,
            lr=self._rate(),
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self._schedule.weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def restart(self) -> None:
        """Forget all moments, as a new optimizer would."""
        for tensor in (*self._means, *self._squares, *self._steps):
            tensor.zero_()

    def state(self) -> dict[str, Tensor]:
        """Return all that a continued training needs, by name; the tensors are the live ones."""
        named = {"mean": self._means, "square": self._squares, "step": self._steps, "taken": [self._taken]}
        return {f"{name}.{i}": tensor for name, tensors in named.items() for i, tensor in enumerate(tensors)}

    def _rate(self) -> Tensor | float:
        """Return this step's learning rate; one that changes is a tensor, so that a captured step computes it anew."""
        schedule = self._schedule
        if schedule.constant:
            return schedule.learning_rate
        factor = torch.ones_like(self._taken)
        if schedule.warm_up:
            factor = (self._taken / schedule.warm_up).clamp(max=1)
        if schedule.decay_to:
            left = (schedule.decay_to - self._taken) / max(1, schedule.decay_to - schedule.warm_up)
            factor = torch.minimum(factor, left.clamp(0, 1))
        self._taken += 1
        return schedule.learning_rate * factor

    def _clip(self, gradients: list[Tensor]) -> None:
        """Shorten each seed's gradient to the largest norm allowed (as torch.nn.utils.clip_grad_norm_)."""
        squares = [
            gradient.square().reshape(len(gradient), -1).sum(1) if self._stacked else gradient.square().sum()
            for gradient in gradients
        ]
        norm = torch.stack(squares).sum(0).sqrt()
        scale = (self._schedule.clip_norm / (norm + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)) if self._stacked else scale)
