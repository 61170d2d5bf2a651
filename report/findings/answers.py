"""What a finished run answers to each test mention: its candidates, best first, with scores and probabilities."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cache import Reader
from common.errors import ConfigError
from report.config import ReportConfig
from train import own_head
from train.config import PROTOCOLS
from train.config.inspecting import SlicesConfig
from train.evaluating import metrics
from train.heads.registry import HEADS
from train.inspecting import explain, trained_head
from train.inspecting.finished_run import cache_of, results_of
from train.judging import calibration, stored_scores
from train.judging.scoring import Scorer
from train.judging.stored_scores import Scored

MEAN = "mean"


@dataclass(frozen=True)
class FinishedRun:
    """A run that is over: its folder, the checked content of its results.json, and its cache."""

    folder: Path
    results: dict[str, Any]
    reader: Reader


@dataclass(frozen=True)
class Answers:
    """What a run says of mention rows (n,).

    entities (n, C), best first, -1 = padding, with `scores` (-inf there) and `probabilities` (0 there); `order` (n, C)
    the places of these in the list; `gold` (n,) the place of gold among them, -1 = not there; `right` (n,) whether gold
    is first, ties in expectation. `ranked` is that of results.json; `stored`: the lists are the cache's own.
    """

    rows: np.ndarray
    order: np.ndarray
    entities: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    gold: np.ndarray
    right: np.ndarray
    temperature: float
    ranked: str
    stored: bool


def finished(config: ReportConfig) -> list[FinishedRun]:
    """Return the runs of a report.  Raises ConfigError for one that is not over, and for runs of several caches."""
    found = []
    for folder in config.run:
        if (results := results_of(folder)) is None:
            raise ConfigError(f"{folder} holds no finished run: no results.json. `melcache train` writes one")
        reader = cache_of(SlicesConfig(run=folder, dataset=config.dataset, shards=config.shards), results["cache_id"])
        found.append(FinishedRun(folder, results, reader))
    first = found[0]
    for run in found[1:]:
        for what, key in (("cache", "cache_id"), ("split", "split"), ("protocol", "protocol")):
            if run.results[key] != first.results[key]:
                raise ConfigError(
                    f"{run.folder} is of another {what} than {first.folder}, so mentions cannot be shown side by side: "
                    "make a report of each"
                )
    return found


def unanswered(run: FinishedRun, config: ReportConfig) -> str | None:
    """Return why a run cannot say what it answers, None where it can: from kept scores, or from its head.

    The file of a head of the user's own is loaded where the config names it.
    """
    model, seeds = run.results["model"], _seeds(run, config.seed)
    if model not in HEADS and config.model is not None and Path(config.model).stem == model:
        own_head.load_for(config.model, run.folder, model)
    if model in HEADS or _kept(run, seeds):
        return None
    return (
        f"{run.results['name']} is a head by file, and {run.folder} kept no scores that answer: name its file with "
        f"--model {model}.py"
    )


def _kept(run: FinishedRun, seeds: list[int]) -> bool:
    """Whether scores that a run kept are all that answers need; lists of all entities have no mean of several seeds."""
    if len(seeds) > 1 and run.results["ranked"] == stored_scores.ALL:
        return False
    return all(stored_scores.read(run.folder, run.results, run.reader, seed) for seed in seeds)


def of_run(run: FinishedRun, config: ReportConfig) -> Answers:
    """Return what a run answers to the mentions that its test counted, the only place where a report scores."""
    scorer = Scorer(run.folder, run.results, run.reader, _seeds(run, config.seed), config.device)
    warm, rows = 1.0, scorer.counted("valid")
    if len(rows):
        found = scorer.scored(rows)
        warm = calibration.temperature(found.scores, stored_scores.golds_of(run.reader, found))
    found = scorer.scored(scorer.counted("test"))
    return _ordered(found, stored_scores.golds_of(run.reader, found), warm, run.results)


def edges_of(run: FinishedRun, config: ReportConfig, answers: Answers) -> np.ndarray | None:
    """Return the weights of a DRIN's edges where they enter each layer, NaN where not read; None of another head.

    (n, C, L, 4), candidates as `answers` orders them, edges as cache.edges.EDGES; of the first seed that is shown.
    """
    if run.results["model"] != "drin" or not answers.stored:
        return None
    seed = _seeds(run, config.seed)[0]
    trained = trained_head.load(trained_head.seed_file(run.folder, seed), run.reader)
    found = explain.edge_weights(trained, run.reader, torch.from_numpy(answers.rows))
    order = answers.order[:, :, None, None].repeat(found.shape[2], 2).repeat(found.shape[3], 3)
    return np.take_along_axis(found, order, 1)


def _seeds(run: FinishedRun, wanted: str) -> list[int]:
    """Return the seeds whose mean answers.  Raises ConfigError for one that the run does not have."""
    there = [seed["seed"] for seed in run.results["seeds"]]
    if wanted == MEAN:
        return there
    if not wanted.isdecimal() or int(wanted) not in there:
        raise ConfigError(f"--seed {wanted}: {run.folder} has {', '.join(map(str, there))}, or give mean")
    return [int(wanted)]


def _ordered(found: Scored, gold: np.ndarray, warm: float, results: dict[str, Any]) -> Answers:
    """Return scored lists best first, equal ones in the list's order; gold (n,) is the place in the list."""
    order = np.argsort(-found.scores, axis=1, kind="stable")
    better, tied = metrics.ranks(
        torch.from_numpy(found.scores), torch.from_numpy(gold), torch.from_numpy(found.entities >= 0)
    )
    places = np.where(gold >= 0, (order == gold[:, None]).argmax(1), -1)
    entities, scores = (np.take_along_axis(values, order, 1) for values in (found.entities, found.scores))
    return Answers(
        rows=found.rows,
        order=order,
        entities=entities,
        scores=scores,
        probabilities=calibration.probabilities(scores, warm),
        gold=places,
        right=metrics.per_mention(better, tied, "top1").numpy(),
        temperature=warm,
        ranked=results["ranked"],
        stored=results["ranked"] == "list" and results["protocol"] != PROTOCOLS["injected"],
    )
