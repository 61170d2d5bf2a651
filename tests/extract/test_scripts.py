"""Spans of texts in many scripts: vectors equal those of tokens that are found one character at a time."""

import random
import unicodedata
from collections import defaultdict

import numpy as np
import pytest
import torch
import transformers

from extract.config import ExtractConfig
from extract.encoders.compute import Compute
from extract.encoders.text.named import NamedText
from extract.weights import sources
from tests.extract import aligners, models

LETTERS = {
    "Latin": "abcdefghinorstuyzÅßøłİĐ",
    "Cyrillic": "абвгдежзийклмнопрстуёіїЖ",
    "Greek": "αβγδεζηθικλμνξοπρςστώΐΣ",
    "Arabic": "ابتثجحدرسعفقكلمنهويىةآ",
    "Hebrew": "אבגדהוזחטיכלמנסעפצקרשתם",
    "Devanagari": "कखगचजतदनपबमयरलवशसहाििीुेों्",
    "Thai": "กขคงจชดตถทนบปพมยรลวสหอาิีุเแไำ่้",
    "Chinese": "東京北市中國山水人大學書城門龍鳳豈",
    "Japanese": "あいうえかきくけさしすがぱアイウエカキポ東京",
    "Korean": "서울부산대한민국한글가나다라마바각힣",
    "Ethiopic": "ሀለሐመሠረሰቀበተኀነአከወዐዘየደገ",
    "Georgian": "აბგდევზთიკლმნოპჟრსტუფქღყ",
}
MARKS = ["\u0301", "\u0308", "\u0327", "\u0323\u0302", "\u030a"]  # on Latin letters
EMOJI = ["👩\u200d👩\u200d👧", "🚀", "👍🏽", "🏳\ufe0f\u200d🌈", "🇩🇪", "❤\ufe0f"]
BETWEEN = [" ", " ", " ", " ", "  ", "-", ", ", " (", "\u00a0", "\t", ". ", "、", "\u200f ", "’"]
ODD = ["ﬁ", "①", "½", "Ａｂ", "ｶﾞ", "\u2126", "ﷺ", "\ufb1d"]  # what NFKC changes
ALIGNERS = {"bert": aligners.WordPiece, "roberta": aligners.Bytes, "xlm-roberta": aligners.Unigram}
COUNT, LIMIT = 500, 24


def _word(draw, script):
    first = [c for c in LETTERS[script] if not unicodedata.category(c).startswith("M")]
    letters = [draw.choice(first), *(draw.choice(LETTERS[script]) for _ in range(draw.randint(0, 5)))]
    return "".join(c + (draw.choice(MARKS) if script == "Latin" and draw.random() < 0.3 else "") for c in letters)


def _texts():
    """Return texts of one to three scripts each, and the places of a mention in each: words, or any characters."""
    draw, texts, spans = random.Random(0), [], []
    for i in range(COUNT):
        scripts = [list(LETTERS)[i % len(LETTERS)], *draw.sample(list(LETTERS), draw.randint(0, 2))]
        words = [_word(draw, draw.choice(scripts)) for _ in range(draw.randint(2, 7))]
        words += [draw.choice(EMOJI)] if i % 4 == 0 else []
        words += [draw.choice(ODD)] if i % 5 == 0 else []
        draw.shuffle(words)
        text, places = "", []
        for word in words:
            places.append((len(text), len(text) + len(word)))
            text += word + draw.choice(BETWEEN)
        first = draw.randrange(len(places))
        last = min(first + draw.randint(0, 2), len(places) - 1)
        inside = [(begin, begin + len(segment)) for begin, segment in aligners.segments(text) if not segment.isspace()]
        one, other = sorted(draw.sample(inside, 2))
        texts.append(text)
        spans.append([(places[first][0], places[last][1]), (one[0], other[1]), one])
    return texts, spans


TEXTS, SPANS = _texts()


def _layers(model, rows):
    """Return the last layer of each row of ids, those of one length together, so that nothing is padded."""
    together, found = defaultdict(list), {}
    for i, ids in enumerate(rows):
        together[len(ids)].append(i)
    with torch.inference_mode():
        for places in together.values():
            states = model(input_ids=torch.tensor([rows[i] for i in places])).last_hidden_state.numpy()
            found |= zip(places, states, strict=True)
    return found


@pytest.mark.parametrize("family", ALIGNERS)
def test_span_vectors_equal_those_of_tokens_found_character_by_character(tmp_path, family):
    folder = models.save(family, tmp_path / family, sample=TEXTS[: COUNT - 40], words=900)  # others have unknown words
    encoder = NamedText(
        ExtractConfig(text=str(folder)), sources.Weights("pretrained"), Compute(torch.device("cpu"), "fp32")
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    aligner = ALIGNERS[family](tokenizer.backend_tokenizer)
    found = {}
    for batch in encoder.encode(TEXTS, LIMIT, SPANS):
        found |= {i: (batch, place) for place, i in enumerate(batch.index)}
    aligned = [aligner.align(text) for text in TEXTS]
    rows = [[tokenizer.cls_token_id, *ids[: LIMIT - 2], tokenizer.sep_token_id] for ids, _ in aligned]
    layers, cut, missed = _layers(transformers.AutoModel.from_pretrained(folder).eval(), rows), 0, 0
    for i, ((_, places), spans) in enumerate(zip(aligned, SPANS, strict=True)):
        (batch, place), states = found[i], layers[i]
        assert batch.states[place].shape == states.shape and np.abs(batch.states[place] - states).max() < 2e-5, TEXTS[i]
        cut += len(places) > LIMIT - 2
        for n, (begin, stop) in enumerate(spans):
            under = [t for t, own in enumerate(places[: LIMIT - 2], 1) if own & set(range(begin, stop))]
            assert batch.found[place][n] == bool(under), (TEXTS[i], begin, stop)
            missed += not under
            if under:
                expected = states[under[0] : under[-1] + 1].mean(0)
                assert np.abs(batch.spans[place][n] - expected).max() < 2e-5, (TEXTS[i], begin, stop)
    assert cut > 50 and missed < 300
