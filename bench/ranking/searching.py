"""One mention among the vectors of a cache, exactly and by faiss: `python -m bench.ranking.searching CACHE`, as JSON.

Seconds are medians of the clock, with those of the processor, of one search; `recall` is what `melcache link --index
faiss` says of its index. The vectors are mapped; what they are searched by lies in memory.
"""

import argparse
from pathlib import Path

import numpy as np

import cache
from bench.sizes.growth import ENTITIES, QUERIES, Watch, query
from common import console
from extract.retrieval import sources
from extract.retrieval.faiss_index import SAMPLE, Approximate, recall
from extract.retrieval.nearest import Mapped, Nearest


def main() -> None:
    """Measure a cache and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.ranking.searching")
    parser.add_argument("cache", type=Path, help="with entity.text.sentence and mention.text")
    parser.add_argument("--exact", action="store_true", help="leave faiss out")
    given = parser.parse_args()
    reader = cache.open(given.cache)
    entities, order = Mapped(reader.pieces(ENTITIES, check=False)), np.arange(reader.manifest.tables["entity"])
    if "mention.text.found" in reader.columns:
        mentions = sources.vectors("text", reader.column)
    else:
        mentions = reader.column("mention.text.span")
    found: dict[str, object] = {"entities": len(order), "width": entities.shape[1]}
    with Watch() as watch:
        nearest = Nearest(entities, order)
    found |= {"codes": f"{watch.seconds:.1f} s ({watch.cpu:.1f})", "exact": query(nearest, mentions[:QUERIES])}
    if not given.exact:
        with Watch() as watch:
            index = Approximate(entities, order)
        some = mentions[np.linspace(0, len(mentions) - 1, min(SAMPLE, len(mentions))).astype(np.int64)]
        found |= {"index": f"{watch.seconds:.1f} s ({watch.cpu:.1f})", "faiss": query(index, mentions[:QUERIES])}
        found |= {"kind": index.name, "recall": round(recall(index, entities, order, some), 3)}
    console.show_json(found)


if __name__ == "__main__":
    main()
