"""`python -m bench.accuracy.new_pictures RUN`: things of the demo photographed anew, linked with and without pictures.

RUN is a run of `make demo`, or another one on its cache. The sentence says nothing; five things share each name. With
`--name marlow` each of the five is photographed ten times, and counted by itself.
"""

import argparse
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from common import console
from extract.datasets import demo
from link.linker import Linker
from link.records import NewMention

THINGS, TIMES, SEED = 100, 10, 2026


def main() -> None:
    """Print how many of the things are first among their candidates."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy.new_pictures")
    parser.add_argument("run", type=Path)
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--name", help="things of this name alone")
    given = parser.parse_args()
    things, rng = demo.draw_things(np.random.default_rng(demo.SEED)), np.random.default_rng(SEED)
    linker = Linker.load(given.run, shards=given.shards, device="cpu")
    if given.name is not None:
        _show_each([thing for thing in things if thing.name == given.name], linker, rng)
        return
    chosen = [things[number] for number in rng.choice(len(things), THINGS, replace=False)]
    asked, golds = [_photographed(thing, rng) for thing in chosen], [thing.id for thing in chosen]
    blind = [NewMention(mention.text, mention.mention) for mention in asked]
    found = {
        what: sum(link.candidates[0].id == gold for link, gold in zip(linker.link(some), golds, strict=True))
        for what, some in (("with the picture", asked), ("without", blind))
    }
    console.show_json({"things": THINGS} | found)


def _photographed(thing: demo.Thing, rng: np.random.Generator) -> NewMention:
    """Return a thing under a sentence that says nothing, with a new picture of it."""
    file = io.BytesIO()
    PIL.Image.fromarray(demo.draw(rng, thing)).save(file, "PNG")
    return NewMention(f"everyone admires {thing.name}", thing.name, image=file.getvalue())


def _show_each(things: Sequence[demo.Thing], linker: Linker, rng: np.random.Generator) -> None:
    """Print of each thing how many of its photographs are linked right, and what the others are taken for."""
    found = {}
    for thing in things:
        links = linker.link([_photographed(thing, rng) for _ in range(TIMES)])
        told = Counter(link.candidates[0].id for link in links)
        found[thing.id] = {"right": told.pop(thing.id, 0), "taken for": dict(told)}
    console.show_json({"photographs of each": TIMES, "things": found})


if __name__ == "__main__":
    main()
