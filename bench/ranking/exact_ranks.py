"""Ranks among all entities: exact by float32 with a bound, by float64 throughout, and by a plain, inexact product."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from cache.edges import rounded
from train.evaluating import exact_scores
from train.evaluating.exact_scores import Others
from train.evaluating.whole_kb import BLOCK, CHUNK


def measure(mentions: int, entities: int, width: int, turns: int, device: str) -> dict[str, float]:
    """Return median seconds of a ranking, and paired ratios to the plain product, of random vectors.

    Half of a mention's gold is noise, so that gold stands among the first tens of thousands, not always first.
    """
    generator = torch.Generator().manual_seed(0)
    every = rounded(_units(entities, width, generator), normal=False)
    gold = torch.randint(entities, (mentions,), generator=generator)
    mixed = every[gold] + 3 * _units(mentions, width, generator)
    asked = rounded(mixed / mixed.norm(dim=1, keepdim=True), normal=False)
    asked, every, gold = asked.to(device), every.to(device), gold.to(device)
    own = (asked.double() * every[gold].double()).sum(1, keepdim=True)
    contenders: dict[str, Ranking] = {"exact": _exact, "float64": _float64, "plain": _plain}
    found = {name: _timed(ranking, asked, every, own, gold)[1] for name, ranking in contenders.items()}
    assert torch.equal(found["exact"], found["float64"]), "the same ranks"
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, ranking in contenders.items():
            seconds[name].append(_timed(ranking, asked, every, own, gold)[0])
    told = {f"{name}_seconds": statistics.median(times) for name, times in seconds.items()}
    return told | {
        f"{name}_ratio": statistics.median(a / b for a, b in zip(seconds[name], seconds["plain"], strict=True))
        for name in ("exact", "float64")
    }


Ranking = Callable[[Tensor, Tensor, Tensor, Others], tuple[Tensor, Tensor]]


def _timed(ranking: Ranking, asked: Tensor, every: Tensor, own: Tensor, gold: Tensor) -> tuple[float, Tensor]:
    kind, start = asked.device.type, time.perf_counter()
    better, tied = torch.zeros_like(gold), torch.zeros_like(gold)
    for begin in range(0, len(every), CHUNK[kind]):
        chunk = every[begin : begin + CHUNK[kind]]
        place = gold[:, None] - begin
        outside = (place < 0) | (place >= len(chunk))
        place = place.clamp(0, len(chunk) - 1)
        for block in torch.arange(len(asked), device=asked.device).split(BLOCK[kind]):
            above, equal = ranking(asked[block], chunk, own[block], Others(place[block], outside[block]))
            better[block] += above
            tied[block] += equal
    if kind == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, torch.stack([better, tied])


def _exact(asked: Tensor, chunk: Tensor, own: Tensor, others: Others) -> tuple[Tensor, Tensor]:
    return exact_scores.compare(asked, chunk, own, None, others)


def _float64(asked: Tensor, chunk: Tensor, own: Tensor, others: Others) -> tuple[Tensor, Tensor]:
    return _counted(others.of(exact_scores.all_exact(asked, chunk, None)), own)


def _plain(asked: Tensor, chunk: Tensor, own: Tensor, others: Others) -> tuple[Tensor, Tensor]:
    return _counted(others.of(asked @ chunk.T), own.float())


def _counted(scores: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    return (scores > own).sum(1, dtype=torch.int32), (scores == own).sum(1, dtype=torch.int32)


def _units(rows: int, width: int, generator: torch.Generator) -> Tensor:
    vectors = torch.randn(rows, width, generator=generator)
    return vectors / vectors.norm(dim=1, keepdim=True)
