"""`python -m bench.service.linking RUN MENTIONS.jsonl`: how long a linker takes to load, first to answer, to link many.

    python -m bench.service.linking runs/demo new.jsonl --shards shards --release data/demo
    python -m bench.service.linking runs/wikimel-ours new.jsonl --encoder text=MODEL

Texts get a word more, so that no mention is one of the dataset and each is encoded. Seconds are those of the clock and
of the processor; the memory is the most that the process had, and beside each step the most of its own meanwhile
(without maps) beyond that of the libraries. `--dataset` names a cache by the same recipes as the run's, such as one
that bench.sizes.grown_cache has made; `--uncalibrated` leaves out the temperature, for which another cache than the
run's would score valid again.
"""

import argparse
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from bench.sizes.growth import Watch
from bench.sizes.planning import status
from common import console
from link.linker import Linker
from link.questions import from_file
from link.ranking import ranker

LIBRARIES = status("RssAnon")
ALONE = 20  # mentions that are linked one by one


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.service.linking")
    parser.add_argument("run", type=Path)
    parser.add_argument("mentions", type=Path, help="JSON lines as mentions.jsonl")
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--release", type=Path)
    parser.add_argument("--dataset")
    parser.add_argument("--uncalibrated", action="store_true")
    parser.add_argument("--encoder", action="append", default=[], metavar="ROLE=NAME")
    given = parser.parse_args()
    if given.uncalibrated:
        ranker.temperature_of = lambda *given: (1.0, {})
    asked = [replace(mention, text=f"{mention.text} again") for mention in from_file(given.mentions)]
    found: dict[str, object] = {"threads": torch.get_num_threads(), "mentions": len(asked)}
    with timed(found, "load"):
        linker = Linker.load(
            given.run,
            shards=given.shards,
            dataset=given.dataset,
            release=given.release,
            encoders=dict(word.split("=", 1) for word in given.encoder),
            device="cpu",
        )
    with timed(found, "first answer"):
        linker.link(asked[:1])
    with timed(found, "together"):
        linker.link(asked)
    with timed(found, f"{ALONE} one by one"):
        for mention in asked[:ALONE]:
            linker.link([mention])
    found["memory, MB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
    console.show_json(found)


@contextmanager
def timed(found: dict[str, object], what: str) -> Iterator[None]:
    """Note how many seconds the block took."""
    with Watch() as watch:
        yield
    found[what] = {
        "seconds": round(watch.seconds, 2),
        "processor": round(watch.cpu, 2),
        "own MB": (watch.most - LIBRARIES) >> 20,
    }


if __name__ == "__main__":
    main()
