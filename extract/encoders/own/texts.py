"""Encoders of texts, and of texts and pictures, of the user's own: `--text FILE.py`, `--joint FILE.py`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from cache.kinds import Source
from common.errors import ConfigError
from extract.encoders import transfer
from extract.encoders.joint.base import NO_PATCHES, JointEncoder, Logits
from extract.encoders.own.encoder_file import EncoderFile
from extract.encoders.own.pictures import copies
from extract.encoders.pixels import Read, Seen
from extract.encoders.text.batches import TextEncoder
from extract.encoders.text.tokens import Tokens
from extract.encoders.transfer import Fetched

VECTORS, TOKENS = ("entity.joint", "mention.joint", "mention.crops"), ("joint_token.joint", "mention.joint_tokens")


class OwnText(TextEncoder):
    """The text encoder of a file: `tokens`, `encode`, and `pool` where the first state is not the text's vector."""

    needed = ("width", "limit", "tokens", "encode")

    def __init__(self, file: EncoderFile, batch: int) -> None:
        super().__init__(file.compute, batch)
        self._file, self.name = file, file.path.name
        self.width, self.most = file.number("width"), file.number("limit")
        self.recipe = file.recipe(f"{batch} texts of one shard in order of length")
        self.tokens_recipe = file.tokens_recipe()

    def tokens(self, text: str, limit: int, source: Source = "sentence") -> Tokens:
        """Return the tokens of a text, cut at `limit` and at the encoder's own limit; a cut text keeps its last one."""
        side = "entity" if source == "name" else "mention"
        given = self._file.several(self._file.call("tokens", text, side), "tokens", 2)
        ids = self._file.whole(given[0], "tokens", (None,)).tolist()
        offsets = self._file.whole(given[1], "tokens", (None, 2) if ids else (None,)).tolist()
        if not ids or len(ids) != len(offsets):
            raise self._file.wrong("tokens", "as many ids as offsets, one at least", f"{len(ids)} and {len(offsets)}")
        most = min(limit, self.most)
        cut = len(ids) > most
        if cut:
            ids, offsets = [*ids[: most - 1], ids[-1]], [*offsets[: most - 1], offsets[-1]]
        spans = [(start, end) for start, end in offsets]
        own = [i for i, (start, end) in enumerate(spans) if end > start]
        inner = (own[0], own[-1] + 1) if own else (0, len(spans))
        return Tokens(ids, spans, inner, cut)

    def begun(self, ids: np.ndarray, mask: np.ndarray) -> Fetched:
        """Return what encode gives of ids and mask (b, T)."""
        return transfer.fetch(self._file.array("encode", (*ids.shape, self.width), *self._sent(ids, mask)))

    def pooled(self, states: np.ndarray, tokens: Tokens) -> np.ndarray:
        """Return what pool gives of the states (T, D) of a text, or the first of them."""
        # a copy: what it writes there would be stored as the tokens'
        return self._file.array("pool", (self.width,), states.copy()) if self._file.has("pool") else states[0]


class OwnJoint(JointEncoder):
    """The joint encoder of a file: `encode_images`, `encode_texts`, and `encode_tokens` beside `count_tokens`."""

    needed = ("width", "encode_images", "encode_texts")

    def __init__(self, file: EncoderFile, text_batch: int, image_batch: int) -> None:
        super().__init__(file.compute, text_batch, image_batch)
        self._file, self.name = file, file.path.name
        self.width = file.number("width")
        self.logits = Logits(file.number_of("logit_scale", 100.0) or 0.0, file.number_of("logit_bias", None))
        self.recipe = file.recipe(f"{text_batch} texts and {image_batch} pictures of one shard in row order")
        self.tokens_recipe = file.tokens_recipe()

    def recipe_of(self, part: str) -> dict[str, Any]:
        """Return the recipe of a part.  Raises ConfigError for one that the file does not make."""
        missing = [name for name in ("encode_tokens", "count_tokens") if not self._file.has(name)]
        if part in TOKENS and missing:
            raise ConfigError(f"{self._file.path}: Encoder lacks {', '.join(missing)}, which {part} of --for needs")
        if part not in (*VECTORS, *TOKENS):
            raise self._unmade(part)
        return super().recipe_of(part)

    @property
    def sizes(self) -> dict[str, int]:
        """Nothing.  Raises ConfigError: a file makes no states before projection and no patches."""
        raise self._unmade("states and patches")

    def _unmade(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self._file.path}: a joint encoder of a file makes vectors, and tokens in their space, not {what} of "
            "--for. Take --joint NAME for it"
        )

    def reads(self, kinds: Sequence[str]) -> Sequence[Read]:
        """Nothing: the file does it all."""
        return ()

    def _seen(
        self, images: Sequence[Seen], counted: str, *, grids: bool = False
    ) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """Return what encode_images gives: n pictures -> float32 (n, P), and no patches."""
        made = [np.zeros((0, self.width), np.float32)]
        for begin in range(0, len(images), self._image_batch):
            batch = copies(images[begin : begin + self._image_batch])
            made.append(self._file.array("encode_images", (len(batch), self.width), batch))
            self.counts[counted] += len(batch)
        return lambda: (np.concatenate(made), NO_PATCHES)

    def encode_texts(self, texts: Sequence[str], done: Callable[[], None] = lambda: None) -> np.ndarray:
        """Return what encode_texts gives: n texts -> float32 (n, P)."""
        made = [np.zeros((0, self.width), np.float32)]
        for begin in range(0, len(texts), self._text_batch):
            batch = list(texts[begin : begin + self._text_batch])
            made.append(self._file.array("encode_texts", (len(batch), self.width), batch))
            self.counts["texts"] += len(batch)
            done()
        return np.concatenate(made)

    def token_columns(self, texts: Sequence[str], kinds: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """Yield what encode_tokens gives of each text, as many as count_tokens says: float32 (T, P)."""
        for begin in range(0, len(texts), self._text_batch):
            batch = list(texts[begin : begin + self._text_batch])
            found = self._file.several(self._file.call("encode_tokens", batch), "encode_tokens", len(batch))
            self.counts["sentences token by token"] += len(batch)
            for text, states in zip(batch, found, strict=True):
                yield {"joint": self._file.checked(states, "encode_tokens", (self.count(text), self.width))}

    def count(self, text: str, limit: int = 0) -> int:
        """Return what count_tokens gives."""
        found = int(self._file.whole(self._file.call("count_tokens", text), "count_tokens", ()))
        if found < 0:
            raise self._file.wrong("count_tokens", "0 and more", f"{found}")
        return found

    def is_cut(self, text: str) -> bool:
        """Return what is_cut gives; without it no text is."""
        return bool(self._file.call("is_cut", text)) if self._file.has("is_cut") else False
