"""What a run leaves on disk: a checkpoint, the ranks on test and the scores of each seed, and the seeds in training.

All are safetensors files; their metadata says of which config, cache and code they are, and holds checksums (see
run_files). A seed that is finished under the same three is not trained again, one that is half done is continued, and
others are refused.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from cache import fingerprint, store
from common import devices, paths
from common.errors import ConfigError
from common.output import size
from train.config import KS
from train.evaluating.metrics import NEVER, top_k_hits
from train.run_folder import run_files, run_schema
from train.run_folder.run_files import UNFINISHED, Layout, TensorFile

DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.int64: "I64",
    torch.float64: "F64",
}
CPU = torch.device("cpu")
MAX_ENTITIES = 1 << 28  # of a cache whose entities are all ranked (whole_kb.nearest); ranks beyond would take memory
TYPES = {name: dtype for dtype, name in DTYPES.items()}


@dataclass(frozen=True)
class Half:
    """Seeds half done: the file that holds their tensors, and its description (run_schema.half_done)."""

    path: Path
    what: dict[str, Any]


def layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    """Return type and shape of each tensor by name."""
    return {name: (DTYPES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}


def save(path: Path, tensors: Mapping[str, Tensor], about: dict[str, Any], what: dict[str, Any]) -> None:
    """Write tensors with the run's identity `about` and their own description `what`, whole or not at all."""
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    sums = {name: fingerprint.checksum(_bytes(tensor)) for name, tensor in held.items()}
    metadata = run_files.metadata(about, what, layout_of(held), sums)
    store.publish(path, to_safetensors(held, metadata), replace=True)


def load(
    path: Path, wanted: Callable[[TensorFile], Layout]
) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Return the tensors of a checkpoint, the identity of its run, and its description.

    `wanted` says of the open file which tensors it must have; memory is taken after it has. Raises ConfigError.
    """
    with run_files.open_tensors(path) as file:
        run_schema.identity(file.about)
        fitting(file, wanted(file))
        needed, free = sum(tensor.stop - tensor.begin for tensor in file.stored.values()), devices.free_memory(CPU)
        if needed > free:
            raise ConfigError(f"it holds {size(needed)}, but only {size(free)} of memory are free")
        tensors = {name: _tensor(file, name) for name in file.stored}
        return tensors, file.about, file.what


def fitting(file: TensorFile, wanted: Layout) -> None:
    """Raise ConfigError unless a file has just the tensors wanted."""
    if lost := sorted(wanted.keys() - file.layout.keys()):
        raise ConfigError(f"it lacks {lost[0]}")
    for name, (dtype, shape) in file.layout.items():
        if wanted.get(name) != (dtype, shape):
            expected = "none of that name" if name not in wanted else "{} {}".format(*wanted[name])
            raise ConfigError(f"it holds {name} of {dtype} {list(shape)}, expected {expected}")


def ranks(folder: Path, result: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the ranks on test of a finished seed, `rows`, `better` and `tied` (n,), whose `result` is given.

    `about` names what of the run's identity must be the same. Raises ConfigError for ranks that no test can have, and
    for those of another training.
    """
    count, path = int(result["test"]["mentions"]), folder / f"ranks-{result['seed']}.safetensors"
    with run_files.naming(path):
        found, identity, what = load(path, lambda _: dict.fromkeys(("rows", "better", "tied"), ("I64", (count,))))
        _check_ranks(found)
        alike = all(identity.get(name) == value for name, value in about.items())
        if not alike or what.get("seed") != result["seed"] or not _gives(found, result["test"]):
            raise ConfigError("it holds ranks of another training than the results beside it")
    return found


class Checkpoints:
    """The checkpoints of one run folder.  `about` identifies the run; see `identity`."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self._about = folder, about

    def tidy(self, *, fresh: bool) -> None:
        """Remove what a killed process left behind, and with `fresh` all that was trained."""
        store.sweep(self.folder)
        if fresh:
            ranked = [run_files.names(self.folder, kind) for kind in (run_files.RANKS, run_files.SCORES)]
            known = (self.folder / name for name in (run_files.RESULTS, run_files.CURVES))
            for path in (*self._files(), *known, *(path for found in ranked for path in found.values())):
                run_files.remove(path)

    def check(self) -> None:
        """Raise ConfigError if the folder holds checkpoints of another run: nothing is replaced unasked."""
        for path in self._files():
            with run_files.open_tensors(path) as file:
                about = run_schema.identity(file.about)
            differ = [name for name in about.keys() | self._about.keys() if about.get(name) != self._about.get(name)]
            if differ:
                raise self._foreign(path, _named(sorted(differ), about, self._about))

    def finished(self, layout: Layout | None = None) -> dict[int, dict[str, Any]]:
        """Return the results of the finished seeds.

        With the `layout` of the head's weights, these are compared with it and with their checksums first, and so are
        the ranks and scores beside them. Raises ConfigError for what is damaged or is no result.
        """
        found = {}
        ranked, scored = (
            run_files.names(self.folder, kind) if layout is not None else {}
            for kind in (run_files.RANKS, run_files.SCORES)
        )
        for seed, path in run_files.names(self.folder, run_files.SEED).items():
            with run_files.open_tensors(path) as file:
                run_schema.identity(file.about)
                found[seed] = run_schema.seed_result(file.what)
                if found[seed]["seed"] != seed:
                    raise ConfigError(f"it is of seed {found[seed]['seed']}")
                if layout is not None:
                    fitting(file, layout)
                    file.verify()
            if seed in ranked:
                ranks(self.folder, found[seed], self._about)
            if seed in scored:
                with run_files.open_tensors(scored[seed]) as file:
                    file.verify()
                    if file.about != self._about or file.what != {"seed": seed}:
                        raise ConfigError("it holds scores of another training")
        return found

    def keep_ranks(self, seed: int, ranks: dict[str, Tensor]) -> None:
        """Keep a seed's ranks on test: `rows` (n,) of mentions, and `better`, `tied` as metrics.ranks gives them."""
        save(self.folder / f"ranks-{seed}.safetensors", ranks, self._about, {"seed": seed})

    def keep_scores(self, seed: int, scores: dict[str, Tensor]) -> None:
        """Keep a seed's scores on valid and test: of each split what ranking.kept returns, as `test.rows` and so on."""
        save(self.folder / f"scores-{seed}.safetensors", scores, self._about, {"seed": seed})

    def finish(self, result: dict[str, Any], state: dict[str, Tensor]) -> None:
        """Keep a seed's result and the weights of its best epoch."""
        save(self.folder / f"seed-{result['seed']}.safetensors", state, self._about, result)

    def unfinished(self, seeds: tuple[int, ...]) -> Half | None:
        """Return those of `seeds` that are half done, or None.  Raises ConfigError if others are."""
        path = self.folder / UNFINISHED
        if not paths.exists(path):
            return None
        with run_files.open_tensors(path) as file:
            what = run_schema.half_done(file.what)
        if set(what["seeds"]) <= self.finished().keys():  # killed before it could be removed
            return None
        if not set(what["seeds"]) <= set(seeds):
            raise self._foreign(path, f"seeds {_listed(what['seeds'])}, now {_listed(seeds)}")
        return Half(path, what)

    def keep(self, tensors: dict[str, Tensor], what: dict[str, Any]) -> None:
        """Keep seeds that are half done."""
        save(self.folder / UNFINISHED, tensors, self._about, what)

    def drop(self) -> None:
        """Remove the half-done seeds, now finished."""
        run_files.remove(self.folder / UNFINISHED)

    def _files(self) -> list[Path]:
        half, seeds = self.folder / UNFINISHED, run_files.names(self.folder, run_files.SEED)
        return [*([half] if paths.exists(half) else []), *seeds.values()]

    def _foreign(self, path: Path, differ: str) -> ConfigError:
        return ConfigError(
            f"{path} belongs to another run: {differ}. Use the options it was trained with, another --run, or replace "
            "it with --fresh"
        )


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def _tensor(file: TensorFile, name: str) -> Tensor:
    data, (dtype, shape) = file.bytes_of(name), file.layout[name]
    if not len(data):
        return torch.empty(shape, dtype=TYPES[dtype])
    return torch.frombuffer(data, dtype=TYPES[dtype]).view(shape)


def _check_ranks(found: Mapping[str, Tensor]) -> None:
    """Raise ConfigError unless rows ascend and ranks are those among a number of candidates that a cache can have."""
    rows, better, tied = found["rows"], found["better"], found["tied"]
    lost = better == NEVER
    fit = (better >= 0) & (tied >= 0) & (better < MAX_ENTITIES) & (tied < MAX_ENTITIES) | lost & (tied == 0)
    if not fit.all() or (len(rows) and int(rows[0]) < 0) or not (rows[1:] > rows[:-1]).all():
        raise ConfigError("it holds ranks that no test can have")


def _gives(found: Mapping[str, Tensor], test: Mapping[str, float]) -> bool:
    """Whether ranks have the Top-k, the mean rank and the recall that a result says."""
    if not len(found["rows"]):
        return True
    better, tied = found["better"], found["tied"]
    there = better < NEVER
    own = {f"top{k}": top_k_hits(better, tied, k).mean() for k in KS} | {"recall": there.double().mean()}
    own["mean_rank"] = (2 * better + tied + 2)[there].double().mean() / 2 if there.any() else torch.tensor(0.0)
    return all(math.isclose(float(value), test[name], rel_tol=1e-9, abs_tol=1e-9) for name, value in own.items())


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
        f"{name} {theirs[name]}, now {ours[name]}" if name in plain else f"other {name[:40]}" for name in differ[:4]
    )
