"""The trials of a search: trials.json in its folder, written anew after each step and read as a stranger's.

Optuna's own storages are databases, and to open one is to trust it.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cache import store
from common.errors import ConfigError
from train.run_folder import run_files, run_schema
from train.searching.varied import Varied

NAME = "trials.json"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial: `params` as they were drawn, and its `value` on valid and metrics on `test`, or its `error`.

    One that a kill cut off has neither.
    """

    params: dict[str, Any]
    value: float | None = None
    error: str | None = None
    test: dict[str, float] | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.value is not None or self.error is not None


class Log:
    """The trials of a folder's search in the order in which they began, and `about`, what they have in common.

    Raises ConfigError if the folder holds a search about something else, or what is none.
    """

    def __init__(self, folder: Path, about: dict[str, Any], *, fresh: bool) -> None:
        self._path, self.about = folder / NAME, about
        self.trials: list[Trial] = []
        if fresh:
            run_files.remove(self._path)
        if (found := run_files.read_json(self._path)) is None:
            return
        with run_files.naming(self._path):
            before = run_schema.trials(found)["about"]
        if differ := [name for name in about if about[name] != before.get(name)]:
            raise ConfigError(
                f"{self._path} holds a search with another {', '.join(differ)}. Finish it with the options it was "
                "started with, start over with --fresh, or take another --run"
            )
        names = [field.name for field in dataclasses.fields(Trial)]
        self.trials = [Trial(**{name: trial[name] for name in names}) for trial in found["trials"]]

    def recall(self, knobs: Sequence[Varied]) -> list[Trial]:
        """Return the trials so far, and forget those that were cut off.  Raises ConfigError for one of other knobs."""
        with run_files.naming(self._path):
            for trial in self.trials:
                if trial.params.keys() != {knob.name for knob in knobs}:
                    raise ConfigError("it holds a trial of other knobs")
                for knob in knobs:
                    knob.value(trial.params)
        before, self.trials = self.trials, [trial for trial in self.trials if trial.over]
        return before

    def begin(self, params: dict[str, Any]) -> None:
        """Note a trial that begins."""
        self._write([*self.trials, Trial(params)])

    def end(self, **ended: Any) -> None:
        """Note what became of the last trial: its value and test, or its error."""
        self._write([*self.trials[:-1], dataclasses.replace(self.trials[-1], **ended)])

    def _write(self, trials: list[Trial]) -> None:
        self.trials = trials
        found = {"about": self.about, "trials": [dataclasses.asdict(trial) for trial in trials]}
        store.publish(self._path, run_files.written(run_files.sealed(found)), replace=True)
