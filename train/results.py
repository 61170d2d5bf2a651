"""Write down a run: its curves, results.json, and a table for people."""

import contextlib
import json
import statistics
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from cache import store
from common.errors import ConfigError
from common.foreign import printable
from common.options import as_json
from common.output import BEST, SIGNIFICANT, SMALL, duration, percent, say, starred, table
from common.records import SPLITS
from train.config import LOWER_IS_BETTER, PROTOCOLS
from train.data import splits
from train.data.ambiguity import TOLD
from train.evaluating import protocols
from train.judging import confidence
from train.run import Run
from train.run_folder import run_files

TIE_RULE = "expected"
SHOWN = ("top1", "top3", "top5", "top10", "top20", "mrr")


_lately: Collection[int] = ()


@contextlib.contextmanager
def by_workers(seeds: Collection[int]) -> Iterator[None]:
    """Tell of these seeds of the run in the block what each has reached: this command's workers have trained them."""
    global _lately
    _lately = seeds
    try:
        yield
    finally:
        _lately = ()


def announce(run: Run, finished: list[int]) -> None:
    """Say what will not be trained again, and where the features lie."""
    resident = run.data.table.resident
    for seed, found in (run.checkpoints.finished() if _lately else {}).items():
        if seed in _lately and seed in finished:
            of, top = len(found["history"]), 100 * found["valid"]["top1"]
            say(f"{run.name}, seed {seed}, by a worker: best epoch {found['epoch']} of {of}, valid Top-1 {top:.1f}")
    if before := [seed for seed in finished if seed not in _lately]:
        seeds = ", ".join(map(str, before))
        say(f"finished before, not trained again (--fresh would): seed {seeds} in {run.config.folder}/")
    if resident != "device":
        say(f"features stay in {'host memory' if resident == 'host' else 'the shards'} and are gathered ahead")


class Curves:
    """metrics.jsonl, a line per seed and epoch as it ends, and the same for TensorBoard if wanted."""

    def __init__(self, run: Run, found: dict[int, dict[str, Any] | None]) -> None:
        self._path, self._first = run.config.folder / run_files.CURVES, run.world.first
        self._known = {seed: known["history"] for seed, known in found.items() if known}
        self._board = _summary_writer(run.config.folder) if run.config.tensorboard and self._first else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()

    def begin(self, seeds: tuple[int, ...], history: list[list[dict[str, Any]]]) -> None:
        """Start the file over with what is known of finished seeds and of those that now go on."""
        self._known |= dict(zip(seeds, history, strict=True))
        if self._first:
            write_curves(self._path.parent, self._known)

    def add(self, seed: int, epoch: dict[str, Any]) -> None:
        """Add an epoch of a seed."""
        if not self._first:
            return
        store.append(self._path, _line(seed, epoch).encode())
        if self._board is not None:
            values = {"loss": epoch["loss"]} | {f"valid/{name}": value for name, value in epoch["valid"].items()}
            for name, value in values.items():
                self._board.add_scalar(f"{name}/seed-{seed}", value, epoch["epoch"])


def write_curves(folder: Path, histories: Mapping[int, list[dict[str, Any]]]) -> None:
    """Write metrics.jsonl: the epochs of each seed, one seed after the other."""
    lines = [_line(seed, epoch) for seed, history in histories.items() for epoch in history]
    store.publish(folder / run_files.CURVES, "".join(lines).encode(), replace=True)


def _line(seed: int, epoch: dict[str, Any]) -> str:
    return json.dumps({"seed": seed} | epoch) + "\n"


def _summary_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # seconds to import
    except ImportError:
        raise ConfigError("--tensorboard needs the package: make setup EXTRAS=tensorboard") from None
    return SummaryWriter(str(folder))


def so_far(run: Run, history: list[list[dict[str, Any]]], best: list[int]) -> str:
    """Return how seeds in training stand: epoch 3 of 10, loss 0.0421, valid top1 63.5, best 65.0 (epoch 2).

    Of several seeds the means, over those that go on; `best` (S,) are their best epochs so far, 0 = before the first.
    """
    last, metric = max(map(len, history)), run.config.select
    going = [(known, epoch) for known, epoch in zip(history, best, strict=True) if len(known) == last]
    loss = statistics.fmean(known[-1]["loss"] for known, _ in going)
    now = statistics.fmean(known[-1]["valid"][metric] for known, _ in going)
    text = f"epoch {last} of {run.config.epochs}, loss {loss:.4g}, valid {metric} {_shown(metric, now)}"
    if all(epoch for _, epoch in going):
        highest = statistics.fmean(known[epoch - 1]["valid"][metric] for known, epoch in going)
        text += f", best {_shown(metric, highest)}" + (f" (epoch {best[0]})" if len(history) == 1 else "")
    return text


def _shown(metric: str, value: float) -> str:
    return f"{value:.2f}" if metric in LOWER_IS_BETTER else percent(value)


def results_of(run: Run, lexical: dict[str, Any], seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of results.json: metrics are fractions, `std` is that of the sample (0 for one seed).

    `candidates` entities, at most, were ranked for a mention; `ranked` says which (protocols.Ranking.among).
    `watched` is the protocol that the epoch was chosen under. `lexical` always ranks the lists. `ties` holds test's
    means under the two other rules; `seconds` is the sum of what the seeds took, interruptions left out. `split` says
    on which split the numbers are (splits.describe), `parts` by which recipes the cache's were made; of a head without
    weights valid may be missing. `unlabeled` mentions count nowhere. `confidence` is what judging.confidence says of
    the scores that the seeds kept, None where one kept none. `digest` covers all other fields.
    """
    config, head, reader, data = run.config, run.head, run.reader, run.data
    measured = tuple(data.splits)
    found = {
        "model": config.model,
        "name": run.name,
        "config": as_json(config) | {config.model: as_json(head)},
        "dataset": reader.manifest.dataset.name,
        "split": splits.describe(reader, config.valid_from),
        "unlabeled": {name: data.table.unlabeled(name) for name in SPLITS},
        "protocol": PROTOCOLS[config.protocol],
        "tie_rule": TIE_RULE,
        "cache_id": reader.id,
        "parts": {name: part.origin for name, part in reader.manifest.parts.items()},
        "warnings": [*reader.manifest.warnings, *(head.warnings if head else ()), *data.warnings],
        "candidates": data.ranked,
        "entities": data.table.entity_count,
        "ranked": protocols.ranking_of(config).among,
        "watched": PROTOCOLS[config.protocol if config.select_among == "all" else "retrieved"],
        "recall_ceiling": {s: seeds[0][s]["recall"] for s in measured},
        "lexical": {s: lexical[s] for s in measured},
        **moments(seeds),
        "ties": {
            rule: {m: statistics.fmean(seed["ties"][rule][m] for seed in seeds) for m in seeds[0]["test"]}
            for rule in seeds[0]["ties"]
        },
        "seeds": seeds,
        "seconds": round(sum(seed["seconds"] for seed in seeds), 2),
    }
    found["confidence"] = confidence.of_run(config.folder, found, reader) if run.world.first else None
    return run_files.sealed(found)


def moments(seeds: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return mean and std over seeds of every metric of valid, where it was measured, and test."""
    values = {s: {m: [seed[s][m] for seed in seeds] for m in seeds[0][s]} for s in ("valid", "test") if s in seeds[0]}
    return {
        "mean": {s: {m: statistics.fmean(found) for m, found in values[s].items()} for s in values},
        "std": {
            s: {m: statistics.stdev(found) if len(found) > 1 else 0.0 for m, found in values[s].items()} for s in values
        },
    }


def save(folder: Path, found: dict[str, Any]) -> None:
    """Write results.json whole or not at all."""
    store.publish(folder / run_files.RESULTS, run_files.written(found), replace=True)


def show(found: dict[str, Any], folder: Path, *, marked: bool = False, tested: dict[str, Any] | None = None) -> str:
    """Return the table of a run: the head and the lexical baseline on test, with everything a number needs.

    With `marked` stars stand at the best of each column, where both rank the same, and where the difference of Top-1 is
    `tested` a sign behind one that is significant.
    """
    test, spread, first = found["mean"]["test"], found["std"]["test"], found["lexical"]["test"]
    shown = [
        name for name in SHOWN if not name.startswith("top") or int(name[3:]) < found["candidates"] or name == "top1"
    ]
    several = len(found["seeds"]) > 1
    shown = shown[:1] + ["top1_of_ambiguous"] * bool(test["ambiguous"]) + shown[1:]
    head = [percent(test[m], spread[m] if several else None) for m in shown]
    whole = found["protocol"] == PROTOCOLS["whole-kb"]
    rows = [("lexical, in its list" if whole else "lexical", *(f"{100 * first[m]:.1f}" for m in shown), "-")]
    if found["model"] != "lexical":
        rows.append((found["name"], *head, str(len(found["seeds"])) if found["seeds"][0]["history"] else "-"))
    if marked := marked and len(rows) > 1 and not whole:
        columns = [starred([row[i] for row in rows], [of[m] for of in (first, test)]) for i, m in enumerate(shown, 1)]
        if tested is not None:
            small = tested["holm"] < SMALL
            columns[0] = [
                cell + sign for cell, sign in zip(columns[0], (" ", SIGNIFICANT if small else " "), strict=True)
            ]
        rows = [(row[0], *cells, row[-1]) for row, cells in zip(rows, zip(*columns, strict=True), strict=True)]
    lines = [
        table((f"{found['dataset']} test, %", *(name.removeprefix("top1_of_") for name in shown), "seeds"), rows),
        *[f"{BEST} the best of its column"] * marked,
        *([_tested_line(tested)] if marked and tested is not None else []),
        f"protocol {found['protocol']}, {_among(found)}, {found['tie_rule']} ties, "
        f"{test['mentions']:,.0f} mentions{splits.uncounted(found['unlabeled'])}; "
        f"recall ceiling {100 * test['recall']:.1f}; "
        f"{found['name']} Top-1 where gold is retrieved {100 * test['top1_of_retrieved']:.1f}; "
        f"Top-1 with gold last among ties {100 * found['ties']['pessimistic']['top1']:.1f}, "
        f"first {100 * found['ties']['optimistic']['top1']:.1f}",
        f"{TOLD}: {test['ambiguous']:,.0f} of the mentions, recall ceiling {100 * test['recall_of_ambiguous']:.1f}",
        *_confidence_lines(found),
        f"cache {found['cache_id'][:16]}..., {splits.told(found['split'])}; "
        f"best epochs {', '.join(str(s['epoch']) for s in found['seeds'])}"
        f"{'' if found['watched'] == found['protocol'] else ' under ' + found['watched']}; "
        f"trained in {duration(found['seconds'])}; details in {folder}/results.json",
    ]
    return "\n".join([lines[0], *map(printable, [*lines[1:], *(f"warning: {w}" for w in found["warnings"])])])


def _tested_line(tested: dict[str, Any]) -> str:
    """Return whether Top-1 differs from that of the string matcher."""
    low, high = (f"{100 * end:+.1f}" for end in tested["interval"])
    differs = f"{SIGNIFICANT} top1 differs" if tested["holm"] < SMALL else "top1 does not differ significantly"
    return f"{differs} from that of lexical: {100 * tested['mean']:+.1f} (95%: {low} to {high}), p {tested['holm']:.4f}"


def _confidence_lines(found: dict[str, Any]) -> list[str]:
    """Return a line on how far probabilities are to be believed, and on mentions without gold in the cache."""
    if (told := found.get("confidence")) is None:
        return []
    of, nil = told["mean"], told["seeds"][0]["nil"]
    line = (
        f"confidence at temperature {of['temperature']:.3g} (fitted on valid): expected calibration error "
        f"{percent(of['ece'])}, area under risk and coverage {percent(of['area_under_risk'])}"
    )
    if nil:
        line += (
            f"; abstaining below {of['nil_below']:.2g}: right on {percent(of['nil_accuracy'])} of {nil:,.0f} mentions "
            f"without gold in the cache, on {percent(of['accuracy_with_nil'])} of all"
        )
    return [line]


def _among(found: dict[str, Any]) -> str:
    """Return what gold is ranked among."""
    k, entities = found["candidates"], f"{found['entities']:,} entities"
    if found["protocol"] != PROTOCOLS["whole-kb"]:
        return f"{k} candidates"
    if found["ranked"] == "list":
        return f"within lists of {k}, since other entities have no string score"
    if found["ranked"] == "best":
        recall = 100 * found["recall_ceiling"]["test"]
        return f"re-ranking the {k} best of {entities} by alignment score; recall of these {k}: {recall:.1f}"
    return f"all {entities}"
