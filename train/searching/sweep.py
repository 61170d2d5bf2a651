"""`melcache sweep`: search over named knobs with Optuna.

Every trial is a run of its own, in a folder named after its knobs, so a killed search continues where it stood and what
is asked twice is trained once. Trials are compared on valid; the table shows test of the best one alone.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from cache import store
from common.errors import ConfigError, NotFiniteError
from common.output import say, table
from train import loop, results
from train.config import LOWER_IS_BETTER, PROTOCOLS, resolved
from train.config.studies import SweepConfig
from train.dividing.division import ALONE, Division
from train.heads.head_config import HeadConfig
from train.inspecting.finished_run import results_of
from train.searching import varied
from train.searching.asking import Asking
from train.searching.shared_trials import Trials, chosen_of, folder_of, identity_of, run_of, value_of
from train.searching.trials import Log, Trial
from train.searching.varied import Varied
from train.studies.runs import in_one_process


def search(config: SweepConfig, head: HeadConfig | None, division: Division = ALONE) -> dict[str, Any] | None:
    """Run the trials that are left and return what sweep.json holds.

    None where the `division` leaves the result to others. Raises ConfigError for a knob that cannot be varied, and for
    a folder that holds another search.
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
    if not division.ahead(Trials(optuna, config, head, tuple(knobs)), fresh=config.fresh):
        return None
    config = division.rest(config)
    with store.alone(config.folder, wait=division.divided):
        log = Log(config.folder, identity_of(config, head), fresh=config.fresh)
        asking = Asking(optuna, config, log, knobs)
        while (done := len(log.trials)) < asking.asked:
            trial = asking.ask()
            chosen = chosen_of(knobs, trial.params)
            shown = ", ".join(f"{name} {_shown(value)}" for name, value in chosen.items())
            say(f"trial {done + 1} of {asking.asked}: {shown}")
            log.begin(trial.params)
            ended = _run(config, head, chosen, division)
            log.end(**ended)
            asking.tell(trial, ended.get("value"))
    found = _results(log, config, knobs)
    store.publish(config.folder / "sweep.json", json.dumps(found, indent=1).encode() + b"\n", replace=True)
    division.done(config.folder)
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


def _run(config: SweepConfig, head: HeadConfig, chosen: dict[str, Any], division: Division) -> dict[str, Any]:
    """Train one trial; return its value and test, or the error of one that diverged."""
    run, head = run_of(config, head, chosen)
    try:
        with results.by_workers(division.lately(run.folder)):
            found = loop.fit(run, head)
    except NotFiniteError as error:
        return {"error": str(error)}
    return {"value": value_of(run, found["seeds"]), "test": found["mean"]["test"]}


def _results(log: Log, config: SweepConfig, knobs: Sequence[Varied]) -> dict[str, Any]:
    sign = 1 if config.select in LOWER_IS_BETTER else -1

    def place(trial: Trial) -> float:
        return math.inf if trial.value is None else sign * trial.value

    trials = sorted(log.trials, key=place)
    listed = {}
    for trial in trials:
        chosen = chosen_of(knobs, trial.params)
        run = str(folder_of(config, chosen))
        listed.setdefault(run, {"knobs": chosen, "valid": trial.value, "error": trial.error, "run": run})  # asked twice
    first = next(iter(listed.values()), None)
    return {
        "about": log.about,
        "protocol": PROTOCOLS[config.protocol],
        "best": first | {"test": trials[0].test} if first and trials[0].value is not None else None,
        "trials": list(listed.values()),
    }
