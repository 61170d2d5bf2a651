"""Several seeds of one head as one model: every parameter with a leading axis S."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.heads.base import Head


class Objective(nn.Module):
    """The objective of a head as a module, so that functional_call can swap the parameters under it."""

    def __init__(self, model: Head) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss, ()."""
        return self.model.objective(batch)


class Stack:
    """S models that differ in their seed.  `parameters` are (S, ...), for one seed the model's own.

    Each seed's initial weights are those it has alone.  Of a stack the batches carry the leading axis S too.
    """

    def __init__(self, build: Callable[[], Head], seeds: tuple[int, ...], device: torch.device) -> None:
        models = []
        for seed in seeds:
            torch.manual_seed(seed)
            models.append(build().to(device))
        self.seeds = seeds
        self._objective = Objective(models[0])
        named = [dict(model.named_parameters()) for model in models]
        self.parameters = named[0]
        if len(seeds) > 1:
            stacked = {name: torch.stack([own[name].detach() for own in named]) for name in named[0]}
            self.parameters = {name: tensor.requires_grad_() for name, tensor in stacked.items()}

    def losses(self, batch: Batch) -> Tensor:
        """Return the loss of each seed, (S,)."""
        if len(self.seeds) == 1:
            return self._objective(batch)[None]

        def loss(parameters: dict[str, Tensor], tensors: list[Tensor]) -> Tensor:
            named = {f"model.{name}": tensor for name, tensor in parameters.items()}
            return torch.func.functional_call(self._objective, named, (batch.like(tensors),))

        return torch.func.vmap(loss, randomness="different")(self.parameters, batch.tensors())

    def state(self, position: int) -> dict[str, Tensor]:
        """Return the weights of one seed by their public names; the tensors are the live ones."""
        if len(self.seeds) == 1:
            return {name: tensor.detach() for name, tensor in self.parameters.items()}
        return {name: tensor.detach()[position] for name, tensor in self.parameters.items()}

    def model(self, position: int) -> Head:
        """Return the model of one seed, sharing the stack's memory.  Only until the next call, and not for training."""
        model = self._objective.model
        if len(self.seeds) > 1:
            for name, tensor in self.state(position).items():
                model.get_parameter(name).data = tensor
        return model
