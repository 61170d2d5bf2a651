"""The optimizer against torch's own AdamW, clip_grad_norm_ and LambdaLR, step by step, alone and stacked."""

import itertools

import pytest
import torch

from train.config import TrainConfig, resolved
from train.optimizing.adam import Adam, Schedule
from train.optimizing.training_state import plan_of

SHAPES = ((5, 3), (4,), ())  # a matrix, a bias, and one number such as a learned temperature


def weights(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def reference(start, gradients, schedule, steps):
    """Parameters after each step of torch's AdamW, its learning rate growing from 0 and falling to 0."""
    parameters = [tensor.clone().requires_grad_() for tensor in start]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)

    def factor(step):
        if step < schedule.warm_up:
            return step / schedule.warm_up
        if not schedule.decay_to:
            return 1.0
        return max(0.0, (schedule.decay_to - step) / max(1, schedule.decay_to - schedule.warm_up))

    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for step in range(steps):
        for parameter, gradient in zip(parameters, gradients[step], strict=True):
            parameter.grad = gradient.clone()
        if schedule.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters, schedule.clip_norm)
        optimizer.step()
        rates.step()
        yield [parameter.detach().clone() for parameter in parameters]


SCHEDULES = [
    Schedule(1e-2, warm_up, decay_to, weight_decay, clip_norm)
    for warm_up, decay_to, weight_decay, clip_norm in itertools.product((0, 4), (0, 12), (0.0, 0.3), (0.0, 1.0))
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("seeds", [1, 3])
def test_every_step_is_that_of_torch(schedule, seeds):
    steps = 15  # three past the end of the fall
    generator = torch.Generator().manual_seed(9)
    # seed i's gradients are about 10^(i-1) long: some are clipped, others are not
    gradients = [
        [[10.0 ** (i - 1) * torch.randn(shape, generator=generator) for shape in SHAPES] for _ in range(steps)]
        for i in range(seeds)
    ]
    starts = [weights(i) for i in range(seeds)]
    expected = [reference(starts[i], gradients[i], schedule, steps) for i in range(seeds)]
    if seeds == 1:
        ours = [tensor.clone().requires_grad_() for tensor in starts[0]]
    else:
        ours = [torch.stack(own).requires_grad_() for own in zip(*starts, strict=True)]
    adam = Adam(ours, schedule, stacked=seeds > 1)
    for step in range(steps):
        for place, parameter in enumerate(ours):
            own = [gradients[i][step][place].clone() for i in range(seeds)]
            parameter.grad = own[0] if seeds == 1 else torch.stack(own)
        adam.step()
        for i in range(seeds):
            for mine, theirs in zip(ours, next(expected[i]), strict=True):
                torch.testing.assert_close(mine.detach() if seeds == 1 else mine.detach()[i], theirs, rtol=0, atol=2e-6)


def test_the_authors_plan_of_dwe_is_in_its_preset():
    mentions = 7 * 128 - 3  # seven steps an epoch
    config = resolved(TrainConfig(model="dwe_authors"))
    assert (config.epochs, config.batch) == (300, 128)
    assert plan_of(config, mentions).schedule == Schedule(
        5e-5, warm_up=100, decay_to=2100, weight_decay=1e-3, clip_norm=1.0
    )
    given = resolved(TrainConfig(model="dwe_authors", epochs=500, learning_rate=5e-6, decay=False))
    assert plan_of(given, mentions).schedule == Schedule(
        5e-6, warm_up=100, decay_to=0, weight_decay=1e-3, clip_norm=1.0
    )
