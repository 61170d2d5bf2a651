"""A head of one's own on one mention, as it is trained and tested: a column that is not there is known early."""

import torch
from torch import Tensor

from cache.schema import PARTS
from common.errors import UntrainableError
from train.config import TrainConfig
from train.data.table import Table
from train.evaluating import protocols, ranking, whole_kb
from train.evaluating.ranking import Split
from train.heads.base import Head
from train.heads.head_config import HeadConfig
from train.heads.models import built
from train.heads.registry import HEADS
from train.processes import World

COLUMNS = {f"{part}.{column}" for part, columns in PARTS.items() for column in columns} | {"pair.alignment"}


@torch.no_grad()
def rehearse(config: TrainConfig, head: HeadConfig | None, table: Table, row: Tensor) -> None:
    """Score the mention in `row` (1,), if there is one, in its list, and as the protocol ranks it; not of our heads.

    Raises UntrainableError naming a column that the head reads and a batch does not hold: one that its READS lack, or
    that is known of a mention's list alone where other entities are ranked.
    """
    if HEADS[config.model].file is None or not len(row):
        return
    with torch.random.fork_rng(devices=[]):
        model = built(config, head).to(table.device)
    _score(model, table, row, f"{config.model} reads %s, which a batch does not hold: name it in READS")
    ranking = protocols.ranking_of(config)
    if ranking.among == "list":
        return
    outside = (
        f"{config.model} reads %s, which is known of the lists alone, and --protocol {config.protocol} ranks other "
        "entities: leave it out of the head, or choose another --protocol"
    )
    _score(model, protocols.unlisted(ranking, table), row, outside)
    if ranking.among == "all":
        _embed(model, table, row, outside)


def _score(model: Head, table: Table, row: Tensor, otherwise: str) -> None:
    entities, places = torch.unique(table.candidates[row.to(table.device)].clamp(min=0), return_inverse=True)
    try:
        ranking.rank(model, Split(table, row, entities.long().cpu(), places), World())
    except KeyError as error:
        raise _named(error, otherwise) from None


def _embed(model: Head, table: Table, row: Tensor, otherwise: str) -> None:
    towers = whole_kb.towers_of(model.eval(), table)
    try:
        towers.mentions(row), towers.entities(torch.zeros(1, dtype=torch.int64))
    except KeyError as error:
        raise _named(error, otherwise) from None


def _named(error: KeyError, otherwise: str) -> Exception:
    """Return the error that names the column; one of another key is the head's author's, with its traceback."""
    return UntrainableError(otherwise % error.args[0]) if error.args[0] in COLUMNS else error
