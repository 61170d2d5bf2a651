"""What a task costs with encoders of real sizes, and what is around the tasks, in CPU seconds, as JSON.

    nice -n 15 python -m bench.simulation.costs DATA/wikimel --tokenizer MODEL --record bench/simulation/costs.json

Ranges of WikiMEL's own texts go through what an extraction goes through, with one thread. Weights are random: a network
takes as long whatever they are. Pictures are made, of the sizes that releases have (bench.encoding.pictures.SHAPES).
MODEL is the folder of any BERT, of which the tokenizer is taken: without it texts fall into the pieces of a toy
vocabulary. Seconds are the processor's (time.process_time), so that other programs on the machine do not count.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.encoding import texts
from bench.encoding.pictures import compressed
from bench.simulation import around
from cache import kinds
from cache.store.claims import Claims
from cache.writing.draft import Draft
from cache.writing.writer import PartPlan, Shard, ShardPlan, adopt
from common import console
from common.output import say
from common.records import Dataset, Entity, Image, Mention
from extract import datasets, images
from extract.beginning import Begun
from extract.computing import tasks
from extract.computing.missing_shards import Sharing, Work
from extract.computing.overlap import Writing
from extract.computing.tasks import Task
from extract.config import ExtractConfig
from extract.planning.shards import RANGED, missing
from extract.preparation import Job, prepare
from extract.remote import Shared
from extract.siblings import Siblings

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
LISTED = 100  # candidates of WikiMEL
SIZES = 64, 2048  # rows of files that are saved and adopted
AROUND = "around", "large"
COPIED = "vocab.txt", "tokenizer.json", "tokenizer_config.json"


@dataclass(frozen=True)
class Setup:
    """Encoders, whether there are pictures, and how many ranges of how many rows are made."""

    shape: dict[str, Any]
    weights: str
    pictures: bool
    ranges: int
    rows: int


SETUPS = {
    "the papers' encoders": Setup(texts.SHAPE | BASE, "random-full", True, 2, 4),
    "the papers' encoders, no pictures": Setup(texts.SHAPE | BASE, "random-full", False, 4, 32),
    "MiniLM, no pictures": Setup(texts.SHAPE, "random-tiny", False, 4, 64),
}


class Timing(Sharing):
    """Sharing that notes the processor's seconds a row of each task by group, with the writing of its shards."""

    def __init__(self, work: Work, split: list[Task], claims: Claims) -> None:
        super().__init__(work, split, claims)
        self.took: dict[str, list[float]] = defaultdict(list)

    def _finish(self, task: Task, missing: list[ShardPlan]) -> None:
        begin = time.process_time()
        super()._finish(task, missing)
        self._work.writing.drain()
        if missing:
            self.took[group_name(task)].append((time.process_time() - begin) / self._work.count(task))


def group_name(task: Task) -> str:
    """Return how a group of tasks is called: pair, or table and group."""
    return task.table if task.table == tasks.PAIR else f"{task.table}.{task.group}"


def measure(setup: Setup, release: Dataset, tokenizer: Path | None, folder: Path) -> dict[str, Any]:
    """Return what the tasks of a setup take, and the weights to load."""
    count = setup.ranges * setup.rows
    model = model_folder(folder / "model", setup.shape, tokenizer)
    config = ExtractConfig(
        "jsonl", folder, text=str(model), text_weights="random-full", sentence_tokens=256, weights=setup.weights,
        shards=folder, name="made", device="cpu", shard_rows=setup.rows, max_missing=1.0, workers=1,
    )  # fmt: skip
    shutil.rmtree(config.folder, ignore_errors=True)
    config.folder.mkdir(parents=True)
    some = cut(release, count, folder / "pictures" if setup.pictures else None)
    job = prepare(config, Begun(some, Draft(config.folder), Siblings(config), Shared(config)))
    loading = warm(job, pictures=setup.pictures)
    work = Work(job.plan, job.encoders, job.draft, config)
    split = tasks.split(missing(job.plan, job.draft.adopt))
    with Claims(config.folder) as claims, Writing(work.spans) as work.writing:
        sharing = Timing(work, split, claims)
        for name in RANGED:
            sharing.finish(name)
    files = {name: of_files(parts, folder / "files") for name, parts in parts_by_group(job, split).items()}
    groups = {name: around.rounded({"row": float(np.mean(took))}) | files[name] for name, took in sharing.took.items()}
    spread = max(float(np.ptp(took)) / 2 / float(np.mean(took)) for took in sharing.took.values())
    return {"rows": count, "ranges": setup.ranges, "spread": round(spread, 2), "weights": round(loading, 2)} | {
        "groups": groups
    }


def model_folder(folder: Path, shape: dict[str, Any], tokenizer: Path | None) -> Path:
    """Make a folder of a BERT of some shape, whose weights are not there, with the tokenizer of another."""
    texts.model_folder(folder)
    config = json.loads((folder / "config.json").read_text()) | shape
    if tokenizer is not None:
        for name in COPIED:
            shutil.copyfile(tokenizer / name, folder / name)
        config["vocab_size"] = json.loads((tokenizer / "config.json").read_text())["vocab_size"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def cut(release: Dataset, count: int, pictures: Path | None) -> Dataset:
    """Return as many mentions and entities of a release, evenly from first to last, each with a picture of its own.

    Every mention lists LISTED of them; golds are nil.
    """
    entities = [_spread(release.entities, count, i) for i in range(count)]
    listed = tuple(entity.id for entity in entities[:LISTED])
    mentions = [
        replace(_spread(release.mentions, count, i), gold=None, candidates=listed, caption=f"c{i}", id=f"m{i}")
        for i in range(count)
    ]
    return Dataset("wikimel", _shown(mentions, pictures, "m"), _shown(entities, pictures, "e"))


def _spread(items: Any, count: int, place: int) -> Any:
    return items[place * len(items) // count]


def _shown(records: Any, folder: Path | None, letter: str) -> Any:
    """Return records with a picture each, none of them equal to another; without a folder, with none."""
    if folder is None:
        return [replace(record, image=None) for record in records]
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Entity | Mention] = []
    for i, record in enumerate(records):
        path = folder / f"{letter}{i}.jpg"
        path.write_bytes(compressed(2 * i + (letter == "m")))
        found.append(replace(record, image=Image(path)))
    return found


def warm(job: Job, *, pictures: bool) -> float:
    """Let each encoder make something, so that its weights are loaded; return the seconds that this took."""
    begin = time.process_time()
    list(job.encoders.text.encode(["x"], 128))
    job.encoders.joint.encode_texts(["x"])
    if pictures:
        parts = [
            part for part in kinds.reading("picture", "entity") if part in job.plan.parts and kinds.KINDS[part].role
        ]
        job.encoders.pictures([images.neutral()], parts)
    return time.process_time() - begin


def parts_by_group(job: Job, split: list[Task]) -> dict[str, list[PartPlan]]:
    """Return the parts that tasks of each group make."""
    return {group_name(task): [job.plan.parts[part] for part in sorted(task.parts)] for task in split if task.parts}


def of_files(parts: list[PartPlan], folder: Path) -> dict[str, list[float]]:
    """Return seconds a task and a row, fitted through two sizes: to save files of parts, and to adopt them."""
    found: dict[str, list[float]] = {"save": [], "adopt": []}
    for rows in SIZES:
        shutil.rmtree(folder, ignore_errors=True)
        shards = [around.noise(ShardPlan(part, 0, 0, rows, "0" * 64)) for part in parts]
        for shard in shards:  # what is made once for each layout is not counted
            shard.save(folder)
            _adopt(shard, folder)
            (folder / shard.plan.file).unlink()
        for name, step in (("save", partial(Shard.save, folder=folder)), ("adopt", partial(_adopt, folder=folder))):
            begin = time.process_time()
            for shard in shards:
                step(shard)
            found[name].append(time.process_time() - begin)
    small, large = SIZES
    lines = {}
    for name, (few, many) in found.items():
        row = max(0.0, (many - few) / (large - small))
        lines[name] = [around.short(max(0.0, few - row * small)), around.short(row)]
    return lines


def _adopt(shard: Shard, folder: Path) -> None:
    assert adopt(shard.plan, folder) is not None


def main() -> None:
    """Measure, and write or print JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulation.costs")
    parser.add_argument("data", type=Path, help="WikiMEL's release")
    parser.add_argument("--tokenizer", type=Path, help="folder of a BERT, whose tokenizer is taken")
    parser.add_argument("--only", choices=[*SETUPS, *AROUND], action="append", help="what to measure (default: all)")
    parser.add_argument("--large", type=int, default=6_000_000, help="entities of the larger plan")
    parser.add_argument("--record", type=Path, help="file whose figures are replaced by those that are measured")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = json.loads(given.record.read_text()) if given.record is not None and given.record.exists() else {}
    release = datasets.load("wikimel", given.data)
    for name in given.only or [*SETUPS, *AROUND]:
        say(f"costs: {name}")
        with tempfile.TemporaryDirectory(prefix="melcache-costs-") as folder:
            if name == "around":
                found[name] = around.measure(given.data, Path(folder))
            elif name == "large":
                found[name] = around.large(given.large, Path(folder))
            else:
                found[name] = measure(SETUPS[name], release, given.tokenizer, Path(folder))
        if given.record is not None:
            given.record.write_text(json.dumps(found, indent=1) + "\n")
    console.show_json(found)


if __name__ == "__main__":
    main()
