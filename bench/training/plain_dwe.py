"""DWE's heads as a plain PyTorch program: torch's own attention, every vector projected, every candidate scored."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.data.batch import Batch
from train.heads.dwe.config import DweConfig
from train.heads.dwe.matching import attributes_of, objects_of
from train.heads.dwe.model import Dwe
from train.heads.dwe_authors.model import NORM_WEIGHT, DweAuthors
from train.layers.attention import Attention, Readout
from train.layers.losses import counted
from train.layers.pair_losses import against, info_nce, n_pair, pair_triplet, squares


class Plain(nn.Module):
    """A head's equations as they stand, with its weights: `plain(batch)` scores, `plain.objective(batch)` the loss."""

    def __init__(self, head: Dwe | DweAuthors) -> None:
        super().__init__()
        self.head = head
        self.dwe = isinstance(head.config, DweConfig)
        if self.dwe:
            units = ("attributes", "vision", "text") if head.config.refine else ("vision", "text")
            self.attentions = nn.ModuleDict({unit: _torchs(getattr(head, unit).attention) for unit in units})
        elif hasattr(head, "attention"):
            self.attentions = nn.ModuleDict({"vision": _torchs(head.attention)})
            if not head.config.shared_attention:
                self.attentions["text"] = _torchs(head.attention, head.text_attention)

    def forward(self, batch: Batch) -> Tensor:
        """Return scores (B, C)."""
        return self._scores(self._read(batch)[0], batch)

    def objective(self, batch: Batch) -> Tensor:
        """Return the loss, ()."""
        query, coarse, fine = self._read(batch)
        head, scores, counts = self.head, self._scores(query, batch), counted(batch.gold, batch.present)
        scale = 1 / head.config.alignment_temperature if self.dwe else head.log_scale.exp()
        coarse = info_nce(*coarse[:2], counts & coarse[2], scale)
        aligned = coarse + info_nce(*fine[:2], counts & fine[2], scale)
        if self.dwe:
            return head.loss(scores, batch) + head.config.alignment_weight * aligned
        entities, other = head.project(batch.columns), head._negative(batch)
        if head.config.ranking_loss == "triplet":
            ranking = pair_triplet(against(scores, batch.gold, other), counts, head.config.triplet_margin)
        else:
            gold, negative = against(entities, batch.gold, other).unbind(1)
            every = negative[:, None] if head.config.negatives == "own" else negative.expand(len(negative), -1, -1)
            differences = ((every - gold[:, None]) @ query[..., None])[..., 0]
            if head.config.negatives == "batch":
                differences = differences.masked_fill(~counts, -torch.inf)
            ranking = n_pair(differences, counts) + NORM_WEIGHT * (squares(query, counts) + squares(gold, counts))
        return head.config.ranking_weight * ranking + head.config.alignment_weight * aligned

    def _scores(self, query: Tensor, batch: Batch) -> Tensor:
        entities = self.head.project(batch.columns)
        return functional.cosine_similarity(query[:, None], entities, dim=-1).masked_fill(~batch.present, -torch.inf)

    def _attend(self, unit: str, questions: Tensor, vectors: Tensor, there: Tensor) -> Tensor:
        """Return attention as torch computes it; over an empty set, which is NaN there, zeros."""
        empty = ~there.any(1)
        attention = self.attentions[unit if unit in self.attentions else "vision"]
        found = attention(questions, vectors, vectors, key_padding_mask=~(there | empty[:, None]))[0]
        return found.masked_fill(empty[:, None, None], 0)

    def _read(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the query, and what the alignment loss compares: whole pictures, and parts."""
        return self._read_dwe(batch) if self.dwe else self._read_authors(batch)

    def _read_dwe(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        head, mention = self.head, batch["mention.joint.mention"]
        objects, there = objects_of(batch, persons_only=head.config.persons_only)
        if head.config.refine:
            brought = self._attend("attributes", objects, *attributes_of(batch))
            objects = head.attributes.norm(objects + head.attributes.dropout(brought))
        tokens = batch["joint_token.joint.vector"], batch["joint_token.joint.present"]
        parts, units = [], []
        for name, vectors, mask in (("vision", objects, there), ("text", *tokens)):
            unit, brought = getattr(head, name), self._attend(name, mention[:, None], vectors, mask)[:, 0]
            parts.append(brought)
            units.append(unit.norm(mention + unit.dropout(brought)) * mask.any(1)[:, None])
        one = torch.ones_like(there[:, :1])
        wholes = [("vision", batch["mention.joint.image"]), ("text", batch["mention.joint.mention_sentence"])]
        coarse = [self._attend(name, mention[:, None], whole[:, None], one)[:, 0] for name, whole in wholes]
        seeing = there.any(1) & batch["joint_token.joint.present"].any(1)
        pictured = batch["mention.joint.present"]
        return head.out(head.fusion(mention, *units)), (*coarse, pictured), (*parts, seeing)

    def _read_authors(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        head = self.head
        objects, there = objects_of(batch, persons_only=head.config.persons_only)
        there = there if head.config.mask_padding else torch.ones_like(there)
        texts = [batch[f"mention.joint.{name}"] for name in ("mention", "mention_sentence")]
        views = dict(zip(("mention", "sentence"), map(head.text_trans, texts), strict=True))
        views["image"] = head.img_trans(batch["mention.joint.image"])
        attend = functools.partial(self._attend, questions=views["mention"][:, None])
        views["vision"] = attend("vision", vectors=head.img_trans(objects), there=there)[:, 0]
        views["text"] = attend("text", vectors=views["sentence"][:, None], there=torch.ones_like(there[:, :1]))[:, 0]
        query = head.out(head.fusion(*(views[name] for name in head.fusion.reads)))
        seeing = there.any(1)
        every = torch.ones_like(seeing)
        return query, (views["image"], views["sentence"], every), (views["vision"], views["text"], seeing)


def _torchs(ours: Attention, readout: Readout | None = None) -> nn.MultiheadAttention:
    """Return torch's attention with our weights."""
    readout = readout or ours.readout
    width = ours.key.weight.shape[0]
    theirs = nn.MultiheadAttention(width, ours.heads, batch_first=True, dtype=ours.key.weight.dtype)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, readout.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.zeros(width), readout.value.bias]))
        theirs.out_proj.load_state_dict(readout.out.state_dict())
    return theirs
