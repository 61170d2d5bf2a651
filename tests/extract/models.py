"""Tiny Hugging Face text models of several families, with random weights and tokenizers that a few texts train."""

import json
from dataclasses import dataclass

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SAMPLE = [
    "Paris at night is big, the harbor market and the castle of the north",
    "東京 北京市 서울 こんにちは שלום עולם مرحبا بالعالم Привет мир नमस्ते café naïve Straße 👩‍👩‍👧 🚀",
    *("query: passage: harbor castle forest by the river of the south",) * 3,
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


@dataclass(frozen=True)
class Family:
    """How a family makes its config, its tokenizer and what its tokenizer calls special."""

    config: type
    tokenizer: str
    special: dict
    more: dict


FAMILIES = {
    "bert": Family(
        transformers.BertConfig,
        "wordpiece",
        {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"},
        {"max_position_embeddings": 64},
    ),
    "roberta": Family(
        transformers.RobertaConfig,
        "bytes",
        {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
        {"max_position_embeddings": 66},
    ),
    "xlm-roberta": Family(
        transformers.XLMRobertaConfig,
        "unigram",
        {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
        {"max_position_embeddings": 66},
    ),
    "deberta-v2": Family(
        transformers.DebertaV2Config,
        "unigram",
        {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
        {
            "max_position_embeddings": 64,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "position_buckets": 16,
            "share_att_key": True,
            "type_vocab_size": 0,
            "norm_rel_ebd": "layer_norm",
        },
    ),
    "modernbert": Family(
        transformers.ModernBertConfig,
        "bytes",
        {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"},
        {"max_position_embeddings": 64},
    ),
    "qwen3": Family(
        transformers.Qwen3Config,
        "bytes",
        {"eos_token": "<|end|>", "pad_token": "<|pad|>"},
        {"max_position_embeddings": 64, "num_key_value_heads": 2, "head_dim": 8},
    ),
}


def _tokenizer(family, sample, words):
    special = list(dict.fromkeys(family.special.values()))
    if "<pad>" in special:
        special = ["<s>", "<pad>", "</s>", "<unk>"]
    if family.tokenizer == "wordpiece":
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = (
            normalizers.BertNormalizer(lowercase=True),
            pre_tokenizers.BertPreTokenizer(),
        )
        trainer = trainers.WordPieceTrainer(vocab_size=words, special_tokens=special, show_progress=False)
    elif family.tokenizer == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=words + 100, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        made = Tokenizer(models.Unigram())
        made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=words, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    made.train_from_iterator(sample, trainer)
    first, last = family.special.get("cls_token"), family.special.get("sep_token", family.special.get("eos_token"))
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}" if first else f"$A {last}",
        special_tokens=[(word, made.token_to_id(word)) for word in (first, last) if word],
    )
    return made


def save(name, folder, *, pooling=None, normalized=False, prompts=None, limit=None, sample=SAMPLE, words=300):
    """Write a tiny model of a family with random weights into a folder, and what sentence-transformers would add.

    Its tokenizer has about that many `words`, from a `sample` of texts.
    """
    family = FAMILIES[name]
    tokenizer = _tokenizer(family, sample, words)
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **family.special)
    wrapped.save_pretrained(folder)
    padding = tokenizer.token_to_id(family.special["pad_token"])
    sizes = SIZES | family.more | {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": padding}
    config = family.config(initializer_range=0.2, **sizes)
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    if pooling is not None:
        kinds = ["Transformer", "Pooling", *(["Normalize"] if normalized else [])]
        modules = [
            {
                "idx": i,
                "name": str(i),
                "path": f"{i}_{kind}" if i else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for i, kind in enumerate(kinds)
        ]
        write(folder / "modules.json", modules)
        (folder / "1_Pooling").mkdir(exist_ok=True)
        write(folder / "1_Pooling" / "config.json", pooling)
    if prompts is not None:
        write(folder / "config_sentence_transformers.json", {"prompts": prompts})
    if limit is not None:
        write(folder / "sentence_bert_config.json", {"max_seq_length": limit})
    return folder


def write(path, value):
    """Write a value as a JSON file."""
    path.write_text(json.dumps(value), encoding="utf-8")
