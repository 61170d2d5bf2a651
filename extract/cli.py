"""`python -m extract`: the command line of stage one."""

import typer

from common.options import command
from extract.config import ExtractConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def extract(config: ExtractConfig) -> None:
    """Encode a dataset once, with BERT, ResNet-152, CLIP and Faster-RCNN, into a cache of HDF5 shards.

    Interrupted? The same command continues; finished shards are kept.
    """
    from extract import pipeline  # torch and the encoder libraries: not for --help

    pipeline.run(config)


command(app, ExtractConfig)(extract)
