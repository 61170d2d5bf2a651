"""Candidate lists by name: the index that leaves most names out, beside comparing every string with every name.

`python -m bench.ranking.name_lists --shards shards --caches wikidiverse,wikimel --names 10000,100000,1000000` takes the
mentions' strings of two caches, and their entities' names with as many more as it needs: names of which tokens were
exchanged for others' and some put together of halves of two. Processor seconds of one thread; ratios are paired,
string by string.
"""

import argparse
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import melcache
from common import console
from common.output import table
from extract.retrieval import by_name

SWAPPED, HALVED = 0.7, 0.3  # of the tokens of names that are made


def main() -> None:
    """Print a line for each number of names."""
    parser = argparse.ArgumentParser(prog="python -m bench.ranking.name_lists", description=__doc__)
    parser.add_argument("--shards", type=Path, default=Path("shards"))
    parser.add_argument("--caches", default="wikidiverse,wikimel")
    parser.add_argument("--names", default="10000,100000,1000000")
    parser.add_argument("--strings", type=int, default=200)
    parser.add_argument("--paired", type=int, default=40, help="of these, so many are compared with every name, too")
    parser.add_argument("--length", type=int, default=100, help="of the lists")
    given = parser.parse_args()
    counts = given.names.split(",")
    if counts[1:]:  # memory is a process's
        for count in counts:
            subprocess.run(
                [sys.executable, "-m", "bench.ranking.name_lists", *sys.argv[1:], "--names", count], check=True
            )
        return
    readers = [melcache.open(given.shards / name) for name in given.caches.split(",")]
    names = many([name for reader in readers for name in reader.strings("entity.ids.name")], int(counts[0]))
    strings = list(dict.fromkeys(text for reader in readers for text in reader.strings("mention.ids.surface")))
    told = measured(names, random.Random(1).sample(strings, given.strings), given.length, given.paired)
    console.show(table(list(told), [tuple(told.values())]))


def many(names: list[str], count: int) -> list[str]:
    """Return `count` names: the first of these, and made ones where there are fewer."""
    rng = random.Random(0)
    tokens = [name.split() for name in names]
    every = [token for each in tokens for token in each]

    def token(own: str) -> str:
        found = rng.choice(every) if rng.random() < SWAPPED else own
        other = rng.choice(every)
        return found[: (len(found) + 1) // 2] + other[len(other) // 2 :] if rng.random() < HALVED else found

    made = (" ".join(map(token, rng.choice(tokens))) for _ in range(count - len(names)))
    return [*names, *made][:count]


def measured(names: list[str], strings: list[str], length: int, paired: int) -> dict[str, str]:
    """Return what the lists of strings cost with the index, and how many times more without."""
    prepared = by_name.Names(names)
    before, by_name.FEW = _peak(), 0
    start = time.process_time()
    prepared.best([""], length, workers=1)
    built, memory = time.process_time() - start, _peak() - before
    seconds, ratios = [], []
    for place, text in enumerate(strings):
        start = time.process_time()
        lists = prepared.best([text], length, workers=1)
        seconds.append(time.process_time() - start)
        if place < paired:
            by_name.FEW, start = len(names), time.process_time()
            plain = prepared.best([text], length, workers=1)
            ratios.append((time.process_time() - start) / seconds[-1])
            by_name.FEW = 0
            assert all((one == other).all() for one, other in zip(lists, plain, strict=True)), text
    return {
        "names": f"{len(names):,}",
        "index built, s": f"{built:.1f}",
        "its MB": f"{memory / 1e6:,.0f}",
        "ms a string": f"{1e3 * statistics.mean(seconds):.1f}",
        "slowest tenth": f"{1e3 * statistics.quantiles(seconds, n=10)[-1]:.1f}",
        "comparing all takes": f"{statistics.median(ratios):.1f} times as long" if ratios else "-",
        "20,000 strings, min": f"{(built + 20_000 * statistics.mean(seconds)) / 60:.1f}",
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
