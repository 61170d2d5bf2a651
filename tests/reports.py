"""A world for reports: a small cache with strings of strangers in every field, its release with pictures, and runs."""

import re
import struct
import zlib

import numpy as np

from cache.edges import EDGES
from cache.names import ColumnName
from cache.writing.draft import Draft
from cache.writing.writer import PartPlan, Shard, ShardPlan, columns_of
from report.config import ReportConfig
from tests.worlds import write_pictures, write_release
from train import loop
from train.config import TrainConfig
from train.heads.drin.config import DrinConfig
from train.heads.joint.config import JointConfig

HOSTILE = (
    "</script><script>boom()</script>", "<img src=x onerror=boom()>", "a b/../../c?d#e%41", "\u202eevil\u2066 \u2028 x",
    "{{ 7*7 }} {% if %}", "'\"><svg onload=boom()>", "é" * 128, "javascript:boom()", "<!--", "عربى שלום", "~-._%7E",
    "&lt;b&gt;",
)  # fmt: skip
MENTIONS, ENTITIES, PLACES = 36, 12, 4
SPLITS = np.repeat([1, 2, 4], [18, 6, 12]).astype(np.uint8)  # of the mentions: train, valid, test
SIZES = {"D": 6, "V": 5, "C": PLACES, "id": 300, "caption": 300, "surface": 300, "type": 60, "name": 300}


def named(kind, number):
    """The name of a mention or an entity, with what a stranger may write."""
    return f"{kind}{number} {HOSTILE[number % len(HOSTILE)]}"


def write_cache(folder, columns, about=None):
    """Write a cache of columns by full name: arrays, rows first, or lists of strings."""
    draft = Draft(folder)
    parts = {}
    for name in map(ColumnName, columns):
        parts.setdefault(name.part, []).append(name.column)
    for part, names in parts.items():
        plan = PartPlan(part, {"encoder": "test"}, columns_of(part, SIZES, "<f2", tuple(names)))
        rows = len(columns[part.column(names[0])])
        shard = Shard(ShardPlan(plan, 0, 0, rows, f"{len(draft.listed):064x}"))
        for column, (dtype, _) in plan.columns.items():
            values = columns[part.column(column)]
            encoded = [value.encode() if isinstance(value, str) else value for value in values]
            shard.put(column, np.arange(rows), np.array(encoded, dtype))
        draft.save(shard)
    tables = {"entity": ENTITIES, "mention": MENTIONS, "pair": MENTIONS}
    known = {"name": "jsonl", "content": "0" * 64, "licence": "<b>none</b>", "source": "tests & others"}
    known = {"dataset": known, "tables": tables, "candidates": PLACES, "coverage": {"<i>": 3, "gold is nil": 1}}
    splits = {name: int((1 << bit == SPLITS).sum()) for bit, name in enumerate(("train", "valid", "test"))}
    return draft.finish(
        known | {"splits": splits, "warnings": ["<script>boom()</script> is a warning"]} | (about or {}), {}
    )


def world(folder):
    """Write the cache <folder>/cache and the release <folder>/release; return gold (36,) and candidates (36, 4)."""
    rng = np.random.default_rng(3)
    candidates = np.stack([rng.permutation(ENTITIES)[:PLACES] for _ in range(MENTIONS)]).astype(np.int32)
    place = rng.integers(0, PLACES, MENTIONS).astype(np.int32)
    gold = candidates[np.arange(MENTIONS), place]
    place[-1] = -1  # gold was not retrieved
    gold[-1] = next(entity for entity in range(ENTITIES) if entity not in candidates[-1])
    texts = rng.normal(size=(ENTITIES, SIZES["D"]))
    edges = {edge.column: rng.uniform(0, 0.4, candidates.shape) for edge in EDGES}
    columns = {
        "entity.ids.id": [named("e", n) for n in range(ENTITIES)],
        "entity.ids.name": [named("name", n) for n in range(ENTITIES)],
        "entity.text.sentence": texts,
        "entity.image.vector": rng.normal(size=(ENTITIES, SIZES["V"])),
        "entity.image.present": np.arange(ENTITIES) % 3 > 0,
        "mention.ids.id": [named("m", n) for n in range(MENTIONS)],
        "mention.ids.surface": [named("s", n) for n in range(MENTIONS)],
        "mention.ids.type": ["<type>"] * MENTIONS,
        "mention.ids.splits": SPLITS,
        "mention.ids.gold": gold,
        "mention.text.span": texts[gold] + rng.normal(size=(MENTIONS, SIZES["D"])),
        "mention.image.vector": rng.normal(size=(MENTIONS, SIZES["V"])),
        "mention.image.present": np.arange(MENTIONS) % 2 > 0,
        "pair.candidates.candidates": candidates,
        "pair.candidates.gold": place,
        "pair.candidates.lexical": rng.uniform(0, 1, candidates.shape),
        "pair.candidates.lexical_gold": rng.uniform(0, 1, MENTIONS),
        **edges,
    }
    write_cache(folder / "cache", columns)
    write_pictures(folder / "release", {f"{n}.png": (40 + n, 30) for n in range(8)})
    for name, content in (("bomb.png", bomb()), ("text.png", b"<svg onload=boom()>"), ("cut.png", bomb()[:40])):
        (folder / "release/images" / name).write_bytes(content)
    pictures = [*(f"{n}.png" for n in range(8)), "bomb.png", "text.png", "cut.png", "missing.png"]
    mentions = [
        {"id": named("m", n), "text": f"before {named('s', n)} behind {HOSTILE[n % 12]}", "mention": named("s", n),
         "start": 7, "end": 7 + len(named("s", n)), "gold": named("e", int(gold[n])),
         "image": f"images/{pictures[n % 12]}"}
        for n in range(MENTIONS)
    ]  # fmt: skip
    entities = [
        {"id": named("e", n), "name": named("name", n), "text": HOSTILE[n % 12], "image": f"images/{pictures[n % 12]}"}
        for n in range(ENTITIES)
    ]
    write_release(folder / "release", mentions, entities)
    return gold, candidates


def bomb():
    """A PNG of 40,000 x 40,000 black pixels in a few bytes, that says so, and a row."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(120_001)))
        + chunk(b"IEND", b"")
    )


def train(folder):
    """Train a bert with one seed and a drin with two on the cache of a world; return their folders."""
    known = {"dataset": str(folder / "cache"), "epochs": 2, "device": "cpu"}
    for model, head, seeds in (("bert", JointConfig(width=4), (0,)), ("drin", DrinConfig(width=4), (0, 1))):
        loop.fit(TrainConfig(model=model, run=folder / model, seeds=seeds, **known), head)
    return [folder / "bert", folder / "drin"]


def config(world, out, *runs, **changes):
    """The config of a report on runs of a world, both where none is named."""
    known = {"release": world / "release", "adapter": "jsonl", "device": "cpu"}
    return ReportConfig(run=[world / run for run in runs or ("bert", "drin")], out=out, **known | changes)


def read_card_runs(out):
    """The names of the runs that the mentions of a report speak of."""
    text = (out / "mentions-001.html").read_text()
    return set(re.findall(r'<span class="letter run\d">[A-D]</span> <bdi>([^<]*)</bdi>\n<select', text))
