"""A text as an encoder reads it, and which of its tokens stand under a span of characters."""

from dataclasses import dataclass

Span = tuple[int, int]  # half open


@dataclass(frozen=True)
class Tokens:
    """Ids with [CLS] and [SEP], the characters that each token stands for, and whether the text was cut.

    The first `prompt` of them are put before every text.
    `inner` are the tokens, half open, between the special ones; all of them where there are no others.
    """

    ids: list[int]
    offsets: list[Span]
    inner: Span
    cut: bool
    prompt: int = 0

    def under(self, span: Span) -> Span:
        """Return the tokens, half open, that touch a span of characters; (-1, -1) if none does."""
        start, end = span
        # special tokens have the empty offset (0, 0), which touches nothing
        inside = [i for i, (begin, stop) in enumerate(self.offsets) if begin < end and stop > start and stop > begin]
        return (inside[0], inside[-1] + 1) if inside and start >= 0 else (-1, -1)
