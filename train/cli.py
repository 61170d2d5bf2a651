"""`python -m train`: the command line of stage two."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import typer

from common.errors import ConfigError
from common.options import command
from common.paths import find_cache
from train import plugin
from train.config import HEADS, DoctorConfig, ExplainConfig, SlicesConfig, SweepConfig, TrainConfig
from train.heads import HEAD_CONFIGS, KINDS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def train(config: TrainConfig, *heads: Any) -> None:
    """Train a head on a cache and report it beside the lexical baseline."""
    config = plugin.resolve(config)
    head = _head(config, heads)
    from train import distributed, loop, report  # torch: not for --help

    found = loop.fit(config, head)
    if distributed.speaks():
        print(report.show(found, config.folder))


def sweep(config: SweepConfig, *heads: Any) -> None:
    """Search over named knobs; each trial is a run of its own, and the best one on valid is named."""
    config = plugin.resolve(config)
    head = _head(config, heads)
    from train import study

    print(study.show(study.search(config, head), config))


def explain(config: ExplainConfig) -> None:
    """Print the edge weights that enter each layer of a trained DRIN, per candidate of a mention (DRIN Figure 5)."""
    from train import explanation

    found = explanation.explain(config)
    print(explanation.as_text(found, as_json=config.json))


def slices(config: SlicesConfig) -> None:
    """Split a finished run's accuracy: gold seen in train, ambiguity of the string, mention type, pictures there."""
    from train import slices as slicing

    found = slicing.examine(config)
    print(json.dumps(found, indent=1) if config.json else slicing.show(found))


def doctor(config: DoctorConfig) -> None:
    """Count what the splits of a dataset give away: repeated rows, shared pictures, golds seen in train, the prior."""
    from cache import open as open_cache
    from train import doctor as examination

    found = examination.examine(open_cache(find_cache(config.dataset, config.shards)))
    print(json.dumps(found, indent=1) if config.json else examination.show(found))


def _head(config: TrainConfig, heads: Sequence[Any]) -> Any:
    """Return the config of the head that was asked for; options that only others have are refused."""
    if config.model not in HEADS and config.model not in HEAD_CONFIGS:
        raise ConfigError(f"--model {config.model}: choose from {', '.join(HEADS)}")
    kind = HEAD_CONFIGS.get(config.model)
    own = {field.name for field in dataclasses.fields(kind)} if kind else set()
    for head in heads:
        for field in dataclasses.fields(head):
            if field.name not in own and getattr(head, field.name) != field.default:
                flag = field.name.replace("_", "-")
                raise ConfigError(f"--{flag} is no option of {config.model}; leave it out or choose another --model")
    if kind is None:
        return None
    if kind not in KINDS:
        return plugin.configure(kind, config.option)
    chosen = next(head for head in heads if type(head) is kind)
    return dataclasses.replace(chosen, head=config.model) if "head" in own else chosen


command(app, TrainConfig, *KINDS, default=True)(train)
command(app, SweepConfig, *KINDS, name="sweep")(sweep)
command(app, ExplainConfig, name="explain")(explain)
command(app, SlicesConfig, name="slices")(slices)
command(app, DoctorConfig, name="doctor")(doctor)
