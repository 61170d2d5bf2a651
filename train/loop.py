"""Train a head on a cache; `fit` is the function to read first."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import cache
from common.errors import NotFiniteError
from common.output import Progress, say
from common.paths import find_cache
from train import results
from train.config import TrainConfig
from train.data.not_finite import naming_columns
from train.data.table import Table
from train.evaluating import metrics
from train.evaluating.ranking import evaluate, rank, rank_baseline
from train.evaluating.untrained_heads import BASELINES
from train.heads.head_config import HeadConfig
from train.heads.models import MODELS, build
from train.optimizing.checkpoint import Checkpoints, Half
from train.optimizing.head_weights import weights_of
from train.optimizing.step import CapturedStep, Step
from train.optimizing.training_state import Training
from train.prepare import Data, data_of, groups, machine, table_of, with_widths
from train.processes import World


def fit(
    config: TrainConfig, head: HeadConfig | None, passed: Callable[[int], None] = lambda seeds: None
) -> dict[str, Any]:
    """Train one head with each seed, test the epoch that was best on valid, and return what results.json holds.

    `head` is the head's config; its widths are taken from the cache. `passed` is called after each epoch with
    the number of seeds that took it. Raises MelcacheError: see common.errors.
    """
    reader = cache.open(find_cache(config.dataset, config.shards))
    with machine(config) as (config, world, device):
        head = with_widths(head, reader)
        table = table_of(config, head, reader, device)
        with naming_columns(table):
            data = data_of(config, head, reader, table, world)
            checkpoints = Checkpoints(config.folder, results.identity(config, head, reader))
            known = _known(config, head, checkpoints, world)
            if config.model in BASELINES:
                seeds = [_untrained(config.model, data, checkpoints, world)]
            else:
                seeds = _fit_all(config, head, data, *known, checkpoints, world, passed)
            lexical = {name: _measure("lexical", data, name, world) for name in data.splits}
        trained = results.results_of(config, head, reader, data, lexical, seeds)
        if world.first:
            results.save(config.folder, trained)
    return trained


def _fit_all(
    config: TrainConfig,
    head: HeadConfig | None,
    data: Data,
    found: dict[int, dict[str, Any] | None],
    unfinished: Half | None,
    checkpoints: Checkpoints,
    world: World,
    passed: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Train the seeds without a result, some together; return the results of all seeds of the folder."""
    left = tuple(seed for seed, result in found.items() if result is None)
    results.announce(config, sorted(found.keys() - set(left)), data.table.resident)
    with results.Curves(config, found, world) as curves:
        for seeds, half in groups(config, head, data.table, left, unfinished):
            trained = fit_seeds(config, head, data, seeds, half, checkpoints, curves, world, passed)
            found |= {result["seed"]: result for result in trained}
    if world.first:
        checkpoints.drop()
    return [found[seed] for seed in sorted(found)]


def fit_seeds(
    config: TrainConfig,
    head: HeadConfig | None,
    data: Data,
    seeds: tuple[int, ...],
    half: Half | None,
    checkpoints: Checkpoints,
    curves: results.Curves,
    world: World,
    passed: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Train some seeds together, from `half` if they are half done; return their results."""
    start = time.monotonic()
    new = functools.partial(build, config.model, head, with_lexical=config.with_lexical)
    training = Training(config, new, seeds, data.table.device, len(data.rows))
    if half is not None:
        training.load(half)
        say(f"seeds {', '.join(map(str, seeds))} continue after epoch {training.epoch} of {config.epochs}")
    curves.begin(seeds, training.history)
    step = _step(config, training, data.table, world)
    before, count = training.seconds, len(data.rows)
    steps = math.ceil(count / config.batch) * (config.epochs - training.epoch)
    name = results.name_of(config, head)
    label = f"{name}, seed {','.join(map(str, seeds))}"
    with Progress(steps, label, "steps") as progress:
        while training.epoch < config.epochs and training.going():
            if config.restart and training.epoch and training.epoch % config.restart == 0:
                training.adam.restart()
            losses = run_epoch(step, data.table, data.rows[training.orders(count)], config.batch, progress, world)
            training.epoch += 1
            _check(losses, training, checkpoints)
            for i in training.going():
                training.record(i, float(losses[:, i].sum()) / count, _validate(i, training, data, checkpoints, world))
                curves.add(seeds[i], training.history[i][-1])
            training.seconds = before + time.monotonic() - start
            passed(len(seeds))
            if world.first:
                training.keep(checkpoints)
    trained = [_finish(i, name, training, data, checkpoints, world) for i in range(len(seeds))]
    if world.first:
        checkpoints.drop()
    return trained


def run_epoch(
    step: Step | CapturedStep, table: Table, orders: Tensor, size: int, progress: Progress, world: World
) -> Tensor:
    """Take one pass over the mention rows in `orders` (S, n); return summed losses of each step, (steps, S) on the CPU.

    Nothing in it waits for the device but the return.
    """
    count = orders.shape[1]
    if world.size > 1 or table.device.type == "cuda":  # equal shapes; what is added has no gold and adds nothing
        orders = torch.nn.functional.pad(orders, (0, -count % size), value=-1)
    if table.resident == "device":
        orders = orders.to(table.device)
    groups = orders.squeeze(0).split(size, -1) if len(orders) == 1 else orders.split(size, -1)
    shares = [world.share(group) for group in groups]
    sizes = [min(size, count - begin) for begin in range(0, count, size)]
    whole_step = isinstance(step, CapturedStep) and table.resident == "device"
    losses = []
    for given, real in zip(shares if whole_step else table.batches(shares), sizes, strict=True):
        losses.append(step(given, world.count(real) / real) * real)
        progress.advance()
    total = torch.stack(losses)
    world.add([total])
    return total.cpu()


def _known(
    config: TrainConfig, head: HeadConfig | None, checkpoints: Checkpoints, world: World
) -> tuple[dict[int, dict[str, Any] | None], Half | None]:
    """Return the results of the folder's seeds, None for those to train, and what is half done.

    The same in all processes. A folder is one run: seeds that were trained into it before stay in its results.
    """
    if world.first:
        checkpoints.tidy(fresh=config.fresh)
    world.wait()
    checkpoints.check()
    layout = weights_of(config.model, head, with_lexical=config.with_lexical) if config.model in MODELS else {}
    found = dict.fromkeys(config.seeds) | checkpoints.finished(layout), checkpoints.unfinished(config.seeds)
    world.wait()  # for those that still read: the first one writes
    return found


def _step(config: TrainConfig, training: Training, table: Table, world: World) -> Step | CapturedStep:
    step = Step(training.stack, training.adam, world, config.precision)
    if table.device.type != "cuda" or world.size > 1:
        return step
    return CapturedStep(step, table, [*training.stack.parameters.values(), *training.adam.state().values()])


def _validate(
    position: int, training: Training, data: Data, checkpoints: Checkpoints, world: World
) -> dict[str, float]:
    """Return a seed's metrics on valid.  Raises NotFiniteError if its last step of the epoch has diverged."""
    try:
        return evaluate(training.stack.model(position), data.watched, world)
    except NotFiniteError as error:
        raise NotFiniteError(
            f"the scores of seed {training.seeds[position]} on valid are not finite after epoch {training.epoch} "
            f"({error}). {_way_out(training, checkpoints)}"
        ) from None


def _measure(baseline: str, data: Data, split: str, world: World) -> dict[str, float]:
    """Return the metrics of a head without weights."""
    return metrics.summarize(*rank_baseline(baseline, data.splits[split], data.table, world))


def _untrained(model: str, data: Data, checkpoints: Checkpoints, world: World) -> dict[str, Any]:
    """Return the result of a head without weights, in the form of a seed's."""
    start = time.monotonic()
    ranks = rank_baseline(model, data.splits["test"], data.table, world)
    tested = _tested(0, ranks, data, checkpoints if world.first else None)
    valid = {name: _measure(model, data, name, world) for name in data.splits if name == "valid"}
    seconds = round(time.monotonic() - start, 2)
    return {"seed": 0, "epoch": 0, **valid, **tested, "seconds": seconds, "history": []}


def _tested(seed: int, ranks: tuple[Tensor, Tensor], data: Data, checkpoints: Checkpoints | None) -> dict[str, Any]:
    """Keep a seed's ranks on test; return its metrics, and those under the two other rules for ties."""
    better, tied = ranks
    if checkpoints is not None:
        checkpoints.keep_ranks(seed, {"rows": data.splits["test"].rows, "better": better, "tied": tied})
    other = {rule: metrics.summarize(better, tied, rule) for rule in ("optimistic", "pessimistic")}
    return {"test": metrics.summarize(better, tied), "ties": other}


def _check(losses: Tensor, training: Training, checkpoints: Checkpoints) -> None:
    """Raise NotFiniteError, naming seed, epoch and batch, for the first loss (steps, S) that is no number."""
    bad = (~torch.isfinite(losses[:, training.going()])).nonzero()
    if len(bad):
        batch, seed = int(bad[0, 0]), training.going()[int(bad[0, 1])]
        raise NotFiniteError(
            f"the training loss of seed {training.seeds[seed]} became {losses[batch, seed].item()} in epoch "
            f"{training.epoch}, batch {batch + 1} of {len(losses)}. {_way_out(training, checkpoints)}"
        )


def _way_out(training: Training, checkpoints: Checkpoints) -> str:
    kept = f"The last checkpoint before is in {checkpoints.folder}/. " if checkpoints.unfinished(training.seeds) else ""
    alone = ", or train the other seeds without it: --together no" if len(training.seeds) > 1 else ""
    return f"{kept}Try a smaller --learning-rate, with --fresh{alone}"


def _finish(
    position: int, name: str, training: Training, data: Data, checkpoints: Checkpoints, world: World
) -> dict[str, Any]:
    """Test the best epoch of a seed, keep it, and return the seed's result."""
    model, state = training.stack.model(position), training.best(position)
    model.load_state_dict(state)
    epoch, seed = training.best_epoch[position], training.seeds[position]
    ranks = rank(model, data.splits["test"], world)
    valid = training.history[position][epoch - 1]["valid"]
    result = {
        "seed": seed,
        "epoch": epoch,
        "valid": valid if data.watched is data.splits["valid"] else evaluate(model, data.splits["valid"], world),
        **_tested(seed, ranks, data, checkpoints if world.first else None),
        "seconds": round(training.seconds / len(training.seeds), 2),
        "history": training.history[position],
    }
    if world.first:
        checkpoints.finish(result, state)
    top = 100 * result["valid"]["top1"]
    say(f"{name}, seed {seed}: best epoch {epoch} of {len(result['history'])}, valid Top-1 {top:.1f}")
    return result
