"""How often gold is among the first 1, 10 and 100 entities that each source of candidates lists, by split.

`python -m bench.accuracy.candidate_recall --shards shards --cache wikidiverse --data DATA` ranks by the vectors
of a cache, by names, by names and the strings by which the train split calls entities (`aliases`: the source `names`
with --aliases of a file of these), and by BM25 (k1 1.2, b 0.75) of the mention's string, or sentence, over
`name: text`, which melcache does not have: it is measured here alone. `+` is reciprocal rank fusion.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rapidfuzz import utils

import melcache
from cache.reader import Reader
from common import console
from common.output import percent, table
from common.records import SPLITS, Dataset
from extract import datasets
from extract.planning.candidate_lists import positions
from extract.retrieval.by_name import Names, recall_at_k
from extract.retrieval.by_vectors import DEPTH, VECTORS, fused
from extract.retrieval.name_order import NameOrder
from extract.retrieval.nearest import Nearest
from extract.retrieval.sources import vectors

KS = (1, 10, 100)
UNIONS = (  # of sources
    "text + names", "text + bm25", "names + bm25", "text + names + bm25", "text + aliases",
    "text + bm25 of sentence", "text + names + bm25 of sentence",
)  # fmt: skip
K1, B = 1.2, 0.75


def main() -> None:
    """Print a line for each source and union."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy.candidate_recall", description=__doc__)
    parser.add_argument("--shards", type=Path, default=Path("shards"))
    parser.add_argument("--cache", required=True)
    parser.add_argument("--dataset", help="the release's adapter (default: the cache's name)")
    parser.add_argument("--data", type=Path, help="folder of the release (default: data/<dataset>)")
    given = parser.parse_args()
    reader = melcache.open(given.shards / given.cache)
    release = datasets.load(given.dataset or given.cache, given.data)
    ids, names = reader.strings("entity.ids.id"), reader.strings("entity.ids.name")
    order, depth = NameOrder(names, ids), DEPTH * KS[-1]
    lists = ranked(reader, release, order, depth)
    lists |= {union: fused([lists[one] for one in union.split(" + ")], KS[-1], order) for union in UNIONS}
    golds, splits = reader.column("mention.ids.gold"), reader.column("mention.ids.splits")
    rows = []
    for name, found in lists.items():
        places = positions(found, golds)
        told = [recall_at_k(places[splits >> bit & 1 > 0], KS) for bit in range(len(SPLITS))]
        rows.append((name, *(percent(value) for split in told for value in split)))
    console.show(table(("source", *(f"{split} @{k}" for split in SPLITS for k in KS)), rows))


def ranked(reader: Reader, release: Dataset, order: np.ndarray, depth: int) -> dict[str, np.ndarray]:
    """Return the first `depth` entities of every mention by each source."""
    ids, names = reader.strings("entity.ids.id"), reader.strings("entity.ids.name")
    surfaces = reader.strings("mention.ids.surface")
    entities = reader.column(VECTORS["text"][1])
    nearest = Nearest(entities, order).best(vectors("text", reader.column), depth, _nobody)
    texts = {entity.id: entity.text for entity in release.entities}
    documents = [f"{name}: {texts[id]}" for id, name in zip(ids, names, strict=True)]
    sentences = {mention.id: mention.sentence for mention in release.mentions}
    return {
        "names": Names(names, ids).best(surfaces, depth)[0],
        "aliases": Names(names, ids, of_train(reader, surfaces)).best(surfaces, depth)[0],
        "text": nearest,
        "bm25": bm25(documents, surfaces, depth, order),
        "bm25 of sentence": bm25(documents, [sentences[id] for id in reader.strings("mention.ids.id")], depth, order),
    }


def of_train(reader: Reader, surfaces: Sequence[str]) -> dict[int, list[str]]:
    """Return the strings by which mentions of the train split call each entity, by row."""
    found: dict[int, dict[str, None]] = {}
    train = reader.column("mention.ids.splits") & 1 > 0
    for gold, surface in zip(reader.column("mention.ids.gold")[train].tolist(), np.array(surfaces)[train], strict=True):
        if gold >= 0:
            found.setdefault(gold, {})[str(surface)] = None
    return {row: list(strings) for row, strings in found.items()}


def bm25(documents: Sequence[str], queries: Sequence[str], depth: int, order: np.ndarray) -> np.ndarray:
    """Return the documents that score highest and above 0, ties by `order`: rows (N, depth) int32, -1 = padding."""
    words: dict[str, dict[int, int]] = {}
    lengths = np.zeros(len(documents))
    for row, text in enumerate(documents):
        for word in (tokens := utils.default_process(text).split()):
            documents_of = words.setdefault(word, {})
            documents_of[row] = documents_of.get(row, 0) + 1
        lengths[row] = len(tokens)
    norm = K1 * (1 - B + B * lengths / lengths.mean())
    postings = {}
    for word, documents_of in words.items():
        rows, counts = np.array(list(documents_of)), np.array(list(documents_of.values()), float)
        rarity = np.log(1 + (len(documents) - len(rows) + 0.5) / (len(rows) + 0.5))
        postings[word] = rows, rarity * counts * (K1 + 1) / (counts + norm[rows])
    found = np.full((len(queries), depth), -1, np.int32)
    for place, query in enumerate(queries):
        scores = np.zeros(len(documents))
        for word in dict.fromkeys(utils.default_process(query).split()):
            if word in postings:
                having, weights = postings[word]
                scores[having] += weights
        above = np.flatnonzero(scores)
        best = above[np.lexsort((order[above], -scores[above]))][:depth]
        found[place, : len(best)] = best
    return found


def _nobody(count: int) -> None:
    """Tell nobody how many are done."""


if __name__ == "__main__":
    main()
