"""What a run leaves on disk: a checkpoint and the ranks on test per finished seed, and the seeds in training.

All are safetensors files; their metadata says of which config, cache and code they are. A seed that is finished under
the same three is not trained again, one that is half done is continued, and others are refused.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from cache import store
from common.errors import ConfigError

UNFINISHED = "unfinished.safetensors"
Half = tuple[dict[str, Tensor], dict[str, Any]]  # tensors and description of seeds half done


def code(*more: Path) -> str:
    """Return a hash of the trainer's source and of `more` files: numbers of other code are other numbers."""
    found = hashlib.sha256()
    for path in (*sorted(Path(__file__).parent.rglob("*.py")), *more):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def save(path: Path, tensors: dict[str, Tensor], about: dict[str, Any], what: dict[str, Any]) -> None:
    """Write tensors with the run's identity `about` and their own description `what`, whole or not at all."""
    metadata = {"about": json.dumps(about), "what": json.dumps(what)}
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    store.publish(path, to_safetensors(held, metadata), replace=True)


def describe(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the identity of a checkpoint's run and its description.  Raises ConfigError."""
    return _read(path, tensors=False)[1:]


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Return the tensors of a checkpoint, the identity of its run, and its description.  Raises ConfigError."""
    return _read(path, tensors=True)


def _read(path: Path, *, tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            names = file.keys() if tensors else ()
            return {n: file.get_tensor(n) for n in names}, json.loads(metadata["about"]), json.loads(metadata["what"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{path} is not a checkpoint of melcache ({error}). Remove it, or train with --fresh"
        ) from None


class Checkpoints:
    """The checkpoints of one run folder.  `about` identifies the run; see `identity`."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self._about = folder, about

    def tidy(self, *, fresh: bool) -> None:
        """Remove what a killed process left behind, and with `fresh` all that was trained."""
        store.sweep(self.folder)
        if fresh:
            known = (self.folder / name for name in ("results.json", "metrics.jsonl"))
            for path in (*self._files(), *known, *self.folder.glob("ranks-*.safetensors")):
                path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise ConfigError if the folder holds checkpoints of another run: nothing is replaced unasked."""
        for path in self._files():
            about = describe(path)[0]
            differ = [name for name in about.keys() | self._about.keys() if about.get(name) != self._about.get(name)]
            if differ:
                raise self._foreign(path, _named(sorted(differ), about, self._about))

    def finished(self) -> dict[int, dict[str, Any]]:
        """Return what is known of the finished seeds."""
        found = (describe(path)[1] for path in self.folder.glob("seed-*.safetensors"))
        return {result["seed"]: result for result in found}

    def keep_ranks(self, seed: int, ranks: dict[str, Tensor]) -> None:
        """Keep a seed's ranks on test: `rows` (n,) of mentions, and `better`, `tied` as metrics.ranks gives them."""
        save(self.folder / f"ranks-{seed}.safetensors", ranks, self._about, {"seed": seed})

    def finish(self, result: dict[str, Any], state: dict[str, Tensor]) -> None:
        """Keep a seed's result and the weights of its best epoch."""
        save(self.folder / f"seed-{result['seed']}.safetensors", state, self._about, result)

    def unfinished(self, seeds: tuple[int, ...]) -> Half | None:
        """Return tensors and description of those of `seeds` that are half done, or None.

        Raises ConfigError if others are.
        """
        path = self.folder / UNFINISHED
        if not path.exists():
            return None
        tensors, _, what = load(path)
        if set(what["seeds"]) <= self.finished().keys():  # killed before it could be removed
            return None
        if not set(what["seeds"]) <= set(seeds):
            raise self._foreign(path, f"seeds {_listed(what['seeds'])}, now {_listed(seeds)}")
        return tensors, what

    def keep(self, tensors: dict[str, Tensor], what: dict[str, Any]) -> None:
        """Keep seeds that are half done."""
        save(self.folder / UNFINISHED, tensors, self._about, what)

    def drop(self) -> None:
        """Remove the half-done seeds, now finished."""
        (self.folder / UNFINISHED).unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [path for path in (self.folder / UNFINISHED, *self.folder.glob("seed-*.safetensors")) if path.exists()]

    def _foreign(self, path: Path, differ: str) -> ConfigError:
        return ConfigError(
            f"{path} is of another run: {differ}. Take what it was trained with, another --run, or replace it with "
            "--fresh (make: RUN=... or ARGS=--fresh)"
        )


def _listed(seeds: Sequence[int]) -> str:
    return ",".join(map(str, seeds))


def _named(differ: list[str], theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """Return the first differences as people say them: epochs 30, now 10."""
    if "cache_id" in differ:
        moved = " and mentions stand in other splits" if "split" in differ and "split" in theirs else ""
        ids = f"id {str(theirs.get('cache_id'))[:16]}..., now {ours['cache_id'][:16]}..."
        return f"the cache has changed since ({ids}){moved}"
    plain = [name for name in differ if name in theirs and name in ours and len(str(theirs[name])) <= 30]
    return ", ".join(
        f"{name} {theirs[name]}, now {ours[name]}" if name in plain else f"other {name}" for name in differ[:4]
    )
