"""`python -m bench.new_pictures RUN`: things of the demo photographed anew, linked with their picture and without.

RUN is a run of `make demo`, or another one on its cache. The sentence says nothing; five things share each name.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import PIL.Image

from common import console
from extract.datasets import demo
from link.linker import Linker
from link.records import NewMention

THINGS, SEED = 100, 2026


def main() -> None:
    """Print how many of the things are first among their candidates."""
    parser = argparse.ArgumentParser(prog="python -m bench.new_pictures")
    parser.add_argument("run", type=Path)
    parser.add_argument("--shards", type=Path)
    given = parser.parse_args()
    things, rng = demo.draw_things(np.random.default_rng(demo.SEED)), np.random.default_rng(SEED)
    asked, golds = [], []
    for number in rng.choice(len(things), THINGS, replace=False):
        thing, file = things[number], io.BytesIO()
        PIL.Image.fromarray(demo.draw(rng, thing)).save(file, "PNG")
        asked.append(NewMention(f"everyone admires {thing.name}", thing.name, image=file.getvalue()))
        golds.append(thing.id)
    linker = Linker.load(given.run, shards=given.shards, device="cpu")
    blind = [NewMention(mention.text, mention.mention) for mention in asked]
    found = {
        what: sum(link.candidates[0].id == gold for link, gold in zip(linker.link(some), golds, strict=True))
        for what, some in (("with the picture", asked), ("without", blind))
    }
    console.show_json({"things": THINGS} | found)


if __name__ == "__main__":
    main()
