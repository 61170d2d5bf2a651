"""Gold's rank in the lists of a run or of a file, and what counts of the rank that a line states beside its list.

A list may end before gold does: of all entities a run keeps the best alone. So each line states gold's rank, how many
stand above it and how many beside it. The list decides as far as it goes, and the two must agree; beyond it, where all
entities are ranked and nothing could be compared, the statement counts, and the result says of how many mentions.
"""

from dataclasses import dataclass

import numpy as np
import torch

from cache import Reader
from common.errors import ConfigError
from train.evaluating import metrics
from train.evaluating.best_entities import KEPT
from train.judging import stored_scores
from train.judging.predictions import Rank, Ranked
from train.judging.stored_scores import Scored

MISS: Rank = (metrics.NEVER, 0)  # of gold that is not ranked


def in_lists(reader: Reader, found: Scored) -> tuple[np.ndarray, np.ndarray]:
    """Return metrics.ranks of gold in a run's lists, int64 (n,) twice."""
    scores, present = torch.from_numpy(np.array(found.scores)), torch.from_numpy(found.entities >= 0)
    better, tied = metrics.ranks(scores, torch.from_numpy(stored_scores.golds_of(reader, found)), present)
    return better.numpy(), tied.numpy()


def known(reader: Reader, rows: np.ndarray) -> np.ndarray:
    """Return which mention rows (n,) have a gold that is an entity of the cache."""
    found: np.ndarray = np.asarray(reader.column("mention.ids.gold"))[rows] >= 0
    return found


def fields(better: int, tied: int) -> dict[str, int | None]:
    """Return what a line of predictions states of gold's rank: nothing where it was not ranked."""
    known = better < metrics.NEVER
    return {"gold_better": better if known else None, "gold_tied": tied if known else None}


@dataclass(frozen=True)
class Judged:
    """Gold's `rank`, and that by the list `alone`; `beyond`: whether the rank is stated, `ignored`: and not counted."""

    rank: Rank
    alone: Rank
    beyond: bool = False
    ignored: bool = False


def judge(own: Ranked, gold: str | None, entities: int, where: str, *, all_ranked: bool) -> Judged:
    """Return the rank of `gold`, None of a mention whose gold is no entity of the cache's `entities`.

    What is stated counts where `all_ranked` were and the list does not show gold: not above the list's end, and not
    within the first KEPT places, which a list must show (its last entities may be left out with those they tie with).
    Beside gold, more may tie than a list shows whose last score is gold's. Raises ConfigError where both contradict.
    """
    alone = _by_list(own, gold)
    if own.gold_rank is None:
        return Judged(alone, alone)
    better, tied = own.gold_rank
    if gold is None:
        raise ConfigError(f"{where}: gold_better is {better}, but no entity of the cache is its gold")
    if better + tied >= entities + len(own.ids):  # candidates may be strangers
        raise ConfigError(f"{where}: gold_better {better} and gold_tied {tied} are more than the {entities:,} entities")
    if alone == MISS:
        if better < len(own.ids):
            raise ConfigError(
                f"{where}: gold_better is {better}, but gold '{gold:.60}' is not in the list of {len(own.ids)} "
                "candidates, which all stand above it"
            )
        counts = all_ranked and better + tied >= min(KEPT, entities - 1)
        return Judged((better, tied) if counts else MISS, alone, beyond=counts, ignored=not counts)
    last = own.scores[own.ids.index(gold)] == own.scores.min()
    if better != alone[0] or tied < alone[1] or (tied > alone[1] and not last):
        raise ConfigError(
            f"{where}: gold_better is {better} and gold_tied {tied}, but in the list {alone[0]} candidates have a "
            f"higher score than gold '{gold:.60}', and {alone[1]} the same"
        )
    return Judged((better, tied), alone, beyond=tied > alone[1])


def _by_list(own: Ranked, gold: str | None) -> Rank:
    """Return gold's rank in a list, by id: a namesake is another entity."""
    if gold is None or gold not in own.ids:
        return MISS
    score = own.scores[own.ids.index(gold)]
    return int((own.scores > score).sum()), int((own.scores == score).sum()) - 1
