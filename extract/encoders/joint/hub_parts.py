"""What an open_clip config names beside its model: a text tower and a tokenizer of Hugging Face, or a toy tokenizer."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers.implementations import BertWordPieceTokenizer

from common.errors import WeightsError
from common.output import say
from common.paths import is_file, is_folder
from extract.encoders.text import toy_vocabulary
from extract.encoders.text.model import TOKENIZERS
from extract.weights import hub_files
from extract.weights.open_clip_files import Found

LONGEST_NAME = 300
# of a toy; [CLS] and [SEP] also begin and end what a model of mode clips reads
SPECIAL = {
    "unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
    "bos_token": "[CLS]", "eos_token": "[SEP]",
}  # fmt: skip


def tower(found: Found, text: Mapping[str, Any]) -> Path | None:
    """Return the folder of a text tower's config, None where the tower is open_clip's own.  Raises WeightsError."""
    return _named(found, text.get("hf_model_name"), "text tower")


@contextmanager
def tokenizer(found: Found, text: Mapping[str, Any]) -> Iterator[Path | None]:
    """Yield the folder of a tokenizer, None where it is open_clip's own.

    Where it is not to be had and weights are random, a toy stands in, with words that the model has. Raises
    WeightsError.
    """
    wanted, words = text.get("hf_tokenizer_name"), toy_vocabulary.build()
    own = found.folder is not None and any(is_file(found.folder / file) for file in TOKENIZERS)
    try:
        folder = found.folder if own and wanted else _named(found, wanted, "tokenizer")
    except WeightsError:
        size = text.get("vocab_size", 0)
        if found.weights is not None or not isinstance(size, int) or len(words) > size:
            raise
        say(f"the tokenizer {wanted!r:.99} is not to be had: as weights are random, a toy of {len(words):,} words is")
        with tempfile.TemporaryDirectory() as place:
            _write(words, Path(place))
            yield Path(place)
    else:
        yield folder


def _named(found: Found, wanted: object, what: str) -> Path | None:
    """Return the folder of what a config names beside its model, None where it names nothing.

    It may be a folder, or lie in the model's own; else it is the Hub's.
    """
    if not wanted:
        return None
    if not isinstance(wanted, str) or not wanted.isprintable() or len(wanted) > LONGEST_NAME:
        raise WeightsError(f"the {what} of the joint encoder is {wanted!r:.60}, expected a model's name or a folder")
    places = [] if found.folder is None else [found.folder / wanted, found.folder / Path(wanted).name]
    if there := next(filter(is_folder, places), None):
        return there
    try:
        return hub_files.located(wanted, what, trained=False)
    except WeightsError as error:
        raise WeightsError(f"the {what} of the joint encoder is {wanted}, and there is {error}") from error


def _write(words: dict[str, int], folder: Path) -> None:
    """Write a WordPiece tokenizer into a folder, as the Hub has one."""
    made = BertWordPieceTokenizer(words, lowercase=False, strip_accents=False)
    made.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast"} | SPECIAL
    (folder / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")
