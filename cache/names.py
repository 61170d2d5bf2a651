"""Names of parts and columns, "entity.text" and "entity.text.sentence": strings that know what they are made of.

They are equal to the plain strings, hash and print as these, and are written to JSON as these.
"""


class PartName(str):
    """A part's full name: the table whose rows it has, and its kind."""

    __slots__ = ()

    @property
    def table(self) -> str:
        """The table: "entity" of "entity.text"."""
        return self.partition(".")[0]

    @property
    def kind(self) -> str:
        """The kind: "text" of "entity.text"."""
        return self.partition(".")[2]

    def column(self, name: str) -> "ColumnName":
        """Return the full name of one of its columns."""
        return ColumnName(f"{self}.{name}")


class ColumnName(str):
    """A column's full name: its part's, and its own there.  One without a dot is a column of no part, ""."""

    __slots__ = ()

    @property
    def part(self) -> PartName:
        """The part: "entity.text" of "entity.text.sentence"."""
        return PartName(self.rpartition(".")[0])

    @property
    def table(self) -> str:
        """The table: "entity" of "entity.text.sentence"."""
        return self.partition(".")[0]

    @property
    def column(self) -> str:
        """The column's name in its part: "sentence" of "entity.text.sentence"."""
        return self.rpartition(".")[2]

    def apart(self) -> tuple[PartName, str]:
        """Return both: "entity.text" and "sentence"."""
        return self.part, self.column
