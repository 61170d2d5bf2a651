"""`make torture`: every experiment, large; prints its seed, and with --record writes down what it counted."""

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path

from common import console
from common.foreign import printable
from common.output import duration, say, table
from torture import document
from torture.registry import EXPERIMENTS
from torture.tiny_cache import Result


def main() -> None:
    """Run the experiments asked for, record each as it ends; exit 1 if one finds a broken promise."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("--only", default="", help=f"with commas: {','.join(EXPERIMENTS)}")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30), help="default: random")
    parser.add_argument("--small", action="store_true", help="as make test runs them")
    parser.add_argument("--cases", type=int, help="another number of cases than the large run's")
    parser.add_argument("--record", type=Path, help="write the results into this document, row by row")
    given = parser.parse_args()
    names = [name for name in given.only.replace(" ", "").split(",") if name] or list(EXPERIMENTS)
    if unknown := set(names) - EXPERIMENTS.keys():
        parser.error(f"--only {','.join(unknown)}: the experiments are {', '.join(EXPERIMENTS)}")
    say(f"seed {given.seed}")
    rows = []
    for name in names:
        if given.small and EXPERIMENTS[name].small is None:
            continue
        count = EXPERIMENTS[name].small if given.small else given.cases or EXPERIMENTS[name].large
        say(f"{name}: {EXPERIMENTS[name].promise}")
        start, before = time.monotonic(), _processor()
        result = _run(name, count, given.seed, small=given.small)
        rows.append(document.Row(name, result, _processor() - before, given.seed))
        say(f"{name}: {result.tried:,} cases, {len(result.failures)} failures, {duration(time.monotonic() - start)}")
        if given.record:
            document.write(given.record, rows[-1:])
    console.show(table(("experiment", "cases", "counted", "failures", "processor"), document.shown(rows)))
    if failures := [f"{row.name}: {failure}" for row in rows for failure in row.result.failures]:
        console.show("\n".join(map(printable, failures[:50])))
        raise SystemExit(1)


def _run(name: str, count: int, seed: int, *, small: bool) -> Result:
    experiment = EXPERIMENTS[name]
    run = experiment.run if small or experiment.harsh is None else experiment.harsh
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        return run(Path(folder), count, seed)


def _processor() -> float:
    """Return the seconds of a processor that this process and its children have taken."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    console.run(lambda prog_name: main(), "python -m torture")
