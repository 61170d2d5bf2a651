"""BERT (`bert-base-cased`): [CLS], mean and pooler of a text, and the mean over a mention's tokens."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers.implementations import BertWordPieceTokenizer

from cache.fingerprint import digest
from common.errors import WeightsError
from extract.encoders import vocabulary
from extract.encoders.compute import Compute, seeded
from extract.encoders.tokens import Span, Tokens
from extract.encoders.weights import Wanted, Weights, random_identity, reachable, sha256_file

REPOSITORY = "google-bert/bert-base-cased"
MODEL = Wanted("bert-base-cased", ("model.safetensors", "pytorch_model.bin"), f"https://huggingface.co/{REPOSITORY}")
FILES = ["config.json", "model.safetensors", "vocab.txt"]
POSITION_GAIN = 0.1  # of untrained weights, whose positions would otherwise drown the words
# of config.json: what changes the numbers, and not only who wrote the file
DECISIVE = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps",
    "max_position_embeddings", "type_vocab_size", "vocab_size",
)  # fmt: skip


@dataclass(frozen=True)
class Encoded:
    """One batch: `index` (b,) says which texts these are; vectors are float32 (b, D).

    `states[i]` is (T, D), the last layer over the T tokens of text i; `spans[i]` is (n, D) for the n spans asked for,
    `found[i]` (n,) whether each was there.
    """

    index: list[int]
    states: list[np.ndarray]
    cls: np.ndarray
    mean: np.ndarray
    pooler: np.ndarray
    truncated: np.ndarray
    spans: list[np.ndarray]
    found: list[np.ndarray]


class Bert:
    """The text encoder.  `recipe` and `width` (D) are known before the weights are loaded."""

    def __init__(self, weights: Weights, compute: Compute, batch: int) -> None:
        self._weights, self._compute, self._batch = weights, compute, batch
        self._model: torch.nn.Module | None = None
        self.encoded = 0
        if weights.random:
            words = vocabulary.build()
            self._folder, identity = None, random_identity(weights.kind, "transformers")
            self._config = config = _TINY if weights.tiny else {}
        else:
            path = weights.find(MODEL, _download)
            self._folder, identity = path.parent, sha256_file(path)
            words = _vocabulary(self._folder)
            found = _read(self._folder / "config.json")
            config = {name: found[name] for name in DECISIVE if name in found}
        self.width = int(config.get("hidden_size", 768))  # 768: BertConfig's own
        self._tokenizer = BertWordPieceTokenizer(vocab=words, lowercase=False)
        self.tokens_recipe: dict[str, Any] = {"tokenizer": "WordPiece, cased", "vocabulary": digest(words)}
        self.recipe: dict[str, Any] = {
            "encoder": "transformers BertModel",
            "architecture": "bert-base-cased" if not weights.tiny else "bert, tiny",
            "weights": identity,
            "config": digest(config),
            "vocabulary": digest(words),
            "compute": compute.precision,
            "batch": f"{batch} texts of one shard in order of length",
        }

    def tokens(self, text: str, limit: int) -> Tokens:
        """Return the tokens of a text, cut at `limit`; a cut text keeps its [SEP]."""
        item = self._tokenizer.encode(text)
        if len(item.ids) <= limit:
            return Tokens(item.ids, item.offsets, cut=False)
        item.truncate(limit - 1)
        return Tokens([*item.ids, self._separator], item.offsets, cut=True)

    def encode(self, texts: Sequence[str], limit: int, spans: Sequence[Sequence[Span]] = ()) -> Iterator[Encoded]:
        """Yield batches of equal-length-sorted texts, cut at `limit` tokens.

        `spans[i]` are character offsets (half open) into text i. A span that is (-1, -1), or that no kept token
        touches, is not found and gets the mean of tokens 1..n-2.
        """
        tokens = [self.tokens(text, limit) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: (len(tokens[i].ids), i))
        for begin in range(0, len(order), self._batch):
            index = order[begin : begin + self._batch]
            yield self._encode([tokens[i] for i in index], index, [spans[i] if spans else () for i in index])

    @torch.inference_mode()
    def _encode(self, tokens: list[Tokens], index: list[int], spans: list[Sequence[Span]]) -> Encoded:
        length = max(len(item.ids) for item in tokens)
        ids = torch.zeros(len(tokens), length, dtype=torch.long)
        mask = torch.zeros(len(tokens), length, dtype=torch.long)
        for row, item in enumerate(tokens):
            ids[row, : len(item.ids)], mask[row, : len(item.ids)] = torch.tensor(item.ids), 1
        device = self._compute.device
        with self._compute.autocast():
            output = self._loaded()(input_ids=ids.to(device), attention_mask=mask.to(device))
        hidden, pooler = output.last_hidden_state.float().cpu().numpy(), output.pooler_output.float().cpu().numpy()
        self.encoded += len(index)
        states = [row[: len(item.ids)] for row, item in zip(hidden, tokens, strict=True)]
        means = np.stack([_inner_mean(vectors) for vectors in states])
        pooled = [_spans(*each) for each in zip(states, tokens, spans, means, strict=True)]
        return Encoded(
            index=index,
            states=states,
            cls=hidden[:, 0],
            mean=means,
            pooler=pooler,
            truncated=np.array([item.cut for item in tokens]),
            spans=[vectors for vectors, _ in pooled],
            found=[found for _, found in pooled],
        )

    @property
    def _separator(self) -> int:
        return self._tokenizer.token_to_id("[SEP]")

    def _loaded(self) -> torch.nn.Module:
        if self._model is None:
            self._model = self._compute.place(_load(self._folder, self._config if self._folder is None else {}))
        return self._model


_TINY = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "initializer_range": 0.1,
}


def _inner_mean(vectors: np.ndarray) -> np.ndarray:
    return vectors[1:-1].mean(0) if len(vectors) > 2 else vectors[0]


def _spans(
    vectors: np.ndarray, tokens: Tokens, wanted: Sequence[Span], mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    rows, found = np.tile(mean, (len(wanted), 1)), np.zeros(len(wanted), bool)
    for n, span in enumerate(wanted):
        start, end = tokens.under(span)
        if start >= 0:
            rows[n], found[n] = vectors[start:end].mean(0), True
    return rows, found


def _load(folder: Path | None, config: dict[str, Any]) -> torch.nn.Module:
    from safetensors import SafetensorError
    from transformers import BertConfig, BertModel, logging  # 12-18 s: only when there is something to encode

    if folder is None:
        with seeded():
            model = BertModel(BertConfig(vocab_size=28996, **config))
        model.embeddings.position_embeddings.weight.data.mul_(POSITION_GAIN)
        return model
    logging.set_verbosity_error()  # it reports the heads that the file has beside BertModel; what lacks, we raise
    try:
        model, info = BertModel.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsError(
            f"{folder} does not hold a BERT that transformers can load: {str(error).splitlines()[0]}"
        ) from error
    wrong = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if wrong:
        raise WeightsError(
            f"{folder} lacks {len(wrong)} of BertModel's weights ({', '.join(wrong[:3])}...); transformers would have "
            "filled them with random numbers. Take bert-base-cased afresh"
        )
    return model


def _vocabulary(folder: Path) -> dict[str, int]:
    if (folder / "vocab.txt").is_file():
        words = (folder / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
        return {word: i for i, word in enumerate(words)}  # splitlines() would also break at U+2028 and U+0085
    if (folder / "tokenizer.json").is_file():
        vocabulary = _read(folder / "tokenizer.json").get("model", {}).get("vocab")
        if isinstance(vocabulary, dict):
            return vocabulary
    raise WeightsError(f"no vocab.txt or tokenizer.json beside the weights in {folder}; both are part of {REPOSITORY}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read {path}: {error}. It is part of {REPOSITORY}") from error


def _download() -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(REPOSITORY, allow_patterns=FILES, local_files_only=True))
    except LocalEntryNotFoundError:
        folder = Path()
    if not all((folder / name).is_file() for name in FILES):
        reachable("huggingface.co")
        folder = Path(snapshot_download(REPOSITORY, allow_patterns=FILES))
    return folder / "model.safetensors"
