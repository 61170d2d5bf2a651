"""`python -m extract`: the command line of stage one."""

from common.options import App, command
from extract.config import DescribeConfig, ExtractConfig

app = App(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def extract(config: ExtractConfig) -> None:
    """Encode a dataset once, with BERT, ResNet-152, CLIP and Faster-RCNN, into a cache of HDF5 shards.

    Interrupted? The same command continues; finished shards are kept. With --remote, what a teammate has computed is
    fetched instead, every byte checked.
    """
    from extract import pipeline, plan  # torch and the encoder libraries: not for --help

    if config.plan:
        plan.show(config)
    else:
        pipeline.run(config)


def describe(config: DescribeConfig) -> None:
    """Fetch the first paragraphs of Wikipedia's articles on a release's entities, for --descriptions.

    Interrupted? The same command continues; no entity that was answered is asked again.
    """
    from extract.describe import articles

    articles.run(config)


command(app, ExtractConfig, default=True)(extract)
command(app, DescribeConfig, name="describe")(describe)
