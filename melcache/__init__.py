"""melcache from Python: open a cache, train heads on it, link with them.  docs/api.md shows each name at work.

Nothing is imported before it is asked for: `import melcache` takes milliseconds, and only what trains needs torch.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.checks.verify import verify
    from cache.reader import Reader, open
    from common.errors import MelcacheError
    from link.linker import Linker
    from link.records import Link, NewMention
    from melcache.frames import to_pandas
    from melcache.torch_dataset import Mentions
    from train.config import TrainConfig
    from train.data.batch import make_batch
    from train.heads.drin.config import DrinConfig
    from train.heads.models import MODELS
    from train.heads.registry import HEADS
    from train.loop import fit as train

__all__ = [
    "HEADS",
    "MODELS",
    "DrinConfig",
    "Link",
    "Linker",
    "MelcacheError",
    "Mentions",
    "NewMention",
    "Reader",
    "TrainConfig",
    "make_batch",
    "open",
    "to_pandas",
    "train",
    "verify",
]
# where each name stands; the config of any head is found by the name of its class
HOMES = {
    "HEADS": "train.heads.registry:HEADS",
    "Link": "link.records:Link",
    "Linker": "link.linker:Linker",
    "MODELS": "train.heads.models:MODELS",
    "MelcacheError": "common.errors:MelcacheError",
    "Mentions": "melcache.torch_dataset:Mentions",
    "NewMention": "link.records:NewMention",
    "Reader": "cache.reader:Reader",
    "TrainConfig": "train.config:TrainConfig",
    "make_batch": "train.data.batch:make_batch",
    "open": "cache.reader:open",
    "to_pandas": "melcache.frames:to_pandas",
    "train": "train.loop:fit",
    "verify": "cache.checks.verify:verify",
}
FOLDERS = ("cache", "common", "extract", "link", "report", "serve", "train", "workers")


@contextlib.contextmanager
def ours_first() -> Iterator[None]:
    """Import melcache's folders in the block, although a train.py or cache/ of the user's comes first on the path.

    Raises ImportError where one of the user's has been imported.
    """
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for name in FOLDERS:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        theirs = spec and spec.origin
        if theirs and os.path.realpath(theirs) != os.path.realpath(os.path.join(ours, name, "__init__.py")):
            raise ImportError(f"{theirs} has the name of melcache's folder {name}: give it another name")
    sys.path.insert(0, ours)
    try:
        yield
    finally:
        sys.path.remove(ours)


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name.startswith("_"):  # what Python itself asks a module for
        raise AttributeError(f"module 'melcache' has no attribute {name!r}")
    with ours_first():
        found = _found(name)
    globals()[name] = found
    return found


def _found(name: str) -> Any:
    if name in HOMES:
        module, _, attribute = HOMES[name].partition(":")
        return getattr(import_module(module), attribute)
    if name.endswith("Config") and (found := _configs().get(name)):
        return found
    from common.words import nearest  # not above: it may be the user's common.py by then

    raise AttributeError(f"module 'melcache' has no attribute {name!r}{nearest(name, __all__)}")


def __dir__() -> list[str]:
    with ours_first():
        return sorted({*__all__, *_configs()})


def _configs() -> dict[str, type]:
    """Return the config class of each head by its name."""
    from train.heads.registry import CONFIG_CLASSES

    return {kind.__name__: kind for kind in CONFIG_CLASSES}
