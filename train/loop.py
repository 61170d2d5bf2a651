"""Train a head on a cache; `fit` is the function to read first."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from common.errors import NotFiniteError
from common.output import Progress, say
from train import results
from train.config import TrainConfig
from train.evaluating import protocols
from train.evaluating.metrics import TieRule
from train.evaluating.ranking import kept, measure, rank_baseline, ranked, ranked_by_baseline
from train.heads.base import Head
from train.heads.head_config import HeadConfig
from train.heads.models import built
from train.optimizing.checkpoint import Half
from train.optimizing.head_weights import weights_of
from train.optimizing.step import CapturedStep, Step
from train.optimizing.training_state import Training, plan_of
from train.prepare import groups
from train.run import Run, opened

OTHER_RULES: tuple[TieRule, ...] = ("optimistic", "pessimistic")


def fit(
    config: TrainConfig, head: HeadConfig | None, passed: Callable[[int], None] = lambda seeds: None
) -> dict[str, Any]:
    """Train one head with each seed, test the epoch that was best on valid, and return what results.json holds.

    `head` is the head's config; its widths are taken from the cache. `passed` is called after each epoch with
    the number of seeds that took it. Raises MelcacheError: see common.errors.
    """
    with opened(config, head) as run:
        found, unfinished = _known(run)
        seeds = [_untrained(run)] if run.head is None else _fit_all(run, found, unfinished, passed)
        lexical = {name: _measure(run, "lexical", name) for name in run.data.splits}
        trained = results.results_of(run, lexical, seeds)
        if run.world.first:
            results.save(run.config.folder, trained)
    return trained


def _fit_all(
    run: Run, found: dict[int, dict[str, Any] | None], unfinished: Half | None, passed: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Train the seeds without a result, some together; return the results of all seeds of the folder."""
    left = tuple(seed for seed, result in found.items() if result is None)
    results.announce(run, sorted(found.keys() - set(left)))
    with results.Curves(run, found) as curves:
        for seeds, half in groups(run.config, run.head, run.data.table, left, unfinished):
            found |= {result["seed"]: result for result in fit_seeds(run, seeds, half, curves, passed)}
    if run.world.first:
        run.checkpoints.drop()
    return [found[seed] for seed in sorted(found)]


def fit_seeds(
    run: Run, seeds: tuple[int, ...], half: Half | None, curves: results.Curves, passed: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Train some seeds together, from `half` if they are half done; return their results."""
    start, config, data = time.monotonic(), run.config, run.data
    new = functools.partial(built, config, run.head)
    training = Training(plan_of(config, len(data.rows)), new, seeds, data.table.device)
    if half is not None:
        training.load(half)
        say(f"seeds {', '.join(map(str, seeds))} continue after epoch {training.epoch} of {config.epochs}")
    elif training.stack.model(0).starts_as_it_is:
        for i in range(len(seeds)):
            training.begin(i, *_validate(run, training, i))
    curves.begin(seeds, training.history)
    step = _step(run, training)
    before, count = training.seconds, len(data.rows)
    steps = math.ceil(count / config.batch) * (config.epochs - training.epoch)
    with Progress(steps, f"{run.name}, seed {','.join(map(str, seeds))}", "steps") as progress:
        while training.epoch < config.epochs and training.going():
            if config.restart and training.epoch and training.epoch % config.restart == 0:
                training.adam.restart()
            losses = run_epoch(run, step, data.rows[training.orders(count)], progress)
            training.epoch += 1
            _check(run, training, losses)
            for i in training.going():
                training.record(i, float(losses[:, i].sum()) / count, *_validate(run, training, i))
                curves.add(seeds[i], training.history[i][-1])
            progress.note(results.so_far(run, training.history, training.best_epoch))
            training.seconds = before + time.monotonic() - start
            passed(len(seeds))
            if run.world.first:
                training.keep(run.checkpoints)
    trained = [_finish(run, training, i) for i in range(len(seeds))]
    if run.world.first:
        run.checkpoints.drop()
    return trained


def run_epoch(run: Run, step: Step | CapturedStep, orders: Tensor, progress: Progress) -> Tensor:
    """Take one pass over the mention rows in `orders` (S, n); return summed losses of each step, (steps, S) on the CPU.

    Nothing in it waits for the device but the return.
    """
    table, world, size, count = run.data.table, run.world, run.config.batch, orders.shape[1]
    if world.size > 1 or table.device.type == "cuda":  # equal shapes; padded rows have no gold and no loss
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


def _known(run: Run) -> tuple[dict[int, dict[str, Any] | None], Half | None]:
    """Return the results of the folder's seeds, None for those to train, and what is half done.

    The same in all processes. A folder is one run: seeds that were trained into it before stay in its results.
    """
    config, checkpoints = run.config, run.checkpoints
    if run.world.first:
        checkpoints.tidy(fresh=config.fresh)
    run.world.wait()
    checkpoints.check()
    given = {"with_lexical": config.with_lexical, "objective": config.objective}
    layout = weights_of(config.model, run.head, **given) if run.head else {}
    found = dict.fromkeys(config.seeds) | checkpoints.finished(layout), checkpoints.unfinished(config.seeds)
    run.world.wait()  # for those that still read: the first one writes
    return found


def _step(run: Run, training: Training) -> Step | CapturedStep:
    step, table = Step(training.stack, training.adam, run.world, run.config.precision), run.data.table
    if table.device.type != "cuda" or run.world.size > 1:
        return step
    return CapturedStep(step, table, [*training.stack.parameters.values(), *training.adam.state().values()])


def _validate(run: Run, training: Training, position: int) -> tuple[dict[str, float], Tensor | None]:
    """Return a seed's metrics on valid, and its scores there as ranking.ranked has them.

    Raises NotFiniteError if its last step of the epoch has diverged.
    """
    watched = run.data.watched
    try:
        ranks, scores = ranked(training.stack.model(position), watched, run.world)
        return measure(watched, ranks), scores
    except NotFiniteError as error:
        raise NotFiniteError(
            f"the scores of seed {training.seeds[position]} on valid are not finite after epoch {training.epoch} "
            f"({error}). {_way_out(run, training)}"
        ) from None


def _measure(run: Run, baseline: str, split: str) -> dict[str, float]:
    """Return the metrics of a head without weights."""
    of = run.data.splits[split]
    return measure(of, rank_baseline(baseline, of, run.data.table, run.world))


def _untrained(run: Run) -> dict[str, Any]:
    """Return the result of a head without weights, in the form of a seed's."""
    start, model, data = time.monotonic(), run.config.model, run.data
    ranks, scores = {}, {}
    for name, split in data.splits.items():
        ranks[name], scores[name] = ranked_by_baseline(model, split, data.table, run.world)
    _keep_scores(run, 0, model, scores)
    tested = _tested(run, 0, ranks["test"])
    valid = {name: measure(data.splits[name], ranks[name]) for name in data.splits if name == "valid"}
    seconds = round(time.monotonic() - start, 2)
    return {"seed": 0, "epoch": 0, **valid, **tested, "seconds": seconds, "history": []}


def _tested(run: Run, seed: int, ranks: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Keep a seed's ranks on test; return its metrics, and those under the two other rules for ties."""
    (better, tied), test = ranks, run.data.splits["test"]
    if run.world.first:
        run.checkpoints.keep_ranks(seed, {"rows": test.rows, "better": better, "tied": tied})
    return {"test": measure(test, ranks), "ties": {rule: measure(test, ranks, rule) for rule in OTHER_RULES}}


def _keep_scores(run: Run, seed: int, head: Head | str, scores: dict[str, Tensor | None]) -> None:
    """Keep a seed's scores, by split; those of the best entities where all were ranked."""
    named = protocols.ranking_of(run.config).among != "list"
    found = {name: kept(head, run.data.splits[name], scored, run.world, named=named) for name, scored in scores.items()}
    if run.world.first:
        run.checkpoints.keep_scores(
            seed, {f"{split}.{name}": tensor for split, own in found.items() for name, tensor in own.items()}
        )


def _check(run: Run, training: Training, losses: Tensor) -> None:
    """Raise NotFiniteError, naming seed, epoch and batch, for the first loss (steps, S) that is no number."""
    bad = (~torch.isfinite(losses[:, training.going()])).nonzero()
    if len(bad):
        batch, seed = int(bad[0, 0]), training.going()[int(bad[0, 1])]
        raise NotFiniteError(
            f"the training loss of seed {training.seeds[seed]} became {losses[batch, seed].item()} in epoch "
            f"{training.epoch}, batch {batch + 1} of {len(losses)}. {_way_out(run, training)}"
        )


def _way_out(run: Run, training: Training) -> str:
    before = run.checkpoints.unfinished(training.seeds)
    kept = f"The last checkpoint before is in {run.config.folder}/. " if before else ""
    alone = ", or train the other seeds without it: --together no" if len(training.seeds) > 1 else ""
    return f"{kept}Try a smaller --learning-rate, with --fresh{alone}"


def _finish(run: Run, training: Training, position: int) -> dict[str, Any]:
    """Test the best epoch of a seed, keep it, and return the seed's result."""
    data, model, state = run.data, training.stack.model(position), training.best(position)
    model.load_state_dict(state)
    epoch, seed = training.best_epoch[position], training.seeds[position]
    valid, scored = training.valid(position), training.scores[position]
    if data.watched is not data.splits["valid"]:
        ranks, scored = ranked(model, data.splits["valid"], run.world)
        valid = measure(data.splits["valid"], ranks)
    ranks, tested = ranked(model, data.splits["test"], run.world)
    _keep_scores(run, seed, model, {"valid": scored, "test": tested})
    result = {
        "seed": seed,
        "epoch": epoch,
        "valid": valid,
        **_tested(run, seed, ranks),
        "seconds": round(training.seconds / len(training.seeds), 2),
        "history": training.history[position],
    }
    if run.world.first:
        run.checkpoints.finish(result, state)
    top = 100 * result["valid"]["top1"]
    say(f"{run.name}, seed {seed}: best epoch {epoch} of {len(result['history'])}, valid Top-1 {top:.1f}")
    return result
