"""What a system predicts, from a file: JSON lines, or a run as TREC has them."""

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import ConfigError
from common.paths import is_file
from train.checks import share_of

LONGEST = 1 << 24  # characters of a line
TREC_FIELDS = 6  # query Q0 document rank score tag
ROUNDING = 1e-6  # by which a sum of probabilities may miss 1
MOST = 1 << 40  # entities
SELECTED = ("train", "valid", "test", "unknown")
EXPECTED = (
    'expected {"mention": ID, "candidates": [{"id": ID, "score": NUMBER}, ...]}, or the six fields of a TREC run: '
    "mention Q0 entity rank score name"
)

Rank = tuple[int, int]  # how many stand above gold, and how many beside it


@dataclass(frozen=True)
class Ranked:
    """The candidates of one mention: the ids of entities, and their scores, float64 (n,), larger is better.

    `confidence` is the probability of the best one, `nil` whether the system abstains, and `gold_rank` that among all
    that it ranked, listed or not, where it says so.
    """

    ids: tuple[str, ...]
    scores: np.ndarray
    confidence: float | None = None
    nil: bool | None = None
    gold_rank: Rank | None = None


@dataclass(frozen=True)
class Predictions:
    """A system's candidates by mention id, its `name`, and the split that it says it was selected on.

    `valid_from` is how valid was held out of train, if it was (data.splits).
    """

    path: Path
    name: str
    selected_on: str
    lists: dict[str, Ranked]
    valid_from: str | None = None


def read(path: Path) -> Predictions:
    """Return what a file predicts; its first line may say {"system": NAME, "selected_on": "valid"}.

    Candidates without scores stand in the order of their ranks. Raises ConfigError naming the line of what is no
    prediction, a score that is not finite, and a mention or a candidate of one mention that stands there twice.
    """
    if not is_file(path):
        raise ConfigError(f"--predictions {path}: there is no such file. `melcache predict` writes one; {EXPECTED}")
    lines = _lines(path)
    first = next(lines, None)
    if first is None:
        raise ConfigError(f"{path} is empty: {EXPECTED}")
    if first[1].startswith("{"):
        return _json_lines(path, first, lines)
    return _trec(path, first, lines)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of each line that holds something, and the line."""
    try:
        with path.open(encoding="utf-8-sig") as file:  # some editors put a mark in front
            number = 0
            while line := file.readline(LONGEST):
                number += 1
                if len(line) == LONGEST:
                    raise ConfigError(f"{path}, line {number} has more than {LONGEST:,} characters: {EXPECTED}")
                if line.strip():
                    yield number, line.strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}. {EXPECTED}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _json_lines(path: Path, first: tuple[int, str], lines: Iterator[tuple[int, str]]) -> Predictions:
    lists: dict[str, Ranked] = {}
    about = _object(path, *first)
    named = "mention" not in about and {"system", "selected_on"} & about.keys()
    told = about if named else {}
    for number, line in (*(() if named else (first,)), *lines):
        found = _object(path, number, line)
        mention, candidates = found.get("mention"), found.get("candidates")
        if not isinstance(mention, str) or not isinstance(candidates, list):
            raise ConfigError(f"{path}, line {number}: {EXPECTED}")
        if mention in lists:
            raise ConfigError(f"{path}, line {number}: mention '{mention:.60}' stands there twice; expected once")
        if not isinstance(nil := found.get("nil"), bool | None):
            raise ConfigError(f"{path}, line {number}: nil is {nil!r:.40}; expected true or false")
        where = f"{path}, line {number}, mention '{mention:.60}'"
        sure, rank = _confidence(candidates, where), _gold_rank(found, where)
        lists[mention] = replace(_ranked(candidates, where), confidence=sure, nil=nil, gold_rank=rank)
    selected = _selected(str(told.get("selected_on", "unknown")))
    return Predictions(path, str(told.get("system", path.stem)), selected, lists, _valid_from(told.get("valid_from")))


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}, line {number} is no JSON ({error}): {EXPECTED}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}, line {number}: {EXPECTED}")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON.  Raises ValueError for a name that it says twice: one of both would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"it says '{twice:.60}' twice")
    return found


def _ranked(candidates: list[Any], where: str) -> Ranked:
    """Return the candidates of a line: ids by rank, or ids with scores."""
    if all(isinstance(item, str) for item in candidates):
        return _checked(candidates, [float(-rank) for rank in range(len(candidates))], where)
    pairs = [(item.get("id"), item.get("score")) if isinstance(item, dict) else (None, None) for item in candidates]
    for name, score in pairs:
        if not isinstance(name, str) or type(score) not in (int, float):
            raise ConfigError(f"{where}: a candidate is not {{'id': ID, 'score': NUMBER}}")
    return _checked([name for name, _ in pairs], [score for _, score in pairs], where)


def _confidence(candidates: list[Any], where: str) -> float | None:
    """Return the largest probability in a line; None if it has none."""
    found = [item.get("probability") if isinstance(item, dict) else None for item in candidates]
    if all(value is None for value in found):
        return None
    for item, value in zip(candidates, found, strict=True):
        if type(value) not in (int, float) or not 0 <= value <= 1 + ROUNDING:
            name = item.get("id") if isinstance(item, dict) else item
            raise ConfigError(
                f"{where}: the probability of candidate '{name!s:.60}' is {value!r:.40}; all have one, 0 to 1, or none"
            )
    return float(max(found))


def _gold_rank(line: dict[str, Any], where: str) -> Rank | None:
    """Return what a line states of gold's rank, None if it states nothing."""
    better, tied = (line.get(name) for name in ("gold_better", "gold_tied"))
    if better is None and tied is None:
        return None
    if type(better) is not int or type(tied) is not int or not (0 <= better < MOST and 0 <= tied < MOST):
        raise ConfigError(
            f"{where}: gold_better is {better!r:.40} and gold_tied {tied!r:.40}; expected how many entities have a "
            "higher score than gold, and how many others the same: both or neither"
        )
    return better, tied


def _checked(ids: list[str], scores: list[float], where: str) -> Ranked:
    if len(set(ids)) < len(ids):
        twice = next(name for name, count in Counter(ids).items() if count > 1)
        raise ConfigError(f"{where}: candidate '{twice:.60}' stands there twice; expected once")
    for name, score in zip(ids, scores, strict=True):
        if not _is_finite(score):
            said = f"{score:.60}" if isinstance(score, float) else f"beyond {sys.float_info.max:.0e}"
            raise ConfigError(f"{where}: the score of candidate '{name:.60}' is {said}; expected a finite number")
    return Ranked(tuple(ids), np.array(scores, np.float64))


def _is_finite(score: float) -> bool:
    try:
        return math.isfinite(score)
    except OverflowError:  # a whole number that no float64 holds
        return False


def _trec(path: Path, first: tuple[int, str], lines: Iterator[tuple[int, str]]) -> Predictions:
    """Return a TREC run.  Scores rank, as trec_eval has it; the field for the rank is not read."""
    ids: dict[str, list[str]] = {}
    scores: dict[str, list[float]] = {}
    names = set()
    for number, line in (first, *lines):
        fields = line.split()
        if len(fields) != TREC_FIELDS:
            raise ConfigError(f"{path}, line {number} has {len(fields)} fields: {EXPECTED}")
        mention, _, entity, _, score, name = fields
        try:
            scores.setdefault(mention, []).append(float(score))
        except ValueError:
            raise ConfigError(f"{path}, line {number}: the score is '{score:.40}'; expected a number") from None
        ids.setdefault(mention, []).append(entity)
        names.add(name)
    lists = {
        mention: _checked(own, scores[mention], f"{path}, mention '{mention:.60}'") for mention, own in ids.items()
    }
    return Predictions(path, names.pop() if len(names) == 1 else path.stem, "unknown", lists)


def _selected(split: str) -> str:
    if split not in SELECTED:
        raise ConfigError(f"selected_on is '{split:.40}'; expected one of {', '.join(SELECTED)}")
    return split


def _valid_from(said: Any) -> str | None:
    if said is not None:
        if not isinstance(said, str):
            raise ConfigError(f"valid_from is {said!r:.40}; expected a share of train, such as 'train:0.1'")
        share_of(said)
    return said
