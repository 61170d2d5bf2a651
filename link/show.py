"""What `melcache link` found, for people."""

from collections.abc import Sequence

from cache.edges import EDGES
from common.foreign import printable
from common.output import table
from link.records import Candidate, Link

WIDEST = 48  # characters of a name or description
AROUND = 30  # characters of a sentence that stand before and behind the mention


def show(links: Sequence[Link]) -> str:
    """Return a table for each mention, below a line with it in its sentence."""
    return "\n\n".join(map(_one, links))


def _one(link: Link) -> str:
    lines = [printable(_sentence(link))]
    if link.nil:
        lines[0] += ": nil, no candidate is probable enough" if link.candidates else ": nil, no candidates"
    if link.known is not None:
        lines.append(printable(f"mention {link.known} of the dataset: its vectors are the cache's"))
    if link.picture not in ("ok", "none"):
        lines.append(f"the picture counts as none: {link.picture}")
    if link.candidates:
        shown = [edge for edge in EDGES if any(edge in found.evidence for found in link.candidates)]
        texts = [any(map(has, link.candidates)) for has in (_described, _pictured)]
        header = ["", "id", "name", "probability", "score", "string", *(edge.short for edge in shown)]
        header += [name for name, there in zip(("description", "picture"), texts, strict=True) if there]
        lines.append(table(header, [_row(n + 1, one, shown, texts) for n, one in enumerate(link.candidates)]))
    return "\n".join(lines)


def _row(rank: int, found: Candidate, shown: Sequence[str], texts: Sequence[bool]) -> list[str]:
    row = [str(rank), found.id, _short(found.name), f"{found.probability:.3f}", f"{found.score:.3f}"]
    for name in ("string", *shown):
        value = found.evidence.get(name)
        row.append("-" if value is None else f"{value:.2f}")
    more = (_short(found.entity.description or "-"), str(found.entity.picture or "-"))
    return row + [text for text, there in zip(more, texts, strict=True) if there]


def _described(found: Candidate) -> bool:
    return found.entity.description is not None


def _pictured(found: Candidate) -> bool:
    return found.entity.picture is not None


def _sentence(link: Link) -> str:
    """Return the sentence around a mention, which stands in brackets."""
    if link.start < 0:
        return f"[{link.surface}], which does not stand in: {_short(link.mention.text)}"
    before, behind = link.mention.text[: link.start], link.mention.text[link.end :]
    first = "..." if len(before) > AROUND else ""
    last = "..." if len(behind) > AROUND else ""
    return f"{first}{before[-AROUND:]}[{link.surface}]{behind[:AROUND]}{last}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."
