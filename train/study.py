"""`python -m train sweep`: search over named knobs with Optuna.

Every trial is a run of its own, in a folder named after its knobs, so a killed search continues where it stood and what
is asked twice is trained once. Trials are compared on valid; the table shows test of the best one alone.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import statistics
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin, get_type_hints

import cache as melcache
from cache import store
from common.errors import ConfigError, NotFiniteError
from common.log import say, table
from common.options import as_json, value_of
from common.paths import find_cache
from train import checkpoint, loop, report
from train.config import DECISIVE, FIXED, LOWER_IS_BETTER, PROTOCOLS, SweepConfig, TrainConfig
from train.series import in_one_process, part


@dataclasses.dataclass(frozen=True)
class Varied:
    """One knob of a search: its choices, or a range from `low` to `high`, both included."""

    name: str
    kind: type
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False

    def suggest(self, trial: Any) -> Any:
        """Return the trial's value."""
        if self.choices:
            return value_of(self.kind, trial.suggest_categorical(self.name, self.choices))
        suggest = trial.suggest_int if self.kind is int else trial.suggest_float
        return suggest(self.name, self.kind(self.low), self.kind(self.high), log=self.log)


def search(config: SweepConfig, head: Any) -> dict[str, Any]:
    """Run the trials that are left and return what sweep.json holds.

    Raises ConfigError for a knob that cannot be varied, and for a folder that holds another search.
    """
    if head is None:
        raise ConfigError(f"{config.model} has no weights: there is nothing to search")
    in_one_process("sweep")
    optuna = _optuna()
    varied = [_varied(text, config, head) for text in config.vary]
    names = [knob.name for knob in varied]
    if not varied:
        raise ConfigError("sweep needs something to search: --vary learning-rate=log:1e-4..1e-2 --vary layers=1,2,3")
    if len(set(names)) < len(names):
        raise ConfigError(f"--vary names a knob twice: {', '.join(names)}")
    with store.alone(config.folder):
        study = _study(optuna, config, head)
        asked = _enqueue(optuna, study, config, varied)
        while (done := len(_finished(study))) < asked:
            trial = study.ask()
            chosen = {knob.name: knob.suggest(trial) for knob in varied}
            say(
                f"trial {done + 1} of {asked}: "
                + ", ".join(f"{name} {_shown(value)}" for name, value in chosen.items())
            )
            _run(optuna, study, trial, config, head, chosen)
    found = _results(study, config)
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
    if found["best"] is not None:
        run = Path(found["best"]["run"])
        lines += ["", "the best one:", report.show(json.loads((run / "results.json").read_text()), run)]
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


def _varied(text: str, config: SweepConfig, head: Any) -> Varied:
    """Return the knob that `text` (NAME=A,B or NAME=LOW..HIGH or NAME=log:LOW..HIGH) describes."""
    name, found, values = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    own = {field.name: get_type_hints(type(head))[field.name] for field in dataclasses.fields(head) if field.metadata}
    hints = {key: get_type_hints(TrainConfig)[key] for key in DECISIVE if key not in FIXED} | own
    if not found or name not in hints:
        raise ConfigError(f"--vary {text}: expected KNOB=VALUES, KNOB one of {', '.join(sorted(hints))}")
    hint = next((known for known in get_args(hints[name]) if get_args(hints[name])[1:] == (type(None),)), hints[name])
    kind = get_origin(hint) or hint
    kind = str if kind not in (int, float, bool, tuple) else kind
    try:
        knob = _range(name, kind, values) if ".." in values else _choices(name, kind, values)
        ends = [knob.low, knob.high] if not knob.choices else [value_of(kind, choice) for choice in knob.choices]
    except ValueError:
        what = f"{name}=A,B,C of different {kind.__name__}s"
        raise ConfigError(f"--vary {text}: expected {what}, or a range LOW..HIGH of numbers") from None
    for end in ends:  # a config refuses what it cannot be
        changed = dataclasses.replace(config if name in DECISIVE else head, **{name: end})
        known = get_args(hint) if get_origin(hint) is not tuple else ()
        if known and getattr(changed, name) not in known:
            raise ConfigError(f"--vary {text}: {end} is none of {', '.join(map(str, known))}")
    return knob


def _choices(name: str, kind: type, text: str) -> Varied:
    choices = tuple(choice.strip() for choice in text.split(",") if choice.strip())
    if not choices or len({value_of(kind, choice) for choice in choices}) < len(choices):
        raise ValueError
    return Varied(name, kind, choices)


def _range(name: str, kind: type, text: str) -> Varied:
    log = text.startswith("log:")
    low, high = (kind(value) for value in text.removeprefix("log:").split(".."))
    if kind not in (int, float) or not low < high < math.inf or (log and low <= 0):
        raise ValueError
    return Varied(name, kind, low=low, high=high, log=log)


def _study(optuna: ModuleType, config: SweepConfig, head: Any) -> Any:
    """Open the folder's study or begin it."""
    database = config.folder / "sweep.sqlite3"
    if config.fresh:
        database.unlink(missing_ok=True)
    direction = "minimize" if config.select in LOWER_IS_BETTER else "maximize"
    if database.exists() and not database.read_bytes()[:16].startswith(b"SQLite format 3"):
        raise ConfigError(f"{database} is not the database of a search. Remove it, or start over with --fresh")
    storage = optuna.storages.RDBStorage(f"sqlite:///{database}")
    study = optuna.create_study(storage=storage, study_name="sweep", direction=direction, load_if_exists=True)
    about = _identity(config, head)
    before = study.user_attrs.get("about", about)
    if differ := [name for name in about if about[name] != before.get(name)]:
        raise ConfigError(
            f"{database} holds a search with another {', '.join(differ)}. Finish it with the options it was started "
            "with, start over with --fresh, or take another --run"
        )
    study.set_user_attr("about", about)
    # a sampler that begins with the same numbers again would ask again what it asked before the kill
    seed = len(study.get_trials(deepcopy=False))
    study.sampler = {"tpe": optuna.samplers.TPESampler}.get(config.sampler, optuna.samplers.RandomSampler)(seed=seed)
    return study


def _identity(config: SweepConfig, head: Any) -> dict[str, Any]:
    """Return what all trials have in common."""
    everything = as_json(config)
    common = {name: everything[name] for name in (*DECISIVE, "model", "seeds", "vary", "sampler")}
    cache_id = melcache.open(find_cache(config.dataset, config.shards)).id
    own = {name: value for name, value in as_json(head).items() if not name.endswith("_width")}  # those are the cache's
    return {"cache": cache_id, "code": checkpoint.code()} | common | own


def _enqueue(optuna: ModuleType, study: Any, config: SweepConfig, varied: list[Varied]) -> int:
    """Ask again for trials that a kill cut off, and for the combinations of a grid; return how many to run in all."""
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        if asked := trial.params or trial.system_attrs.get("fixed_params"):
            study.enqueue_trial(asked)
    if config.sampler == "grid" and any(not knob.choices for knob in varied):
        raise ConfigError("--sampler grid needs choices, not ranges: --vary learning-rate=1e-4,3e-4,1e-3")
    combinations = list(itertools.product(*(knob.choices for knob in varied)))
    if config.sampler != "grid" and not 0 < len(combinations) <= config.trials:  # else it would ask some twice
        return config.trials
    for combination in combinations:
        study.enqueue_trial(dict(zip((k.name for k in varied), combination, strict=True)), skip_if_exists=True)
    return min(config.trials, len(combinations))


def _run(optuna: ModuleType, study: Any, trial: Any, config: SweepConfig, head: Any, chosen: dict[str, Any]) -> None:
    """Train one trial and tell the study; a loss that diverged is a result, too."""
    mine = {name: value for name, value in chosen.items() if name in DECISIVE}
    run = config.folder / f"trial-{hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]}"
    trial.set_user_attr("run", str(run))
    trial.set_user_attr("knobs", chosen)
    trained = part(config, run, mine)
    head = dataclasses.replace(head, **{name: value for name, value in chosen.items() if name not in DECISIVE})
    try:
        found = loop.fit(trained, head)
    except NotFiniteError as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    trial.set_user_attr("test", found["mean"]["test"])
    study.tell(trial, statistics.fmean(seed["valid"][config.select] for seed in found["seeds"]))


def _finished(study: Any) -> list[Any]:
    """Return the trials that have a value or diverged; those that a kill cut off do not count."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.values is not None or "error" in trial.user_attrs]


def _results(study: Any, config: SweepConfig) -> dict[str, Any]:
    worst = math.inf if config.select in LOWER_IS_BETTER else -math.inf
    sign = 1 if config.select in LOWER_IS_BETTER else -1
    trials = sorted(_finished(study), key=lambda t: sign * (t.value if t.values is not None else worst))
    listed = [
        {
            "knobs": trial.user_attrs["knobs"],
            "valid": trial.value,
            "error": trial.user_attrs.get("error"),
            "run": trial.user_attrs["run"],
        }
        for trial in {trial.user_attrs["run"]: trial for trial in reversed(trials)}.values()  # asked twice, shown once
    ][::-1]
    best = listed[0] | {"test": trials[0].user_attrs["test"]} if listed and trials[0].values is not None else None
    return {
        "about": study.user_attrs["about"],
        "protocol": PROTOCOLS[config.protocol],
        "best": best,
        "trials": listed,
    }
