"""Tokens of a text and the characters that each stands for, found one character at a time and without offsets.

A token stands for all from its first character to its last.

A tokenizer of `tokenizers` says only which words it has and, to be compared with, which ids a text gets.
"""

import json
import unicodedata


class WordPiece:
    """BERT's: clean, put blanks around ideographs, strip accents, lower, cut at punctuation, longest piece first."""

    def __init__(self, tokenizer):
        self.words = json.loads(tokenizer.to_str())["model"]["vocab"]

    def align(self, text):
        """Return the ids of a text and the set of characters of each."""
        found, word = [], []
        for place, given in enumerate([*text, " "]):
            for c in self._normal(given):
                alone = c.isspace() or self._ideograph(c) or self._punctuation(c)
                if alone and word:
                    found += self._pieces(word)
                    word = []
                if alone and not c.isspace():
                    found += self._pieces([(c, place)])
                elif not alone:
                    word.append((c, place))
        return [i for i, _ in found], [_whole(places) for _, places in found]

    def _normal(self, c):
        if c in "\t\n\r":
            return " "
        if c in "\0\ufffd" or unicodedata.category(c) in ("Cc", "Cf", "Cn", "Co"):
            return ""
        return "".join(part.lower() for part in unicodedata.normalize("NFD", c) if unicodedata.category(part) != "Mn")

    def _ideograph(self, c):
        return any(low <= ord(c) <= high for low, high in ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0xF900, 0xFAFF)))

    def _punctuation(self, c):
        return (c.isascii() and not c.isalnum() and not c.isspace()) or unicodedata.category(c).startswith("P")

    def _pieces(self, word):
        begin, pieces = 0, []
        while begin < len(word):
            for stop in range(len(word), begin, -1):
                piece = ("##" if begin else "") + "".join(c for c, _ in word[begin:stop])
                if piece in self.words:
                    break
            else:
                return [(self.words["[UNK]"], {place for _, place in word})]
            pieces.append((self.words[piece], {place for _, place in word[begin:stop]}))
            begin = stop
        return pieces


class Bytes:
    """Byte-level BPE: every token is bytes, and those of a text in order are the bytes of the text."""

    def __init__(self, tokenizer):
        shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # bytes that are shown as themselves
        hidden = [byte for byte in range(256) if byte not in shown]
        byte_of = {chr(byte): byte for byte in shown} | {chr(256 + n): byte for n, byte in enumerate(hidden)}
        self._tokenizer = tokenizer
        self._bytes = {
            i: bytes(byte_of[c] for c in word) for word, i in tokenizer.get_vocab().items() if set(word) <= set(byte_of)
        }

    def align(self, text):
        """Return the ids of a text and the set of characters of each."""
        owners = [place for place, c in enumerate(text) for _ in c.encode()]
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        assert b"".join(self._bytes[i] for i in ids) == text.encode()
        places, begin = [], 0
        for i in ids:
            places.append(set(owners[begin : begin + len(self._bytes[i])]))
            begin += len(self._bytes[i])
        return ids, places


class Unigram:
    """SentencePiece's: NFKC, a mark for each blank and one in front; pieces in order are that text.

    A run of characters that are in no piece is one unknown piece.
    """

    MARK = "\u2581"

    def __init__(self, tokenizer):
        self._tokenizer, self._pieces = tokenizer, {i: word for word, i in tokenizer.get_vocab().items()}
        self._known = {c for word in tokenizer.get_vocab() if not word.startswith("<") for c in word}

    def align(self, text):
        """Return the ids of a text and the set of characters of each."""
        normal = [(self.MARK, set())] if text else []
        for begin, segment in segments(text):
            inside = set(range(begin, begin + len(segment)))
            normal += [(self.MARK if c == " " else c, inside) for c in unicodedata.normalize("NFKC", segment)]
        if text and normal[1:] and normal[1][0] == self.MARK:
            normal = normal[1:]  # no second one
        ids, places, begin = self._tokenizer.encode(text, add_special_tokens=False).ids, [], 0
        for i in ids:
            stop = begin
            if self._pieces[i] == "<unk>":
                while stop < len(normal) and normal[stop][0] not in self._known:
                    stop += 1
            else:
                stop += len(self._pieces[i])
                assert "".join(c for c, _ in normal[begin:stop]) == self._pieces[i]
            places.append(_whole(set().union(*(inside for _, inside in normal[begin:stop]))))
            begin = stop
        assert begin == len(normal)
        return ids, places


def _whole(places):
    return set(range(min(places), max(places) + 1)) if places else set()


def segments(text):
    """Yield begin and characters of the parts of a text that no normalization joins."""
    begin = 0
    for place in range(1, len(text) + 1):
        if place < len(text):
            whole, parts = text[begin : place + 1], (text[begin:place], text[place])
            joined = unicodedata.normalize("NFKC", whole) != "".join(unicodedata.normalize("NFKC", x) for x in parts)
            if unicodedata.combining(text[place]) or joined:
                continue
        yield begin, text[begin:place]
        begin = place
