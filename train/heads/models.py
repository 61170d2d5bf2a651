"""The network of each trained head, and how one is built."""

from collections.abc import Iterator, Mapping

from train.config import TrainConfig
from train.heads.base import Head
from train.heads.head_config import HeadConfig
from train.heads.registry import HEADS
from train.heads.with_lexical import WithLexical
from train.heads.with_objective import MARGIN, WithObjective


class Models(Mapping[str, type[Head]]):
    """The classes of the networks by the names of their heads, each imported when it is asked for."""

    def __getitem__(self, name: str) -> type[Head]:
        if not HEADS[name].network:
            raise KeyError(name)
        return HEADS[name].model()

    def __iter__(self) -> Iterator[str]:
        return (name for name, entry in HEADS.items() if entry.network)

    def __len__(self) -> int:
        return sum(1 for _ in self)


MODELS = Models()


def build(name: str, config: HeadConfig, *, with_lexical: bool, objective: str = "own", hardest: int = 0) -> Head:
    """Return a new head, its weights drawn from torch's generator; the rest as TrainConfig has it."""
    head = MODELS[name](config)
    if objective != "own":
        head = WithObjective(head, name, objective, hardest, getattr(config, "margin", MARGIN))
    return WithLexical(head) if with_lexical else head


def built(config: TrainConfig, head: HeadConfig) -> Head:
    """Return a new head as a run trains it."""
    lexical, objective, hardest = config.with_lexical, config.objective, config.hardest
    return build(config.model, head, with_lexical=lexical, objective=objective, hardest=hardest)
