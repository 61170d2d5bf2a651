"""The head of any finished run, with the weights of one of its seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import Reader
from common.errors import ConfigError
from common.options import from_json
from train.heads.base import Head
from train.heads.head_config import HeadConfig
from train.heads.models import build
from train.heads.registry import HEADS
from train.heads.with_lexical import WithLexical
from train.heads.with_objective import WithObjective
from train.optimizing import checkpoint
from train.optimizing.head_weights import weights_of
from train.prepare import with_widths
from train.run_folder import run_files, run_schema
from train.run_folder.run_files import Layout, TensorFile

MOST = 1 << 24  # of a head's sizes, as of a column's width


@dataclass(frozen=True)
class Trained:
    """A head as seed `seed` of a run left it at its best epoch; `about` is the run's identity (train/run.py)."""

    model: Head
    config: HeadConfig
    seed: int
    about: dict[str, Any]

    @property
    def inside(self) -> Head:
        """The head itself, without what --with-lexical and --objective put around it."""
        head = self.model
        while isinstance(head, WithLexical | WithObjective):
            head = head.head
        return head


def seed_file(run: Path, seed: int | None = None) -> Path:
    """Return the file of a run's seed, of its first where none is named.  Raises ConfigError where there is none."""
    found = run_files.names(run, run_files.SEED)
    seed = min(found, default=None) if seed is None else seed
    if seed is None or seed not in found:
        which = "" if seed is None else f" {seed}"
        raise ConfigError(
            f"{run} holds no finished seed{which}; a run of `melcache train` that has weights writes seed-*.safetensors"
        )
    return found[seed]


def identity_of(path: Path) -> dict[str, Any]:
    """Return the identity of the run of a seed's file."""
    with run_files.open_tensors(path) as file:
        return run_schema.identity(file.about)


def of_run(run: Path, results: Mapping[str, Any] | None, reader: Reader, seed: int | None = None) -> Trained:
    """Return the head of a run's seed as `load` does, of the training that its results.json, if there, tells of.

    Raises ConfigError for the file of another one.
    """
    path = seed_file(run, seed)
    if results is not None:
        told = {f"seed-{one['seed']}.safetensors": one for one in results["seeds"]}
        with run_files.open_tensors(path) as file:
            alike = all(file.about.get(name) == results[name] for name in ("model", "cache_id"))
            if not alike or told.get(path.name) != file.what:
                raise ConfigError("it is of another training than the results beside it")
    return load(path, reader)


def load(path: Path, reader: Reader) -> Trained:
    """Return the head that a seed's file holds, whose widths must be the cache's.

    Raises ConfigError for a damaged file, weights that are not finite, and a head of one's own that is not known here.
    """

    def wanted(file: TensorFile) -> Layout:
        head = _config(file.about)
        if head != with_widths(head, reader) or not _bounded(head) or getattr(head, "layers", 0) > len(file.stored):
            raise ConfigError("it is not of a head that this cache can feed")
        return weights_of(file.about["model"], head, **_around(file.about))

    tensors, about, what = checkpoint.load(path, wanted)
    if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise ConfigError(f"{path} holds numbers of {broken[0]} that are not finite. Train it with --fresh")
    head = _config(about)
    model = build(about["model"], head, **_around(about))
    model.load_state_dict(tensors)
    return Trained(model.eval(), head, run_schema.seed_result(what)["seed"], about)


def _config(about: dict[str, Any]) -> HeadConfig:
    model = about["model"]
    entry = HEADS.get(model)
    if entry is None or entry.config is None:
        raise ConfigError(f"it is of the head {model:.60}, which melcache does not have: name its file")
    own = {name.removeprefix(f"{model}."): value for name, value in about.items() if name.startswith(f"{model}.")}
    return from_json(entry.config, own)


def _bounded(head: HeadConfig) -> bool:
    """Whether no size of a head is one that would take the memory before its weights are looked at."""
    sizes = (value for value in vars(head).values() if type(value) is int)
    return all(abs(size) < MOST for size in sizes)


def _around(about: dict[str, Any]) -> dict[str, Any]:
    return {"with_lexical": about["with_lexical"], "objective": about.get("objective", "own")}
