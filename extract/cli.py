"""The commands of `melcache` that make caches of releases, and `python -m extract`."""

from common import console, output
from common.commands import Command, program
from common.errors import OverError
from extract.config import ExtractConfig
from extract.describe.config import DescribeConfig


def extract(config: ExtractConfig) -> None:
    """Encode a dataset once, with BERT, ResNet-152, CLIP and Faster-RCNN, into a cache of HDF5 shards.

    Interrupted? The same command continues; finished shards are kept. With --remote, what a teammate has computed is
    fetched instead, every byte checked.
    """
    from extract.beginning import begin

    try:
        begun = begin(config)  # with all errors that need no encoder
    except OverError as error:  # of a worker that begins late
        output.say(str(error))
        return
    with output.loading("torch"):
        from extract import pipeline, plan

    if config.plan:
        plan.show(config, begun)
    else:
        pipeline.run(config, begun)


def describe(config: DescribeConfig) -> None:
    """Fetch the first paragraphs of Wikipedia's articles on a release's entities, for --descriptions.

    Interrupted? The same command continues; no entity that was answered is asked again.
    """
    from extract.describe import articles

    articles.run(config)


COMMANDS = (
    Command("extract", "Make a cache", ExtractConfig, extract),
    Command("describe", "Make a cache", DescribeConfig, describe),
)
app = program(COMMANDS, default="extract")


def main() -> None:
    """Run `python -m extract`: `melcache extract`, or another command of this stage that is named."""
    console.run(app, "melcache")
