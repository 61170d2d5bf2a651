"""Write predictions that careless counting takes for good ones, and say what it counts; docs/pitfalls.md judges them.

python pitfalls.py CACHE PREDICTIONS FOLDER: a cache with the vectors of texts, and what a head predicts on its test.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np

import melcache

VALID, TEST = 2, 4  # of mention.ids.splits
SYSTEMS = 100  # that answer at random


def of_cache(path, splits):
    """Return by mention id the row of gold and those of its list's candidates; a cache of synth calls rows ids."""
    cache = melcache.open(path)
    gold, lists = cache.column("mention.ids.gold"), cache.column("pair.candidates.candidates")
    rows = [row for row, mask in enumerate(cache.column("mention.ids.splits")) if mask & splits]
    return {str(row): (int(gold[row]), lists[row].tolist()) for row in rows}


def written(folder, name, lists, **about):
    """Write (id, score) pairs as JSON lines."""
    lines = [json.dumps({"system": name} | about)]
    for mention, own in lists.items():
        candidates = [{"id": str(entity), "score": float(score)} for entity, score in own]
        lines.append(json.dumps({"mention": mention, "candidates": candidates}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def share(world, lists, hit):
    """Return the percentage of mentions whose list `hit` takes for right."""
    return 100 * np.mean([hit(lists[mention], gold) for mention, (gold, _) in world.items()])


def none_above(own, gold):
    """Whether no candidate stands above gold: those that tie with it are taken for worse."""
    return max(score for _, score in own) == dict(own)[gold]


def first_of_sorted(own, gold):
    """Whether gold is first once a stable sort has ordered the list."""
    return sorted(own, key=lambda one: -one[1])[0][0] == gold


def sampled(path, seed):
    """Return one answer a mention, drawn at its probability."""
    rng, found = random.Random(seed), {}
    for line in map(json.loads, Path(path).read_text().splitlines()[1:]):
        own = line["candidates"]
        answer = rng.choices(own, [one["probability"] for one in own])[0]
        found[line["mention"]] = [(answer["id"], 1)]
    return found


def in_graph(vectors, gold, listed):
    """Return candidates by their mean cosine with the graph's vertices, of which gold is one more."""
    vertices = vectors[[*listed, *gold]]
    return list(zip(listed, vectors[listed] @ vertices.mean(0), strict=True))


def chosen(world, tested):
    """Return the best on test of systems that answer at random."""
    tried = []
    for seed in range(SYSTEMS):
        rng = random.Random(seed)
        tried.append({mention: [(rng.choice(listed), 1)] for mention, (_, listed) in world.items()})
    return max(tried, key=lambda lists: share(tested, lists, first_of_sorted))


def main(cache, predictions, folder):
    """Write the files and print what is counted."""
    folder, world, both = Path(folder), of_cache(cache, TEST), of_cache(cache, VALID | TEST)
    folder.mkdir(exist_ok=True)
    vectors = melcache.open(cache).column("entity.text.sentence").astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    files = {
        "constant": {m: [(one, 0) for one in listed] for m, (_, listed) in world.items()},
        "gold-first": {m: [(one, 0) for one in sorted(own, key=gold.__ne__)] for m, (gold, own) in world.items()},
        "namesake": {m: [(f"{gold} of the same name", 1)] for m, (gold, _) in world.items()},
        "leak": {m: in_graph(vectors, [gold], listed) for m, (gold, listed) in world.items()},
        "no-leak": {m: in_graph(vectors, [], listed) for m, (_, listed) in world.items()},
        **{f"sampled-{seed}": sampled(predictions, seed) for seed in range(3)},
    }
    for name, lists in files.items():
        written(folder, name, lists)
    written(folder, "chosen", chosen(both, world), selected_on="test")
    print(f"constant: none above gold in {share(world, files['constant'], none_above):.1f}%")
    print(f"gold-first: gold first after a stable sort in {share(world, files['gold-first'], first_of_sorted):.1f}%")


if __name__ == "__main__":
    main(*sys.argv[1:])
