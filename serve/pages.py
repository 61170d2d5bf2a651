"""The page: a form and its answer, filled in here, so that it works without JavaScript too."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

FOLDER = Path(__file__).parent / "page"
TYPES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
EVIDENCE = {  # of link.records.Candidate, as a person reads it
    "string": "spelling of the name",
    "text_to_text": "sentence, entity’s text",
    "text_to_image": "sentence, entity’s picture",
    "image_to_text": "your picture, entity’s text",
    "image_to_image": "your picture, entity’s picture",
}
PICTURES = {  # of cache.kinds.IMAGE_STATUS, where there is none to take
    "empty": "the file is empty",
    "not_an_image": "the file is no picture",
    "svg": "drawings in SVG are not read; expected JPEG, PNG, WebP, GIF, TIFF, BMP or AVIF",
    "unsupported": "the format is not read; expected JPEG, PNG, WebP, GIF, TIFF, BMP or AVIF",
    "corrupt": "the file is damaged or incomplete",
    "too_small": "the picture is too small, or a strip",
    "too_large": "the picture has too many pixels",
    "float_image": "the pixels are not whole numbers",
}
_TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Filled:
    """What stands in the form."""

    text: str = ""
    mention: str = ""
    nil_below: float = 0.0


@dataclass(frozen=True)
class Place:
    """One of several places of a mention: where it begins, and what stands around it."""

    start: int
    before: str
    after: str


def shown(
    request: Request,
    filled: Filled = Filled(),
    *,
    answer: Any = None,
    error: str = "",
    places: Sequence[Place] = (),
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return the page: with an answer (serve.schema.Answer), an error, or places of the mention to choose from."""
    text = _TEMPLATES.get_template("page.html").render(
        about=request.app.state.about,
        filled=filled,
        answer=answer,
        error=error,
        places=places,
        evidence=EVIDENCE,
        pictures=PICTURES,
    )
    return HTMLResponse(text, status, {"cache-control": "no-store", **(headers or {})})


def refused(request: Request, status: int, sentence: str, headers: dict[str, str] | None) -> Response:
    """Return the page with an error on it."""
    return shown(request, request.scope.get("filled", Filled()), error=sentence, status=status, headers=headers)


def file(name: str) -> Response | None:
    """Return a file that the page needs, None where there is none of that name."""
    if name not in TYPES:
        return None
    return Response((FOLDER / name).read_bytes(), media_type=TYPES[name], headers={"cache-control": "no-cache"})
