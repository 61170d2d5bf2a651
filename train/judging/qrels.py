"""Golds as TREC has them: `mention 0 entity 1`, one line a labeled mention of a split."""

import numpy as np

import cache
from cache import store
from common.errors import ConfigError
from common.output import say
from common.paths import check_output, find_cache
from train.config.judging import EvaluateConfig
from train.data.row_names import row_names
from train.judging.referee import LETTERS, rows_of


def write(config: EvaluateConfig) -> None:
    """Write the file --qrels: the mentions that count, but for those whose gold is no entity of the cache."""
    assert config.qrels is not None
    check_output(config.qrels, "--qrels", config.predictions, config.against)
    reader = cache.open(find_cache(config.dataset, config.shards))
    rows = rows_of(reader, config.split, LETTERS[config.protocol])
    golds = np.asarray(reader.column("mention.ids.gold"))[rows]
    mentions, entities = row_names(reader, "mention.ids.id"), row_names(reader, "entity.ids.id")
    pairs = [(mentions[row], entities[gold]) for row, gold in zip(rows, golds, strict=True) if gold >= 0]
    if spaced := next((name for pair in pairs for name in pair if not name or name.split() != [name]), None):
        raise ConfigError(f"the id {spaced!r:.60} holds a space, which a TREC file cannot: use JSON lines")
    text = "".join(f"{mention} 0 {entity} 1\n" for mention, entity in pairs)
    store.publish(config.qrels, text.encode(), replace=True)
    say(f"{config.qrels}: golds of {len(pairs):,} mentions; {len(rows) - len(pairs):,} more have none in the cache")
