"""`melcache sweep`: search over named knobs with Optuna.

Every trial is a run of its own, in a folder named after its knobs, so a killed search continues where it stood and what
is asked twice is trained once. Trials are compared on valid; the table shows test of the best one alone.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import cache
from cache import store
from common.errors import ConfigError, NotFiniteError
from common.options import as_json
from common.output import say, table
from common.paths import find_cache
from train import loop, results
from train.config import DECISIVE, LOWER_IS_BETTER, PROTOCOLS, SweepConfig, resolved
from train.heads.head_config import HeadConfig
from train.inspecting.finished_run import results_of
from train.run import code_of
from train.searching import varied
from train.searching.trials import Log, Trial
from train.searching.varied import Varied
from train.studies.runs import in_one_process, part


def search(config: SweepConfig, head: HeadConfig | None) -> dict[str, Any]:
    """Run the trials that are left and return what sweep.json holds.

    Raises ConfigError for a knob that cannot be varied, and for a folder that holds another search.
    """
    if head is None:
        raise ConfigError(f"{config.model} has no weights: there is nothing to search")
    in_one_process("sweep")
    config = resolved(config)
    optuna = _optuna()
    knobs = [varied.parse(text, config, head) for text in config.vary]
    names = [knob.name for knob in knobs]
    if not knobs:
        raise ConfigError("sweep needs something to search: --vary learning-rate=log:1e-4..1e-2 --vary layers=1,2,3")
    if len(set(names)) < len(names):
        raise ConfigError(f"--vary names a knob twice: {', '.join(names)}")
    with store.alone(config.folder):
        log = Log(config.folder, _identity(config, head), fresh=config.fresh)
        study = _study(optuna, config, log, knobs)
        asked = _enqueue(study, config, knobs)
        distributions = {knob.name: knob.distribution(optuna) for knob in knobs}
        while (done := len(log.trials)) < asked:
            trial = study.ask(distributions)
            chosen = _chosen(knobs, trial.params)
            shown = ", ".join(f"{name} {_shown(value)}" for name, value in chosen.items())
            say(f"trial {done + 1} of {asked}: {shown}")
            log.begin(trial.params)
            ended = _run(config, head, chosen)
            log.end(**ended)
            study.tell(trial, ended.get("value"), state=None if "value" in ended else optuna.trial.TrialState.FAIL)
    found = _results(log, config, knobs)
    store.publish(config.folder / "sweep.json", json.dumps(found, indent=1).encode() + b"\n", replace=True)
    return found


def show(found: dict[str, Any], config: SweepConfig) -> str:
    """Return the table of a search, best trial first, and the table of the best one's run."""
    names = list(found["trials"][0]["knobs"])
    percent = 1 if config.select in LOWER_IS_BETTER else 100
    rows = [
        (
            Path(trial["run"]).name,
            *(_shown(trial["knobs"][name]) for name in names),
            "diverged" if trial["valid"] is None else f"{percent * trial['valid']:.1f}",
        )
        for trial in found["trials"]
    ]
    lines = [table(("trial", *names, f"valid {config.select}"), rows), f"details in {config.folder}/sweep.json"]
    if found["best"] is not None and (best := results_of(Path(found["best"]["run"]))) is not None:
        lines += ["", "the best one:", results.show(best, Path(found["best"]["run"]))]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "+".join(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError:
        raise ConfigError("sweep needs Optuna: make setup EXTRAS=sweep") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _study(optuna: ModuleType, config: SweepConfig, log: Log, knobs: Sequence[Varied]) -> Any:
    """Return a study that remembers the log's trials, and asks again for one that a kill cut off."""
    # a sampler that begins with the same numbers again would ask again what it asked before the kill
    seed = len(log.trials)
    sampler = {"tpe": optuna.samplers.TPESampler}.get(config.sampler, optuna.samplers.RandomSampler)(seed=seed)
    direction = "minimize" if config.select in LOWER_IS_BETTER else "maximize"
    study = optuna.create_study(direction=direction, sampler=sampler)
    states, distributions = optuna.trial.TrialState, {knob.name: knob.distribution(optuna) for knob in knobs}
    for trial in log.recall(knobs):
        if trial.over:
            state = states.COMPLETE if trial.error is None else states.FAIL
            frozen = optuna.trial.create_trial(
                state=state, value=trial.value, params=trial.params, distributions=distributions
            )
            study.add_trial(frozen)
        else:
            study.enqueue_trial(trial.params)
    return study


def _identity(config: SweepConfig, head: HeadConfig) -> dict[str, Any]:
    """Return what all trials have in common."""
    everything = as_json(config)
    common = {name: everything[name] for name in (*DECISIVE, "model", "seeds", "vary", "sampler")}
    cache_id = cache.open(find_cache(config.dataset, config.shards)).id
    own = {name: value for name, value in as_json(head).items() if not name.endswith("_width")}  # those are the cache's
    return {"cache": cache_id, "code": code_of(config.model)} | common | own


def _enqueue(study: Any, config: SweepConfig, knobs: Sequence[Varied]) -> int:
    """Ask for the combinations of a grid; return how many trials to run in all."""
    if config.sampler == "grid" and any(not knob.choices for knob in knobs):
        raise ConfigError("--sampler grid needs choices, not ranges: --vary learning-rate=1e-4,3e-4,1e-3")
    combinations = list(itertools.product(*(knob.choices for knob in knobs)))
    if config.sampler != "grid" and not 0 < len(combinations) <= config.trials:  # else it would ask some twice
        return config.trials
    for combination in combinations:
        study.enqueue_trial(dict(zip((k.name for k in knobs), combination, strict=True)), skip_if_exists=True)
    return min(config.trials, len(combinations))


def _chosen(knobs: Sequence[Varied], params: dict[str, Any]) -> dict[str, Any]:
    return {knob.name: knob.value(params) for knob in knobs}


def _folder(config: SweepConfig, chosen: dict[str, Any]) -> Path:
    return config.folder / f"trial-{hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]}"


def _run(config: SweepConfig, head: HeadConfig, chosen: dict[str, Any]) -> dict[str, Any]:
    """Train one trial; return its value and test, or the error of one that diverged."""
    mine = {name: value for name, value in chosen.items() if name in DECISIVE}
    head = dataclasses.replace(head, **{name: value for name, value in chosen.items() if name not in DECISIVE})
    try:
        found = loop.fit(part(config, _folder(config, chosen), mine), head)
    except NotFiniteError as error:
        return {"error": str(error)}
    value = statistics.fmean(seed["valid"][config.select] for seed in found["seeds"])
    return {"value": value, "test": found["mean"]["test"]}


def _results(log: Log, config: SweepConfig, knobs: Sequence[Varied]) -> dict[str, Any]:
    sign = 1 if config.select in LOWER_IS_BETTER else -1

    def place(trial: Trial) -> float:
        return math.inf if trial.value is None else sign * trial.value

    trials = sorted(log.trials, key=place)
    listed = {}
    for trial in trials:
        chosen = _chosen(knobs, trial.params)
        run = str(_folder(config, chosen))
        listed.setdefault(run, {"knobs": chosen, "valid": trial.value, "error": trial.error, "run": run})  # asked twice
    first = next(iter(listed.values()), None)
    return {
        "about": log.about,
        "protocol": PROTOCOLS[config.protocol],
        "best": first | {"test": trials[0].test} if first and trials[0].value is not None else None,
        "trials": list(listed.values()),
    }
