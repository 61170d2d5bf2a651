"""What the options of every head say beside themselves.  No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Self


@dataclass(frozen=True)
class HeadConfig:
    """The options of a head: a frozen dataclass whose fields all have defaults derives from it.

    What it says of itself here holds for heads that say nothing else.
    """

    @property
    def more(self) -> tuple[str, ...]:
        """The columns of schema.CHOICES that the switches ask for."""
        return ()

    @property
    def tokens_read(self) -> int:
        """How many tokens of a sentence are read, 0 = all."""
        return 0

    @property
    def bytes_read(self) -> int:
        """How many bytes of a string are read, 0 = strings are numbers that say which are equal."""
        return 0

    @property
    def reads_strings(self) -> bool:
        """Whether a batch holds what strings say of pairs (data.string_facts)."""
        return False

    @property
    def absent(self) -> tuple[str, ...]:
        """Columns of `reads` that are not read, since the cache has no picture for them."""
        return ()

    @property
    def learns_without_gold(self) -> bool:
        """Whether mentions whose gold was not retrieved are trained on, too."""
        return False

    @property
    def leak_gold(self) -> bool:
        """Whether gold that was not retrieved is in the graph all the same (evaluating.leak)."""
        return False

    @property
    def label(self) -> str:
        """What stands beside every number of such a run."""
        return ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of results must know."""
        return ()

    @property
    def system(self) -> str:
        """Which of its published systems these options make, where papers report several; "": there is one."""
        return ""

    @property
    def resolved(self) -> Self:
        """The options with every switch decided."""
        return self

    def named(self, name: str) -> Self:
        """Return the options of the head of that name, where several heads share a class."""
        return self

    def without(self, absent: tuple[str, ...]) -> Self:
        """Return the options for a cache that has no picture at all for the columns `absent`; a head may not care."""
        return self

    def with_widths(self, widths: Mapping[str, int]) -> Self:
        """Return the options with those of the `widths` (field: width of a cache's columns) that they have."""
        own = {field.name for field in fields(self)}
        return replace(self, **{name: width for name, width in widths.items() if name in own})
