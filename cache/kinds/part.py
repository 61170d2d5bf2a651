"""What a part and a column are: what of a row a part is made of, by whom, and what that costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

# text: contextual tokens; joint: texts and pictures in one space; image: a vision network; objects: a detector
Role = Literal["text", "joint", "image", "objects"]
ROLES: tuple[Role, ...] = get_args(Role)
# what of a row a part is made of
Source = Literal["release", "name", "sentence", "texts", "sentences", "places", "picture", "faces", "lists"]
# columns of ids that change with what is read
CONTENT: dict[Source, tuple[str, ...]] = {
    "release": ("content_text", "content_image"),  # ids, strings and golds, and which text and picture a row has
    "name": ("content_text",),  # one text: an entity's `name: text`
    "sentence": ("content_text",),  # one text: a mention's sentence, and where in it the mention stands
    "texts": ("content_text",),  # a text a column
    "sentences": ("content_text",),  # each distinct sentence, token by token
    "places": ("content_text",),  # where the tokens of a sentence lie
    "picture": ("content_image",),
    "faces": ("content_text", "content_image"),  # what --faces says of a picture, and stored columns
    "lists": ("content_text", "content_image"),  # candidates and gold
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a part: its axes after the row axis, its stored type, what it holds, and the bounds of its values.

    `dtype` is little endian numpy; "S" is fixed-length UTF-8 of the part's own length; "feature" is float16
    unless the extraction asked for float32. `values` are least and most, None where the type says all or where they
    depend on the cache. A column of an `option` is made only by an extraction with that.
    """

    axes: str
    dtype: str
    holds: str
    values: tuple[float, float] | None = None
    option: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its columns, and all that planning, computing, forecasting and counting must know of it.

    `reads`: what of a row it is made of. `role`: which encoder makes it, "" for none. `inputs`: parts whose stored
    columns it derives from. `on_demand`: made for heads that read it only. `from_picture`: the columns that one look
    at a picture gives; where "present" is a column, a row without a picture holds the neutral picture's, else zeros.
    `beside`: where both are missing, both are made in one pass of that part's encoder. `into`: the table of tokens that
    its rows point into. `per_object`: it costs K items of a picture. `like`: by column, the entity's column that
    synthetic values resemble.
    """

    columns: dict[str, Column]
    reads: tuple[Source, ...]
    role: Role | Literal[""] = ""
    inputs: tuple[str, ...] = ()
    on_demand: bool = False
    from_picture: tuple[str, ...] = ()
    beside: str = ""
    into: str = ""
    per_object: bool = False
    like: Mapping[str, str] = field(default_factory=dict)

    @property
    def neutral(self) -> bool:
        """Whether rows without a picture hold what the encoder makes of the neutral one."""
        return "present" in self.columns

    @property
    def contents(self) -> list[str]:
        """The columns of ids that say whether what the part reads of a row has changed."""
        read = {column for source in self.reads for column in CONTENT[source]}
        return [column for column in CONTENT["release"] if column in read]
