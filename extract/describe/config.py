"""Every knob of `melcache describe`."""

import re
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from common.errors import ConfigError
from common.options import knob
from common.paths import DATA
from extract.datasets import ADAPTERS


@dataclass(frozen=True)
class DescribeConfig:
    """What `melcache describe` does."""

    contact: str = knob(MISSING, "your mail address or page, sent with each request, as Wikimedia's policy asks")
    out: Path = knob(MISSING, "file of JSON lines to write, or to continue")
    dataset: str = knob("demo", f"a release: {', '.join(ADAPTERS)}")
    data: Path | None = knob(None, "folder of the release (default: data/<dataset>)")
    language: str = knob("en", "language of the Wikipedia to ask")
    by: Literal["auto", "title"] = knob(
        "auto", "auto: by Wikidata's id where an entity's id is one, else by title; title: always by title"
    )
    loose: bool = knob(False, "keep texts of disambiguation pages, and of pages with a section on the entity only")
    limit: int | None = knob(None, "only the first n entities that have no description")
    rate: float = knob(1.0, "requests per second at most, one after the other", panel="Network")
    timeout: float = knob(30.0, "seconds to wait for an answer", panel="Network")
    endpoint: str | None = knob(
        None, "another server's api.php, asked instead of Wikipedia and Wikidata", panel="Network"
    )

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[!-?A-~]+@[!-?A-~]+\.[!-\-/-?A-~]+|https?://[!-~]+", self.contact):
            raise ConfigError(f"--contact {self.contact!r}: expected a mail address or an http(s) address")
        if not re.fullmatch(r"[a-z][a-z-]*", self.language):
            raise ConfigError(f"--language {self.language!r}: expected a Wikipedia's, such as en or zh-yue")
        if self.endpoint is not None and not re.fullmatch(r"https?://[!-~]+", self.endpoint):
            raise ConfigError(f"--endpoint {self.endpoint!r}: expected an http(s) address that ends in api.php")
        for name in ("rate", "timeout", "limit"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"--{name} is {value}; it must be more than 0")

    @property
    def source(self) -> Path:
        """The folder of the release."""
        return self.data or DATA / self.dataset

    @property
    def wikipedia(self) -> str:
        """Where Wikipedia's pages are asked for."""
        return self.endpoint or f"https://{self.language}.wikipedia.org/w/api.php"

    @property
    def wikidata(self) -> str:
        """Where Wikidata's links to Wikipedia are asked for."""
        return self.endpoint or "https://www.wikidata.org/w/api.php"
