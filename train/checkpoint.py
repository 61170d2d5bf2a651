"""What a run leaves on disk: a checkpoint per finished seed, and one of the seeds that are in training.

Both are safetensors files; their metadata says of which config, cache and code they are. A seed that is finished under
the same three is not trained again, one that is half done is continued.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from cache import store
from common.errors import ConfigError

UNFINISHED = "unfinished.safetensors"
Half = tuple[dict[str, Tensor], dict[str, Any]]  # tensors and description of seeds half done


def code() -> str:
    """Return a hash of the trainer's source: numbers of other code are other numbers."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
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
            for path in (*self.folder.glob("seed-*.safetensors"), self.folder / UNFINISHED):
                path.unlink(missing_ok=True)

    def finished(self, seed: int) -> dict[str, Any] | None:
        """Return what is known of a finished seed, or None; one of another run will be replaced."""
        path = self.folder / f"seed-{seed}.safetensors"
        if not path.exists():
            return None
        about, what = describe(path)
        return what if about == self._about else None

    def finish(self, result: dict[str, Any], state: dict[str, Tensor]) -> None:
        """Keep a seed's result and the weights of its best epoch."""
        save(self.folder / f"seed-{result['seed']}.safetensors", state, self._about, result)

    def unfinished(self, seeds: tuple[int, ...]) -> Half | None:
        """Return tensors and description of those of `seeds` that are half done, or None.

        Raises ConfigError if what is half done belongs to another run.
        """
        path = self.folder / UNFINISHED
        if not path.exists():
            return None
        tensors, about, what = load(path)
        ours, theirs = self._about | {"seeds": list(seeds)}, about | {"seeds": what["seeds"]}
        differ = [name for name in about.keys() | self._about.keys() if about.get(name) != self._about.get(name)]
        if not differ and all(self.finished(seed) for seed in what["seeds"]):  # killed before it could be removed
            return None
        if not set(what["seeds"]) <= set(seeds):
            differ.append("seeds")
        if differ:
            raise ConfigError(
                f"{path} is half a training with another {_named(sorted(differ), theirs, ours)}. Finish it with "
                "the options it was started with, start over with --fresh, or take another --run"
            )
        return tensors, what

    def keep(self, tensors: dict[str, Tensor], what: dict[str, Any]) -> None:
        """Keep seeds that are half done."""
        save(self.folder / UNFINISHED, tensors, self._about, what)

    def drop(self) -> None:
        """Remove the half-done seeds, now finished."""
        (self.folder / UNFINISHED).unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove seeds of an earlier, other run."""
        for path in self.folder.glob("seed-*.safetensors"):
            if describe(path)[0] != self._about:
                path.unlink()


def _named(differ: list[str], theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """Return the first differences as people say them: epochs (30, now 10)."""
    plain = [name for name in differ if name in theirs and name in ours and len(str(theirs[name])) <= 30]
    return ", ".join(f"{name} ({theirs[name]}, now {ours[name]})" if name in plain else name for name in differ[:4])
