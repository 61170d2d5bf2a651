"""Lists by vectors by the number of entities: `python -m bench.sizes.vector_lists CACHE CACHE`, as a table.

Caches are those of bench.sizes.growth. Their columns are taken for the finished shards of an extraction with
`--candidates-from text`, which makes its lists, of 100, between two plans. Each is measured in a process of its own:
memory is what it then has of its own at most (RssAnon: without the pages of mapped files), beside its libraries and
the release's entities.
"""

import json
import subprocess
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

import cache
from bench.sizes.growth import Watch
from bench.sizes.planning import ROOT, status
from common import console
from common.output import table
from common.records import Dataset, Entity, Mention
from extract.planning import candidate_lists
from extract.reading.entity_columns import Entities

LENGTH, MENTIONS = 100, 2_000


def main() -> None:
    """Measure caches, or one if it is the only one, as JSON; print a table."""
    paths = sys.argv[1:]
    if paths[:1] == ["--one"]:
        console.show_json(measure(paths[1]))
        return
    command = [sys.executable, "-m", "bench.sizes.vector_lists", "--one"]
    told = [subprocess.run([*command, path], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True) for path in paths]
    found = [json.loads(one.stdout) for one in told]
    console.show(table(list(found[0]), [tuple(one.values()) for one in found]))


def measure(path: str) -> dict[str, str]:
    """Return what lists of the first mentions of a cache take."""
    reader = cache.open(path)
    entities = Entities(Entity(f"Q{row}", f"name {row}") for row in range(reader.manifest.tables["entity"]))
    vectors = reader.column("mention.text.span")[:MENTIONS]
    mentions = [Mention(f"m{row}", "", "name", "name", 0, 4, None, 1) for row in range(len(vectors))]
    columns = {"mention.text.span": vectors, "mention.text.found": np.ones(len(vectors), bool)}
    columns["mention.text.sentence"] = vectors
    draft: Any = SimpleNamespace(column=columns.__getitem__, pieces=partial(reader.pieces, check=False))
    before = status("RssAnon")
    with Watch() as watch:
        candidate_lists.by_sources(Dataset("", mentions, entities), LENGTH, ("text",), draft)
    return {
        "entities": f"{len(entities):,}",
        "clock": f"{watch.seconds:,.0f} s",
        "processor": f"{watch.cpu:,.0f} s",
        "memory": f"{(watch.most - before) >> 20:,} MB",
        "of it before": f"{before >> 20:,} MB",
    }


if __name__ == "__main__":
    main()
