"""Where a mention stands, by hand; what cannot be linked is one line that names it."""

import json

import pytest

from common.errors import ConfigError, DatasetError
from link.questions import from_file, records
from link.records import NewMention

PARIS = "Butlers met Butler in Paris"


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        (NewMention(PARIS, "Paris"), (22, 27)),
        (NewMention(PARIS, "Butler"), (12, 18)),  # the whole word
        (NewMention(PARIS, "utlers"), (1, 7)),  # no whole word, but one place
        (NewMention(PARIS, "Butler", 0), (0, 6)),
        (NewMention(PARIS, "", 12, 18), (12, 18)),
        (NewMention(PARIS, "Rome", -1, -1), (-1, -1)),  # said not to stand there
        (NewMention("été à Nice", "Nice"), (6, 10)),
    ],
)
def test_where_a_mention_stands(asked, span, tmp_path):
    [found] = records([asked], tmp_path)
    assert (found.start, found.end) == span
    assert found.surface == (asked.text[slice(*span)] if span[0] >= 0 else asked.mention)
    assert found.gold is None and not found.labeled and found.splits == 0


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        (NewMention("", "x"), "mention 4: the text is empty"),
        (NewMention(" \n", "x"), "the text is empty"),
        (NewMention(PARIS, " "), "the mention is empty"),
        (NewMention(PARIS, "Rome"), "'Rome' does not stand in the text 'Butlers met"),
        (NewMention("aaa", "aa"), r"'aa' stands 2 times in the text, at 0, 1\. Say which with start"),
        (NewMention("a b a", "a", id="q7"), "mention 'q7': 'a' stands 2 times"),
        (NewMention(PARIS, "Paris", 0), r"text\[0:5\] is 'Butle', but the mention is 'Paris'"),
        (NewMention(PARIS, "", 5, 5), "are not within a text of 27 characters"),
        (NewMention(PARIS, "", -3, 2), "are not within"),
        (NewMention(PARIS, "", True, 2), "are not within"),
        (NewMention(PARIS, "", 7, 8), "is blank"),
        (NewMention(7, "x"), "text is int, expected a string"),
        (NewMention(PARIS, None), "mention is NoneType"),
        (NewMention("a \ud800", "a"), "half a surrogate pair"),
        (NewMention(PARIS, "Paris", image=3), "the picture is int"),
    ],
)
def test_what_cannot_be_linked_is_one_line(asked, match, tmp_path):
    with pytest.raises(ConfigError, match=match) as error:
        list(records([asked], tmp_path, begin=3))
    assert "\n" not in error.value.text


def test_a_file_is_read_as_a_release_is(tmp_path):
    lines = [
        {"id": "a", "text": PARIS, "mention": "Butler", "image": "x.png", "gold": "Q1", "split": "test"},
        {"id": "b", "text": PARIS, "start": 22, "end": 27, "candidates": ["Q2", "Q1"]},
    ]
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert from_file(path) == [
        NewMention(PARIS, "Butler", 12, 18, tmp_path / "x.png", None, "a"),
        NewMention(PARIS, "Paris", 22, 27, None, ("Q2", "Q1"), "b"),
    ]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "is empty"),
        ("nonsense\n", "line 1"),
        ('{"id": "a", "text": "b", "mention": NaN}\n', "line 1"),
        ('{"id": "a", "text": "b"}\n', "line 1: expected start and end, or mention"),
        ('{"id": "a", "text": "b", "mention": "b"}\n' * 2, "line 2: id 'a' is already used"),
        ('{"id": "a", "text": "b", "mention": "b", "image": "../c.png"}\n', "without '..'"),
        ("[1]\n", "line 1"),
    ],
)
def test_garbage_in_a_file_is_one_line(content, match, tmp_path):
    path = tmp_path / "new.jsonl"
    path.write_text(content)
    with pytest.raises((ConfigError, DatasetError), match=match):
        from_file(path)
    with pytest.raises(ConfigError, match="there is no such file"):
        from_file(tmp_path / "none.jsonl")
