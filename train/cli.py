"""`python -m train`: the command line of stage two."""

import typer

from common.errors import ConfigError
from common.options import command
from train.config import DrinConfig, TrainConfig

CONFIGS = {"drin": DrinConfig}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def train(config: TrainConfig, drin: DrinConfig) -> None:
    """Train a head on a cache and report it beside the lexical baseline."""
    if config.model not in CONFIGS:
        raise ConfigError(f"--model {config.model}: choose from {', '.join(CONFIGS)}")
    from train import loop, report  # torch: not for --help

    found = loop.fit(config, {"drin": drin}[config.model])
    print(report.show(found, config.folder))


command(app, TrainConfig, DrinConfig)(train)
