"""Tiny worlds that tests share: synthetic caches, releases in jsonl with their pictures, and configs to extract them.

Rows, widths and sentences are as few as a test can do with; tests build on them and change copies.
"""

import json

import pytest
from PIL import Image

from cache.writing import synth
from extract.config import ExtractConfig

WIDTHS = {"text_width": 8, "image_width": 16, "joint_width": 8, "regions": 4}


SIGNAL_WIDTHS = {"text_width": 24, "image_width": 16, "joint_width": 16}


def synthetic_cache(folder, seed=0, heads="drin", shard_rows=synth.SHARD_ROWS):
    """Write a cache of 60 mentions and 40 entities in lists of 5; another seed gives other numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synth, "SHARD_ROWS", shard_rows)
        synth.write(folder, synth.Synthetic(60, 40, 5, 0.5, seed, heads, **WIDTHS))
    return folder


def signal_cache(folder, mentions, entities, candidates, signal, heads):
    """Write a cache large enough to train on; `signal` (0 none, 1 all) is what tells gold from the others."""
    synth.write(folder, synth.Synthetic(mentions, entities, candidates, signal, 0, heads, **SIGNAL_WIDTHS))
    return folder


def mention_record(number, text, surface, picture=None, **more):
    """A line of mentions.jsonl: mention m<number> of entity e0, its surface where `text` first has it, or nowhere."""
    start = text.find(surface)
    end = start + len(surface) if start >= 0 else -1
    record = {"id": f"m{number}", "text": text, "mention": surface, "start": start, "end": end, "gold": "e0"}
    return record | ({"image": f"images/{picture}"} if picture else {}) | more


def entity_record(number, name, text="", picture=None, **more):
    """A line of entities.jsonl: entity e<number>, its picture a file in images/."""
    record = {"id": f"e{number}", "name": name, "text": text}
    return record | ({"image": f"images/{picture}"} if picture else {}) | more


def write_release(folder, mentions, entities):
    """Write a jsonl release of records into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in (("mentions", mentions), ("entities", entities)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def write_pictures(folder, sizes, color="red"):
    """Write pictures of one color, of these sizes by file name, into a release's images/."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name, size in sizes.items():
        Image.new("RGB", size, color).save(folder / "images" / name)


def write_cities(folder):
    """Write a release of three entities and nine mentions, m<3j + i> of entity i in split j with the j-th picture."""
    colors = {"Paris": "red", "Oslo": "green", "Rome": "blue"}
    entities = [entity_record(i, name, "a city", f"{name}.png") for i, name in enumerate(colors)]
    mentions = [
        mention_record(3 * j + i, f"{name} by night", name, f"{shown}.png", gold=f"e{i}", split=split)
        for j, (shown, split) in enumerate(zip(colors, ("train", "valid", "test"), strict=True))
        for i, name in enumerate(colors)
    ]
    write_release(folder, mentions, entities)
    for name, color in colors.items():
        write_pictures(folder, {f"{name}.png": (60, 40)}, color)
    return folder


def write_files(folder, files):
    """Write files by name into a folder: strings and bytes as they are, anything else as JSON."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def extract_config(data, shards, **changes):
    """Extraction of a jsonl release by toy encoders into <shards>/world, whatever pictures it lacks."""
    known = {"weights": "random-tiny", "device": "cpu", "name": "world", "candidates": 3, "max_missing": 1.0}
    known |= {"workers": 1, "remote": ""}
    return ExtractConfig(dataset="jsonl", data=data, shards=shards, **known | changes)
