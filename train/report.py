"""Write down a run: results.json, one checkpoint a seed, and a table for people."""

import json
import statistics
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_safetensors

from cache import Reader, store
from common.log import duration, table
from common.options import as_json
from train.config import TrainConfig

TIE_RULE = "expected"
PROTOCOL = "A retrieved"  # given or retrieved lists; a gold that is not among them stays a miss
SHOWN = ("top1", "top3", "top5", "top10", "top20", "mrr")


def results(
    config: TrainConfig,
    head: Any,
    reader: Reader,
    baseline: dict[str, Any],
    seeds: list[dict[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """Return the content of results.json: metrics are fractions, `std` is that of the sample (0 for one seed)."""
    kept = [{key: value for key, value in seed.items() if key != "state"} for seed in seeds]
    splits = ("valid", "test")
    values = {s: {m: [seed[s][m] for seed in seeds] for m in seeds[0][s]} for s in splits}
    return {
        "model": config.model,
        "config": as_json(config) | {config.model: as_json(head)},
        "dataset": reader.manifest["dataset"]["name"],
        "protocol": PROTOCOL,
        "tie_rule": TIE_RULE,
        "cache_id": reader.id,
        "warnings": reader.manifest["warnings"],
        "candidates": reader.manifest["candidates"],
        "recall_ceiling": {s: baseline[s]["recall"] for s in splits},
        "lexical": {s: baseline[s] for s in splits},
        "mean": {s: {m: statistics.fmean(found) for m, found in values[s].items()} for s in splits},
        "std": {
            s: {m: statistics.stdev(found) if len(found) > 1 else 0.0 for m, found in values[s].items()} for s in splits
        },
        "seeds": kept,
        "seconds": round(seconds, 2),
    }


def save(folder: Path, found: dict[str, Any], seeds: list[dict[str, Any]]) -> None:
    """Write checkpoints, then results.json, each whole or not at all."""
    about = {"model": found["model"], "config": json.dumps(found["config"]), "cache_id": found["cache_id"]}
    for seed in seeds:
        data = to_safetensors({name: tensor.contiguous() for name, tensor in seed["state"].items()}, about)
        store.publish(folder / f"seed-{seed['seed']}.safetensors", data, replace=True)
    store.publish(folder / "results.json", json.dumps(found, indent=1, allow_nan=False).encode() + b"\n", replace=True)


def show(found: dict[str, Any], folder: Path) -> str:
    """Return the table of a run: the head and the lexical baseline on test, with everything a number needs."""
    test, spread, first = found["mean"]["test"], found["std"]["test"], found["lexical"]["test"]
    shown = [
        name for name in SHOWN if not name.startswith("top") or int(name[3:]) < found["candidates"] or name == "top1"
    ]
    several = len(found["seeds"]) > 1
    head = [f"{100 * test[m]:.1f}" + (f" ± {100 * spread[m]:.1f}" if several else "") for m in shown]
    rows = [
        ("lexical", *(f"{100 * first[m]:.1f}" for m in shown), "-"),
        (found["model"], *head, str(len(found["seeds"]))),
    ]
    lines = [
        table((f"{found['dataset']} test, %", *shown, "seeds"), rows),
        f"protocol {found['protocol']}, {found['candidates']} candidates, {found['tie_rule']} ties, "
        f"{test['mentions']:,.0f} mentions; recall ceiling {100 * test['recall']:.1f}, "
        f"{found['model']} Top-1 of retrieved {100 * test['top1_of_retrieved']:.1f}",
        f"cache {found['cache_id'][:16]}..., best epochs {', '.join(str(s['epoch']) for s in found['seeds'])}, "
        f"{duration(found['seconds'])}; details in {folder}/results.json",
    ]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in found["warnings"])])
