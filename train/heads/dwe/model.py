"""DWE from its paper (Song et al. 2024): the mention, enhanced by its sentence and its picture, against entity texts.

    unit(x, Y)      LayerNorm(x + attention of x over Y)
    refined         unit(objects, attributes of faces and scene)         attribute-enhanced
    vision, text    unit(mention, refined), unit(mention, tokens)        vision- and text-enhanced
    query           W (mention + sum over both units u of sigmoid(W_u [mention; u] + b_u) * u) + b

Only a summary of the paper is to be had. Read here so: vectors are CLIP's as they are, with no layer before the units;
the attributes of an object are those of all faces and of the scene; heads, dropout and the weights of the losses (1 to
10) are the code's; each number of a unit has a gate; a unit over nothing adds nothing. The alignment loss compares what
attention brings, before the residual (with the mention on both sides there is nothing to learn), and has whole picture
and whole sentence read as sets of one.
"""

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.heads.dwe.config import DweConfig
from train.heads.dwe.fusion import Gated
from train.heads.dwe.matching import Matching, attributes_of, objects_of
from train.layers.attention import Attention
from train.layers.losses import counted
from train.layers.pair_losses import against, info_nce, pair_triplet, pick
from train.layers.products import cosine_scores


class Unit(nn.Module):
    """Cross-attention with residual and LayerNorm: (B, Q, P), (B, K, P), there (B, K) -> (B, Q, P) twice.

    The second is what attention alone brought.
    """

    def __init__(self, config: DweConfig) -> None:
        super().__init__()
        self.attention = Attention(config.joint_width, config.attention_heads)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.joint_width)

    def forward(self, questions: Tensor, vectors: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        brought = self.attention(questions, vectors, there)
        return self.norm(questions + self.dropout(brought)), brought


class Dwe(Matching):
    """The head.  `model(batch)` -> scores (B, C), cosines; padding is -inf."""

    def __init__(self, config: DweConfig) -> None:
        super().__init__(config.entity_text)
        self.config = config
        if config.refine:
            self.attributes = Unit(config)
        self.vision, self.text = Unit(config), Unit(config)
        self.fusion = Gated(config.joint_width)
        self.out = nn.Linear(config.joint_width, config.joint_width)
        nn.init.xavier_uniform_(self.out.weight)

    def embed(self, batch: Batch) -> Tensor:
        """Return the queries (B, P)."""
        return self._query(batch)[0]

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the triplet loss of scores (B, C), ()."""
        values = scores.detach() if self.config.negative == "hardest" else torch.rand_like(scores)
        other = pick(values, batch.gold, batch.present)
        pairs = against(scores.where(batch.present, 0), batch.gold, other)
        return pair_triplet(pairs, counted(batch.gold, batch.present), self.config.triplet_margin)

    def objective(self, batch: Batch) -> Tensor:
        """Return the triplet loss and the weighted alignment loss, ()."""
        query, *brought = self._query(batch)
        scores = cosine_scores(self.project(batch.columns), query).masked_fill(~batch.present, -torch.inf)
        ranking = self.loss(scores, batch)
        if not self.config.alignment_weight:
            return ranking
        return ranking + self.config.alignment_weight * self._alignment(batch, *brought)

    def _query(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the queries, and what attention brought from objects and tokens, (B, P) each; whose objects, (B,)."""
        mention = batch["mention.joint.mention"]
        objects, there = objects_of(batch, persons_only=self.config.persons_only)
        if self.config.refine:
            objects, _ = self.attributes(objects, *attributes_of(batch))
        tokens = batch["joint_token.joint.vector"], batch["joint_token.joint.present"]
        vision, seen = (found[:, 0] for found in self.vision(mention[:, None], objects, there))
        text, read = (found[:, 0] for found in self.text(mention[:, None], *tokens))
        seeing, reading = (some.any(1) for some in (there, tokens[1]))
        fused = self.fusion(mention, vision.where(seeing[:, None], 0), text.where(reading[:, None], 0))
        return self.out(fused), seen, read, seeing & reading

    def _alignment(self, batch: Batch, seen: Tensor, read: Tensor, fine: Tensor) -> Tensor:
        """Return InfoNCE of the wholes (picture, sentence) and of the parts (objects, tokens), as the units read them.

        Attention over a whole, a set of one, is `readout`.
        """
        scale = 1 / self.config.alignment_temperature
        whole = self.vision.attention.readout(batch["mention.joint.image"])
        sentence = self.text.attention.readout(batch["mention.joint.mention_sentence"])
        counts = counted(batch.gold, batch.present)
        coarse = info_nce(whole, sentence, counts & batch["mention.joint.present"], scale)
        return coarse + info_nce(seen, read, counts & fine, scale)
