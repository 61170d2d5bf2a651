"""What each column of an imported cache is, as sums over DRIN's arrays."""

from collections.abc import Mapping

import numpy as np

from cache.drin.lists import Lists
from cache.drin.release import Release
from common.errors import CacheError, NotFiniteError
from common.records import SPLITS

LARGEST = 65504.0  # of float16
LOGITS = 100.0  # CLIP's logits are cosines times this
Columns = Mapping[str, np.ndarray]


class Source:
    """The columns of each part but pair.alignment, for ascending rows (n,) of its table.

    Raises CacheError naming file and row of what is not finite or cannot be.
    """

    def __init__(self, release: Release, lists: Lists) -> None:
        self._release, self._lists = release, lists
        everyone = np.arange(release.mentions)
        # token positions in the array, which begins with [CLS] and DRIN's positions do not; half open
        self._starts, ends = (release.rows[name].take(everyone) + 1 for name in ("start-pos", "end-pos"))
        counts = [values.sum(1) for _, values in release.rows["mention-text-mask"].blocks(everyone)]
        self._counts = np.concatenate(counts).clip(1)
        self._ends = np.minimum(ends, self._counts)
        self._found = (self._starts > 0) & (self._starts < self._ends)
        self.edges = np.concatenate([[0], self._counts.cumsum()])  # token rows where each mention's begin

    def mention_ids(self, rows: np.ndarray) -> Columns:
        """Return ids made of split and row there, splits and gold."""
        borders = np.cumsum([0, *self._release.counts.values()])
        splits = np.searchsorted(borders, rows, "right") - 1
        named = [f"{SPLITS[split]}-{row - borders[split]}".encode() for split, row in zip(splits, rows, strict=True)]
        return {
            "id": np.array(named),
            "splits": (1 << splits).astype(np.uint8),
            "gold": self._lists.gold_row[rows].astype(np.int32),
        }

    def entity_ids(self, rows: np.ndarray) -> Columns:
        """Return qids, or where the arrays have none the hash of what they hold."""
        return {"id": self._lists.ids[rows]}

    def candidates(self, rows: np.ndarray) -> Columns:
        """Return the lists; string scores are 0, for there are no strings."""
        found = self._lists.candidates[rows]
        scores = {"lexical": np.zeros(found.shape, np.float32), "lexical_gold": np.zeros(len(rows), np.float32)}
        return {"candidates": found, "gold": self._lists.gold[rows], **scores}

    def mention_text(self, rows: np.ndarray) -> Columns:
        """Return the mean of the tokens under each mention (of all inner ones where none is), and [CLS]."""
        texts = self._release.rows["mention-text-feature"]
        span, cls = (np.empty((len(rows), texts.shape[1]), np.float32) for _ in range(2))
        for at, tokens in texts.blocks(rows):
            cls[at] = tokens[:, 0]
            for vectors, row, target in zip(tokens, rows[at], span[at], strict=True):
                under = vectors[self._starts[row] : self._ends[row]]
                target[:] = under.mean(0) if self._found[row] else _inner_mean(vectors[: self._counts[row]])
        for values in (span, cls):
            self._check("mention-text-feature", rows, values)
        return {"span": span, "sentence": cls, "found": self._found[rows]}

    def mention_tokens(self, rows: np.ndarray) -> Columns:
        """Return where the tokens of each mention's sentence stand in their table, and the mention among them."""
        found = self._found[rows]
        columns = {
            "first": self.edges[rows],
            "count": self._counts[rows],
            "start": np.where(found, self._starts[rows], -1),
            "end": np.where(found, self._ends[rows], -1),
        }
        return {name: values.astype(np.int32) for name, values in columns.items()}

    def token_text(self, rows: np.ndarray) -> Columns:
        """Return the tokens of the sentences, each mention's own; rows (n,) begin and end with a sentence."""
        first = int(np.searchsorted(self.edges, rows[0], "right")) - 1
        mentions = np.arange(first, int(np.searchsorted(self.edges, rows[-1], "right")))
        found = []
        for at, tokens in self._release.rows["mention-text-feature"].blocks(mentions):
            found += [vectors[: self._counts[row]] for vectors, row in zip(tokens, mentions[at], strict=True)]
            whose = np.repeat(mentions[at], self._counts[mentions[at]])
            self._check("mention-text-feature", whose, np.concatenate(found[-len(tokens) :]))
        return {"vector": np.concatenate(found)[rows[0] - self.edges[first] :][: len(rows)]}

    def entity_text(self, rows: np.ndarray) -> Columns:
        """Return [CLS] and the mean of the inner tokens (WikiMEL), or BERT's pooler output (WikiDiverse)."""
        rows, texts = self._lists.sources[rows], self._release.rows["entity-attr-feature"]
        if not self._release.by_entity:
            return {"pooler": self._check("entity-attr-feature", rows, texts.take(rows))}
        text, mean = (np.empty((len(rows), texts.shape[1]), np.float32) for _ in range(2))
        for at, tokens in texts.blocks(rows):
            counts = self._release.rows["entity-attr-mask"].take(rows[at]).sum(1).clip(1)
            text[at] = tokens[:, 0]
            mean[at] = [_inner_mean(vectors[:count]) for vectors, count in zip(tokens, counts, strict=True)]
        for values in (text, mean):
            self._check("entity-attr-feature", rows, values)
        return {"sentence": text, "mean": mean}

    def mention_image(self, rows: np.ndarray) -> Columns:
        """Return the mean over each picture's regions; a picture is there unless all is zero."""
        return self._pictures("mention-image-feature", rows)

    def entity_image(self, rows: np.ndarray) -> Columns:
        """Return each entity's picture; it is there unless all is zero."""
        return self._pictures("entity-image-feature", self._lists.sources[rows])

    def mention_regions(self, rows: np.ndarray) -> Columns:
        """Return the regions themselves."""
        values = self._release.rows["mention-image-feature"].take(rows)
        self._check("mention-image-feature", rows, values)
        return {"vector": values, "present": np.asarray(values.any((1, 2)))}

    def mention_objects(self, rows: np.ndarray) -> Columns:
        """Return scores and Eq. 11's weighted mean of unit vectors."""
        return self._objects("mention", rows)

    def entity_objects(self, rows: np.ndarray) -> Columns:
        """Return scores and Eq. 11's weighted mean of unit vectors."""
        return self._objects("entity", self._lists.sources[rows])

    def clip_edges(self, rows: np.ndarray) -> Columns:
        """Return CLIP's two edges of the lists as cosines."""
        found = {}
        for edge, name in (("text_to_image", "similarity-eimt"), ("image_to_text", "similarity-miet")):
            logits = self._release.rows[name].take(rows)[:, :-1].astype(np.float32)
            self._check(name, rows, logits)
            beyond = np.flatnonzero((np.abs(logits) > 1.01 * LOGITS).any(1))  # 1%: rounding in half precision
            if len(beyond):
                where = self._release.rows[name].where(int(rows[beyond[0]]))
                raise CacheError(f"{where}: expected CLIP's logits, cosines x 100; found {np.abs(logits).max():g}")
            found[edge] = np.clip(logits / LOGITS, -1, 1)
        return found

    def _pictures(self, name: str, rows: np.ndarray) -> Columns:
        regions = self._release.rows[name]
        image, present = np.empty((len(rows), regions.shape[1]), np.float32), np.empty(len(rows), bool)
        for at, values in regions.blocks(rows):
            image[at], present[at] = values.mean(1), values.any((1, 2))
        return {"vector": self._check(name, rows, image), "present": present}

    def _objects(self, side: str, rows: np.ndarray) -> Columns:
        name = f"{side}-object-score"
        scores = self._check(name, rows, self._release.rows[name].take(rows).astype(np.float32))
        if len(bad := np.flatnonzero((scores < 0).any(1))):
            where = self._release.rows[name].where(int(rows[bad[0]]))
            raise CacheError(f"{where} holds {scores.min():g}, expected scores of 0 or more")
        features = self._release.rows[f"{side}-object-feature"]
        summary = np.empty((len(rows), features.shape[1]), np.float32)
        for at, values in features.blocks(rows):
            lengths, weights = np.linalg.norm(values, axis=2), scores[at]
            weights = weights / np.where(lengths > 0, lengths, 1) / np.maximum(weights.sum(1, keepdims=True), 1e-12)
            summary[at] = np.einsum("nk,nkv->nv", weights, values)
        return {"scores": scores, "summary": self._check(f"{side}-object-feature", rows, summary)}

    def _check(self, name: str, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            fits = np.abs(values) <= LARGEST  # false for NaN
        if not fits.all():
            bad = int(np.argwhere(~fits)[0, 0])
            raise NotFiniteError(
                f"{self._release.rows[name].where(int(rows[bad]))}: expected finite numbers up to {LARGEST:g}, found "
                f"{values[bad][~fits[bad]].flat[0]:g}"
            )
        return values


def _inner_mean(vectors: np.ndarray) -> np.ndarray:
    """Return the mean of tokens 1..n-2, as extraction does of a text; of a text without any, its first."""
    mean: np.ndarray = vectors[1:-1].mean(0) if len(vectors) > 2 else vectors[0]
    return mean
