"""A tiny release, its cache by toy encoders, and runs of heads on it, for tests that link."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from extract import pipeline
from link.linker import Linker
from link.records import NewMention
from tests.worlds import entity_record, extract_config, mention_record, write_pictures, write_release
from train import loop
from train.config import TrainConfig
from train.heads.registry import HEADS

COLORS = {
    "red": "Paris",
    "blue": "Paris Hilton",
    "green": "Oslo",
    "white": "Rome",
    "black": "Oslo Gate",
    "gold": "Lyon",
}
SPLITS = ("train", "train", "valid", "test")


def entities():
    return [
        entity_record(i, name, f"a {color} thing", f"{color}.png") for i, (color, name) in enumerate(COLORS.items())
    ]


def mentions():
    """Four mentions of each entity: by name in two sentences, one of them shared, with and without a picture."""
    found = []
    for i, (color, name) in enumerate(COLORS.items()):
        for j, split in enumerate(SPLITS):
            first = name.split()[0]
            text = f"{first} by night" if j % 2 else f"A {color} morning in {first}, far away"
            picture = {0: f"{color}.png", 1: None, 2: f"{color}-again.png", 3: f"{color}-third.png"}[j]
            found.append(mention_record(4 * i + j, text, first, picture, gold=f"e{i}", split=split))
    return found


def write(folder, more_mentions=(), more_entities=()):
    for n, color in enumerate(COLORS):
        files = {f"{color}{kind}.png": (40 + 3 * n + k, 30) for k, kind in enumerate(("", "-again", "-third"))}
        write_pictures(folder, files, color)
    return write_release(folder, [*mentions(), *more_mentions], [*entities(), *more_entities])


@dataclass(frozen=True)
class World:
    """A release, the folder of its cache, and where runs lie."""

    release: Path
    cache: Path
    runs: Path

    @classmethod
    def made(cls, folder, heads):
        release = write(folder / "release")
        found = pipeline.run(extract_config(release, folder / "shards", heads=heads, candidates=4))
        return cls(release, found, folder / "runs")

    def run(self, model, **more):
        """Train a head for two epochs, once."""
        folder = self.runs / "-".join([model, *map(str, more.values())])
        if not (folder / "results.json").exists():
            kind = HEADS[model].config
            head = None if kind is None else kind().named(model)
            config = TrainConfig(dataset=str(self.cache), model=model, run=folder, epochs=2, device="cpu", **more)
            loop.fit(config, head)
        return folder

    def linker(self, model, **more):
        return Linker.load(self.run(model), device="cpu", release=self.release, **more)

    def asked(self):
        """Return the release's own mentions as new ones."""
        return [
            NewMention(
                record["text"],
                record["mention"],
                record["start"],
                record["end"],
                self.release / record["image"] if "image" in record else None,
                id=record["id"],
            )
            for record in mentions()
        ]

    def copy(self, folder):
        """Return a copy of the cache, to change."""
        return shutil.copytree(self.cache, folder / "shards" / self.cache.name)
