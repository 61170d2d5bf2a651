"""`melcache costs`: parameters and floating-point operations of each head, which DRIN 5.5 estimates; and of encoders.

Counted on one batch of the cache, at its widths and list length: 2 for each multiplication and its addition in products
of matrices and vectors, attention and norms. Activations, masks and sums are left out.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from cache import Reader
from cache.checks import diff
from cache.kinds import KINDS, ROLES, Role
from common.errors import CacheError
from common.output import table
from train.config import TrainConfig, resolved
from train.heads.head_config import HeadConfig
from train.heads.models import build
from train.heads.registry import HEADS
from train.prepare import nothing_to_use, table_of, with_widths
from train.studies.tables import Section

Shape = tuple[int, ...]
MILLION = 1e6
DIGITS = 12  # of the sha256 of weights
LONGEST = 80  # characters of a name that a manifest notes


def count_all(reader: Reader, heads: Mapping[str, HeadConfig]) -> dict[str, Any]:
    """Return the costs of the heads (name: config) that the cache can feed, and why others are not counted."""
    counted, not_counted = [], []
    for model, head in heads.items():
        try:
            HEADS[model].require(reader, head)
        except CacheError as error:
            not_counted.append({"head": model, "reason": str(error)})
        else:
            counted.append({"head": model, **count(reader, model, head)})
            if estimate := HEADS[model].estimate:
                counted[-1]["paper"] = estimate.operations(head, reader.manifest.candidates)
    return {
        "dataset": reader.manifest.dataset.name,
        "cache_id": reader.id,
        "candidates": reader.manifest.candidates,
        "heads": counted,
        "not_counted": not_counted,
    }


def count(reader: Reader, model: str, head: HeadConfig) -> dict[str, int]:
    """Return a head's parameters, and its operations per mention: `score` all candidates; `train`, gradients too.

    Both on a batch of the size that the head is trained with, on which the losses of some heads depend. Raises
    ConfigError where there is nothing to train on.
    """
    config = resolved(TrainConfig(model=model, resident="mmap"))
    head = with_widths(head, reader)
    columns = table_of(config, head, reader, torch.device("cpu"))
    rows = columns.trainable(columns.rows("train"))[: config.batch]
    if not len(rows):
        raise nothing_to_use(config, reader, columns, "train")
    batch, built = columns.batch(rows), build(model, head, with_lexical=False)
    with FlopCounterMode(display=False, custom_mapping=UNSEEN) as score:
        built.eval()(batch)  # with gradients: without them torch fuses attention into operators that nothing looks into
    with FlopCounterMode(display=False, custom_mapping=UNSEEN) as train:
        built.train().objective(batch).backward()
    return {
        "parameters": sum(parameter.numel() for parameter in built.parameters()),
        "score": score.get_total_flops() // len(rows),
        "train": train.get_total_flops() // len(rows),
        "batch": len(rows),
    }


def section(found: dict[str, Any]) -> Section:
    """Return the costs as a table."""
    rows = [
        (
            cost["head"],
            *(f"{cost[name] / MILLION:,.3f}" for name in ("parameters", "score", "train")),
            str(cost["batch"]),
        )
        for cost in found["heads"]
    ]
    return Section(("head, millions", "parameters", "to score a mention", "to train on one", "batch"), tuple(rows))


def notes(found: dict[str, Any]) -> list[str]:
    """Return what the table needs to be understood."""
    return [
        f"costs at the widths of {found['dataset']} and {found['candidates']} candidates; multiplication and addition "
        "count as two, entities as projected anew for each mention (tests project each one once)",
        *(
            f"{estimate.told} = {cost['paper'] / MILLION:,.1f} million for the graph of {cost['head']}"
            for cost in found["heads"]
            if (estimate := HEADS[cost["head"]].estimate)
        ),
        *(f"not counted: {other['head']}: {other['reason']}" for other in found["not_counted"]),
    ]


def show(found: dict[str, Any]) -> str:
    """Return the costs as text."""
    content = section(found)
    return "\n".join([table(content.header, content.rows), *notes(found)])


def _baddbmm(onto: Shape, left: Shape, right: Shape, **_: Any) -> int:
    return 2 * math.prod(left) * right[-1]


def _mv(matrix: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(matrix)


def _norm(vectors: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(vectors)


def _mul(left: Shape, right: Shape | float, out_shape: Shape, **_: Any) -> int:
    """Count a product that is larger than both factors: an outer product, which is a matrix product of width 1."""
    factors = [math.prod(factor) for factor in (left, right) if isinstance(factor, (tuple, list, torch.Size))]
    return 2 * math.prod(out_shape) if len(factors) == 2 and math.prod(out_shape) > max(factors) else 0


def _recurrent(steps: Shape, of_input: Shape, of_state: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(steps[:-1]) * (math.prod(of_input) + math.prod(of_state))


def _recurrent_backward(*shapes: Any, **_: Any) -> int:
    return 2 * _recurrent(*shapes)


# operators that torch's counter passes over
UNSEEN = {
    torch.ops.aten.baddbmm_: _baddbmm,
    torch.ops.aten.mv: _mv,
    torch.ops.aten.linalg_vector_norm: _norm,
    torch.ops.aten.mul: _mul,
    torch.ops.aten.mkldnn_rnn_layer: _recurrent,  # an LSTM on the CPU
    torch.ops.aten.mkldnn_rnn_layer_backward: _recurrent_backward,
}


def of_extractions(readers: Mapping[str, Reader]) -> list[dict[str, Any]]:
    """Return of each cache (name: reader) its name, id and bytes, and by role encoder, bytes and seconds.

    Seconds are None where they are not known. A role also says in which fields its recipe `differs` from the first
    cache's. Where two encoders of a role would look alike, digits of their weights tell them apart.
    """
    base, found = next(iter(readers.values())), []
    for name, reader in readers.items():
        roles = {role: told for role in ROLES if (told := _of_role(reader, base, role)) is not None}
        found.append({"name": name, "cache_id": reader.id, "bytes": reader.manifest.bytes, "roles": roles})
    for role in ROLES:
        told = [cache["roles"][role] for cache in found if role in cache["roles"]]
        digests = defaultdict(set)
        for one in told:
            digests[one["encoder"]].add(one["weights"])
        for one in told:
            if len(digests[one["encoder"]]) > 1:
                one["encoder"] += f", weights {one['weights'][:DIGITS]}"
    return found


def _of_role(reader: Reader, base: Reader, role: Role) -> dict[str, Any] | None:
    """Return what a cache says of a role; None where it has no part of it."""
    manifest = reader.manifest
    parts = [part for part in manifest.parts if KINDS[part].role == role]
    if not parts:
        return None
    taken = [manifest.provenance.seconds_of(part, manifest.tables[part.table]) for part in parts]
    known = [seconds for seconds in taken if seconds is not None]
    both = [(manifest.parts[part], base.manifest.parts[part]) for part in parts if part in base.manifest.parts]
    fields = dict.fromkeys(field for now, then in both for field, *_ in diff.changes(now, then))
    told = [field for field in fields if not field.startswith("columns.")]  # those follow from others, if any
    recipe = manifest.parts[parts[0]].recipe.get("encoder")
    encoder = recipe if isinstance(recipe, Mapping) else {}
    noted = manifest.provenance.noted.get("encoders")
    name = noted.get(role) if isinstance(noted, Mapping) else None
    return {
        "encoder": _called(encoder, name if isinstance(name, str) else "", _width(manifest.parts[parts[0]].recipe)),
        "weights": str(encoder.get("weights", "-")),
        "differs": told or list(fields),
        "seconds": round(sum(known), 2) if len(known) == len(parts) else None,
        "bytes": sum(shard.bytes for shard in manifest.shards if shard.part in parts),
    }


def _called(encoder: Mapping[str, Any], name: str, width: int | None) -> str:
    """Return an encoder in a few words: its name on the Hub, else class and architecture; its width; whether random."""
    own = [encoder[key] for key in ("encoder", "architecture") if isinstance(encoder.get(key), str)]
    words = [name.partition("@")[0][:LONGEST]] if name else own
    words += [f"{width} wide"] if width else []
    weights = encoder.get("weights")
    kind = weights.partition(",")[0] if isinstance(weights, str) else ""
    return ", ".join([*words, *([kind] if kind.startswith("random-") else [])]) or "-"


def _width(recipe: Mapping[str, Any]) -> int | None:
    """Return the width of the vectors of a part, None where its recipe tells none."""
    columns = recipe.get("columns")
    specs = columns.values() if isinstance(columns, Mapping) else ()
    shapes = [spec.get("shape") for spec in specs if isinstance(spec, Mapping)]
    return next((shape[-1] for shape in shapes if isinstance(shape, list) and len(shape) == 1), None)
