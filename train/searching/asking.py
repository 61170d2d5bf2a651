"""Which trial comes next: a sampler of Optuna's that has seen the trials of a log."""

import itertools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from common.errors import ConfigError
from train.config import LOWER_IS_BETTER
from train.config.studies import SweepConfig
from train.searching.trials import Log
from train.searching.varied import Varied

STARTUP = 10  # trials that TPE draws at random, before it looks at results: Optuna's default


class Asking:
    """A study that remembers a log's trials, and asks again for one that a kill cut off; `asked` trials are run in all.

    Raises ConfigError for a grid of ranges.
    """

    def __init__(self, optuna: ModuleType, config: SweepConfig, log: Log, knobs: Sequence[Varied]) -> None:
        # a sampler that begins with the same numbers again would ask again what it asked before the kill
        seed, samplers = len(log.trials), optuna.samplers
        self._tpe = config.sampler == "tpe"
        sampler = (
            samplers.TPESampler(seed=seed, n_startup_trials=STARTUP) if self._tpe else samplers.RandomSampler(seed)
        )
        direction = "minimize" if config.select in LOWER_IS_BETTER else "maximize"
        self._study = optuna.create_study(direction=direction, sampler=sampler)
        self._states = optuna.trial.TrialState
        self._distributions = {knob.name: knob.distribution(optuna) for knob in knobs}
        for trial in log.recall(knobs):
            if trial.over:
                state = self._states.COMPLETE if trial.error is None else self._states.FAIL
                known = {"value": trial.value, "params": trial.params, "distributions": self._distributions}
                self._study.add_trial(optuna.trial.create_trial(state=state, **known))
            else:
                self._study.enqueue_trial(trial.params)
        self.asked = self._enqueue(config, knobs)

    def ask(self) -> Any:
        """Return the next trial; its `params` are as they were drawn."""
        return self._study.ask(self._distributions)

    def tell(self, trial: Any, value: float | None) -> None:
        """Say what a trial has reached; None: it diverged."""
        self._study.tell(trial, value, state=self._states.FAIL if value is None else None)

    def blind(self) -> int:
        """Return how many trials will be asked without a look at results that are not told yet, at least 1."""
        trials = self._study.get_trials(deepcopy=False)
        waiting = sum(trial.state == self._states.WAITING for trial in trials)
        if not self._tpe:
            return max(1, self.asked)
        complete = sum(trial.state == self._states.COMPLETE for trial in trials)
        return max(1, waiting, STARTUP - complete)

    def _enqueue(self, config: SweepConfig, knobs: Sequence[Varied]) -> int:
        """Ask for the combinations of a grid; return how many trials to run in all."""
        if config.sampler == "grid" and any(not knob.choices for knob in knobs):
            raise ConfigError("--sampler grid needs choices, not ranges: --vary learning-rate=1e-4,3e-4,1e-3")
        combinations = list(itertools.product(*(knob.choices for knob in knobs)))
        if config.sampler != "grid" and not 0 < len(combinations) <= config.trials:  # else it would ask some twice
            return config.trials
        for combination in combinations:
            given = dict(zip((knob.name for knob in knobs), combination, strict=True))
            self._study.enqueue_trial(given, skip_if_exists=True)
        return min(config.trials, len(combinations))
