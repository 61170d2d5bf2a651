"""`melcache predict`: what a finished run says of each mention, as JSON lines, a TREC run, CSV or Parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache import Reader, store
from cache.names import ColumnName
from cache.schema import UNLABELED
from common.errors import ConfigError
from common.output import percent, say
from common.paths import check_output
from common.records import split_mask
from train import own_head
from train.config.judging import PredictConfig
from train.data import splits
from train.data.row_names import row_names
from train.inspecting.finished_run import cache_of, results_of
from train.judging import calibration, confidence, gold_rank, stored_scores
from train.judging.scoring import Scorer
from train.judging.stored_scores import Scored

MEAN = "mean"
OF_MENTION = ("mention", "caption", "surface", "gold", "rank", "gold_better", "gold_tied", "nil")
FLAT = (*OF_MENTION, "candidate", "name", "score", "probability")
Record = dict[str, Any]
Sentences = Callable[[Path, Reader], Mapping[str, str]]


def predict(config: PredictConfig, sentences: Sentences | None = None) -> Record:
    """Write the file --out; return the run, how many mentions, the temperature and how well it is calibrated.

    `sentences` reads those of a release, by mention id, where the config names one.
    """
    check_output(config.out, "--out", None if config.model is None else Path(config.model))
    results = results_of(config.run)
    if results is None:
        raise ConfigError(f"{config.run} holds no finished run: no results.json. `melcache train` writes one")
    if config.model is not None:
        own_head.load_for(config.model, config.run, results["model"])
    reader = cache_of(config, results["cache_id"])
    seeds = seeds_of(config.run, results, config.seed)
    scorer = Scorer(config.run, results, reader, seeds, config.device)
    warm, told = temperature_of(scorer, reader, results)
    rows = _rows(reader, results, config.split)
    texts = {} if config.release is None else _sentences(sentences)(config.release, reader)
    found = scorer.scored(rows)
    records = _records(reader, found, scorer.gold_ranks(found), warm, texts, config)
    store.publish(config.out, FORMATS[config.format](list(records), results), replace=True)
    return {"out": str(config.out), "run": str(config.run), "name": results["name"], "seeds": seeds,
            "split": config.split, "mentions": len(rows), "temperature": warm, **told}  # fmt: skip


def show(found: Record) -> str:
    """Return what was written, in a line."""
    sure = "" if found["ece"] is None else f"; expected calibration error on valid {percent(found['ece'])}%"
    if found["nil_below"]:
        sure += f"; of mentions without gold there most are told by --nil-below {found['nil_below']:.3g}"
    seeds = found["seeds"]
    by = f"the mean scores of {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    return (
        f"{found['out']}: {found['mentions']:,} mentions of {found['split']} by {found['name']}, {by}, "
        f"temperature {found['temperature']:.3g}{sure}"
    )


def seeds_of(run: Path, results: Record, asked: str) -> list[int]:
    """Return the seeds whose mean predicts.  Raises ConfigError for one that the run does not have."""
    there = [seed["seed"] for seed in results["seeds"]]
    if asked == MEAN:
        return there
    if not asked.isdecimal() or int(asked) not in there:
        raise ConfigError(f"--seed {asked}: {run} has {', '.join(map(str, there))}, or give mean")
    return [int(asked)]


def _rows(reader: Reader, results: Record, split: str) -> np.ndarray:
    """Return the mention rows of a split, those without a label too."""
    masks = splits.masks(reader, results["split"]["valid_from"])
    rows: np.ndarray = np.flatnonzero(masks & split_mask(split)) if split != "all" else np.arange(len(masks))
    if not len(rows):
        raise ConfigError(f"{reader.path} has no mention in its {split} split")
    return rows


def temperature_of(scorer: Scorer, reader: Reader, results: Record) -> tuple[float, Record]:
    """Return the temperature that fits valid best, and what it is worth there; 1 without valid golds."""
    rows = _rows_of_valid(reader, results)
    if not len(rows):
        say("no labeled mention in valid: probabilities are those of temperature 1")
        return 1.0, {"ece": None, "nil_below": 0.0}
    found = scorer.scored(rows)
    warm = calibration.temperature(found.scores, stored_scores.golds_of(reader, found))
    sure, right, nil = confidence.confidence_of(reader, found, warm)
    told = {name: value for name, value in confidence.calibrated(sure, right).items() if name != "risk_coverage"}
    return warm, told | {"nil_below": confidence.nil_threshold(sure, right, nil)}


def _rows_of_valid(reader: Reader, results: Record) -> np.ndarray:
    masks = splits.masks(reader, results["split"]["valid_from"])
    if "mention.ids.gold" not in reader.columns:
        return np.arange(0)
    rows: np.ndarray = np.flatnonzero(
        (masks & split_mask("valid") > 0) & (reader.column("mention.ids.gold") > UNLABELED)
    )
    return rows


def _sentences(given: Sentences | None) -> Sentences:
    if given is None:
        raise ConfigError("--release: only `melcache predict` reads releases, training alone does not")
    return given


def _records(
    reader: Reader,
    found: Scored,
    ranks: tuple[np.ndarray, np.ndarray],
    warm: float,
    sentences: Mapping[str, str],
    config: PredictConfig,
) -> Iterator[Record]:
    """Yield what is said of each mention; candidates best first, equal ones in the list's order."""
    mentions, entities = (row_names(reader, f"{table}.ids.id") for table in ("mention", "entity"))
    names = row_names(reader, "entity.ids.name")
    texts = {name: _optional(reader, f"mention.ids.{name}") for name in ("caption", "surface")}
    golds = _golds(reader)
    shares = calibration.probabilities(found.scores, warm)
    for place, row in enumerate(found.rows.tolist()):
        order = np.argsort(-found.scores[place], kind="stable")[: int((found.entities[place] >= 0).sum())]
        gold = int(golds[row])
        ranked = [
            {"id": entities[entity], "name": names[entity], "score": score, "probability": share}
            for entity, score, share in zip(
                found.entities[place][order].tolist(),
                found.scores[place][order].tolist(),
                shares[place][order].tolist(),
                strict=True,
            )
        ]
        abstains = not ranked or ranked[0]["probability"] < config.nil_below
        yield {
            "mention": mentions[row],
            **{name: values[row] for name, values in texts.items() if values is not None},
            **({"text": sentences[mentions[row]]} if mentions[row] in sentences else {}),
            "gold": entities[gold] if gold >= 0 else None,
            "labeled": gold > UNLABELED,
            "rank": next((n + 1 for n, entity in enumerate(found.entities[place][order]) if entity == gold >= 0), None),
            **gold_rank.fields(*(int(values[place]) for values in ranks)),
            "nil": abstains,
            "candidates": ranked[: config.top or None],
        }


def _optional(reader: Reader, column: str) -> Sequence[str] | None:
    return reader.strings(column) if column in reader.columns else None


def _golds(reader: Reader) -> np.ndarray:
    rows = reader.manifest.tables[ColumnName("mention.ids.gold").table]
    there = "mention.ids.gold" in reader.columns
    return np.asarray(reader.column("mention.ids.gold")) if there else np.full(rows, UNLABELED)


def _json_lines(records: list[Record], results: Record) -> bytes:
    selected = "valid" if results["seeds"][0]["history"] else "unknown"  # a head without weights is not selected
    first = {"system": results["name"], "selected_on": selected, "cache_id": results["cache_id"]}
    if (held := results["split"]["valid_from"]) is not None:
        first["valid_from"] = held
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in (first, *records)).encode()


def _trec(records: list[Record], results: Record) -> bytes:
    """Return a TREC run; a score that float32 prints is read as the same number again."""
    system = "-".join(results["name"].split())
    for name in (word for record in records for word in (record["mention"], *(c["id"] for c in record["candidates"]))):
        if not name or name.split() != [name]:
            raise ConfigError(f"the id {name!r:.60} holds a space, which a TREC file cannot: use --format jsonl")
    if empty := sum(not record["candidates"] for record in records):
        say(
            f"warning: {empty:,} mentions have no candidates: a TREC run cannot say so, and lacks them (jsonl does not)"
        )
    lines = (
        f"{record['mention']} Q0 {candidate['id']} {rank} {candidate['score']!r} {system}\n"
        for record in records
        for rank, candidate in enumerate(record["candidates"], 1)
    )
    return "".join(lines).encode()


def _flat(records: list[Record]) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each candidate, and one for a mention that has none."""
    for record in records:
        own = [*map(record.get, OF_MENTION)]
        for candidate in record["candidates"] or [{}]:
            yield (*own, *(candidate.get(name) for name in ("id", "name", "score", "probability")))


def _csv(records: list[Record], results: Record) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(FLAT)
    writer.writerows(_flat(records))
    return text.getvalue().encode()


def _parquet(records: list[Record], results: Record) -> bytes:
    try:
        import pandas
        import pyarrow  # noqa: F401
    except ImportError:
        raise ConfigError("--format parquet needs pandas and pyarrow: pip install pandas pyarrow") from None
    file = io.BytesIO()
    pandas.DataFrame(list(_flat(records)), columns=list(FLAT)).to_parquet(file)
    return file.getvalue()


FORMATS: dict[str, Callable[[list[Record], Record], bytes]] = {
    "jsonl": _json_lines,
    "trec": _trec,
    "csv": _csv,
    "parquet": _parquet,
}
