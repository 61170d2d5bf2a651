"""`python -m train`: the command line of stage two."""

import typer

from common.errors import ConfigError
from common.options import command
from train.config import DrinConfig, ExplainConfig, SweepConfig, TrainConfig

CONFIGS = {"drin": DrinConfig}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def train(config: TrainConfig, drin: DrinConfig) -> None:
    """Train a head on a cache and report it beside the lexical baseline."""
    head = _head(config, drin)
    from train import distributed, loop, report  # torch: not for --help

    found = loop.fit(config, head)
    if distributed.speaks():
        print(report.show(found, config.folder))


def sweep(config: SweepConfig, drin: DrinConfig) -> None:
    """Search over named knobs; each trial is a run of its own, and the best one on valid is named."""
    head = _head(config, drin)
    from train import study

    print(study.show(study.search(config, head), config))


def explain(config: ExplainConfig) -> None:
    """Print the edge weights that enter each layer of a trained DRIN, per candidate of a mention (DRIN Figure 5)."""
    from train import explanation

    found = explanation.explain(config)
    print(explanation.as_text(found, as_json=config.json))


def _head(config: TrainConfig, drin: DrinConfig) -> DrinConfig:
    if config.model not in CONFIGS:
        raise ConfigError(f"--model {config.model}: choose from {', '.join(CONFIGS)}")
    return {"drin": drin}[config.model]


command(app, TrainConfig, DrinConfig, default=True)(train)
command(app, SweepConfig, DrinConfig, name="sweep")(sweep)
command(app, ExplainConfig, name="explain")(explain)
