"""What a linker is asked, checked: where a mention stands, which picture it has, what else a file asks."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import ConfigError
from common.paths import is_file
from common.records import Image, Mention
from extract.datasets import jsonl
from link.records import NewMention

LONGEST = 60  # characters of a text that is shown
NOWHERE = (-1, -1)  # of a mention that its sentence does not have


class QuestionError(ConfigError):
    """A mention that cannot be linked.  Its text repeats what was asked, and says nothing of where it is linked."""


def from_file(path: Path) -> list[NewMention]:
    """Return the mentions of a file as a release has them; labels and splits do not count.

    Where such a line has no offsets the mention is searched for as an extraction does: the first whole word. Raises
    DatasetError, naming the line, for what is none, and ConfigError for a file that is not there or empty.
    """
    if not is_file(path):
        raise ConfigError(f"--data {path}: there is no such file. Expected JSON lines, as mentions.jsonl has them")
    found = [_new(mention) for _, mention in jsonl.read_mentions(path, Counter())]
    if not found:
        raise ConfigError(f"--data {path} is empty. Expected JSON lines, as mentions.jsonl has them")
    return found


def _new(mention: Mention) -> NewMention:
    picture = mention.image.path if mention.image else None
    where = (mention.surface, mention.start, mention.end)
    return NewMention(mention.sentence, *where, picture, mention.candidates, mention.id)


def check(mentions: Sequence[NewMention]) -> None:
    """Raise QuestionError, naming it, for a mention whose place in its text is not known."""
    for place, asked in enumerate(mentions):
        _span(asked, label(place, asked))


def label(place: int, asked: NewMention) -> str:
    """Return how messages call a mention: by its id, else by its place."""
    return f"mention {place + 1}" if asked.id is None else f"mention {asked.id!r:.60}"


def records(mentions: Sequence[NewMention], folder: Path, begin: int = 0) -> Iterator[Mention]:
    """Yield each as an extraction has it; pictures that are bytes are written to a folder first.

    `begin` mentions came before. Raises QuestionError, naming the mention, for one that cannot be linked.
    """
    for place, asked in enumerate(mentions, begin):
        where = label(place, asked)
        start, end = _span(asked, where)
        surface = asked.mention if (start, end) == NOWHERE else asked.text[start:end]
        name = str(place) if asked.id is None else asked.id
        picture = _picture(asked.image, folder / str(place), where)
        yield Mention(name, name, asked.text, surface, start, end, None, 0, picture, labeled=False)


def _span(asked: NewMention, where: str) -> tuple[int, int]:
    """Return where the mention stands in its text."""
    for what, value in (("text", asked.text), ("mention", asked.mention)):
        if not isinstance(value, str):
            raise QuestionError(f"{where}: {what} is {type(value).__name__}, expected a string")
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise QuestionError(f"{where}: {what} holds half a surrogate pair, which is no character")
    text, surface, start, end = asked.text, asked.mention, asked.start, asked.end
    if not text.strip():
        raise QuestionError(f"{where}: the text is empty. Give the sentence that the mention stands in")
    if not surface.strip() and (start is None or end is None):
        raise QuestionError(f"{where}: the mention is empty. Give the string in the text that is to be linked")
    if start is None and end is None:
        return _found(text, surface, where)
    if (start, end) == NOWHERE and surface.strip():
        return NOWHERE
    end = start + len(surface) if end is None and type(start) is int else end
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
        raise QuestionError(f"{where}: start {start!r}, end {end!r} are not within a text of {len(text)} characters")
    if surface and text[start:end] != surface:
        raise QuestionError(
            f"{where}: text[{start}:{end}] is {text[start:end]!r:.60}, but the mention is {surface!r:.60}"
        )
    if not text[start:end].strip():
        raise QuestionError(f"{where}: text[{start}:{end}] is blank. Give the string that is to be linked")
    return start, end


def _found(text: str, surface: str, where: str) -> tuple[int, int]:
    """Return the one place of a string in a text; one that is a whole word counts before others."""
    places = [found.start() for found in re.finditer(f"(?={re.escape(surface)})", text)]
    whole = [place for place in places if _is_whole(text, place, place + len(surface))]
    if not places:
        raise QuestionError(
            f"{where}: {surface!r:.60} does not stand in the text {text[:LONGEST]!r}. Write it as the text has it"
        )
    if len(whole or places) > 1:
        raise QuestionError(
            f"{where}: {surface!r:.60} stands {len(whole or places)} times in the text, at {_listed(whole or places)}. "
            "Say which with start (--start)"
        )
    [place] = whole or places
    return place, place + len(surface)


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether no letter or digit stands directly before or behind."""
    return not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum())


def _listed(places: Sequence[int]) -> str:
    return ", ".join(map(str, places[:5])) + (", ..." if len(places) > 5 else "")


def _picture(given: Path | str | bytes | None, path: Path, where: str) -> Image | None:
    if given is None:
        return None
    if isinstance(given, bytes):
        path.write_bytes(given)
        return Image(path)
    if not isinstance(given, (str, Path)):
        raise QuestionError(f"{where}: the picture is {type(given).__name__}, expected a path, or the bytes of a file")
    return Image(Path(given))
