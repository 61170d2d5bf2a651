"""A hand-made WordPiece vocabulary for untrained BERTs: the demo's words, frequent English words, and every letter."""

import string

from extract.datasets.demo import WORDS

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FREQUENT = """
the of and to a in for is on that by this with you it not or be are from at as your all have new more an was
we will home can us about if page my has search free but our one other do no information time they site he up
may what which their news out use any there see only so his when contact here business who web also now help
get pm view online first am been would how were services some these click its like service than find price
date back top people had list name just over state year day into two health world next used go work last most
music buy data make them should product system post her city add policy number such please support message
after best software then good well where info rights public books high school through each links she review
years order very book items company read group need many user said does set under general research university
january mail full map reviews program life know games way days management part could great united hotel real
item international center must store travel comments made development report off member details line terms
before hotels did send right type because local those using results office education national car design take
president
""".split()


def build() -> dict[str, int]:
    """Return token -> id; any text becomes known pieces, letters at the least."""
    letters = [chr(code) for code in range(0x21, 0x250) if chr(code).isprintable() and not chr(code).isspace()]
    tokens = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *WORDS, *FREQUENT]
    tokens += [word.capitalize() for word in (*WORDS, *FREQUENT)]
    tokens += [f"##{first}{second}" for first in string.ascii_lowercase for second in string.ascii_lowercase]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}
