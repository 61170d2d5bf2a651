"""Open a picture safely, or say in one reason code why not (cache.kinds.IMAGE_STATUS)."""

import errno
import hashlib
import io
import os
import stat
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

MAX_BYTES = 256 << 20
MAX_PIXELS = 64_000_000
MAX_ASPECT = 50
MIN_SIDE = 2
SIDE, GRAY = 224, 128
THUMBNAIL_QUALITY = 72
STRIP = 1 << 20  # pixels
# "JPEG" covers MPO, whose own name raises KeyError in Pillow 13
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", *(("AVIF",) if features.check("avif") else ()))

POLICY = {
    "formats": "JPEG PNG WEBP GIF TIFF BMP AVIF",
    "frame": "first",
    "exif": "transposed",
    "alpha": "over white",
    "16 bit": "high byte",
    "max_pixels": MAX_PIXELS,
    "min_side": MIN_SIDE,
    "max_aspect": MAX_ASPECT,
    "neutral": f"gray {GRAY}, {SIDE} x {SIDE}",
}

# what Pillow has been seen to raise for damaged files; a bomb is not an OSError, MemoryError is let through
_DAMAGE = (
    OSError, ValueError, SyntaxError, RuntimeError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
# recognized but not opened, by first bytes: EPS, PSD, ICO, JPEG 2000, PNM, FITS, DDS, QOI, ICNS, JPEG XL
_OTHER = (
    b"%!PS", b"\xc5\xd0\xd3\xc6", b"8BPS", b"\0\0\x01\0", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"P1", b"P2", b"P3",
    b"P4", b"P5", b"P6", b"SIMPLE  =", b"DDS ", b"qoif", b"icns", b"\xff\x0a", b"\0\0\0\x0cJXL ",
)  # fmt: skip
_UNOPENED = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.ELOOP: "missing",
    errno.ENAMETOOLONG: "missing",
    errno.ENXIO: "not_a_file",  # a socket
}


def read(path: Path) -> tuple[bytes, str]:
    """Return the bytes of a regular file and "ok", or b"" and a reason.  A FIFO does not block."""
    try:
        with open(path, "rb", opener=_nonblocking, buffering=0) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                return b"", "not_a_file"
            if found.st_size > MAX_BYTES:
                return b"", "too_large"
            data = file.read()
    except IsADirectoryError:
        return b"", "not_a_file"
    except OSError as error:
        return b"", _UNOPENED.get(error.errno, "unreadable")
    except ValueError:  # a NUL in the name
        return b"", "missing"
    return (data, "ok") if data else (b"", "empty")


def decode(data: bytes) -> tuple[Image.Image | None, str]:
    """Return an upright RGB picture and "ok", or None and a reason.

    Truncated files are refused: Pillow would fill up to 98% of such a picture with gray.
    """
    if not data:
        return None, "empty"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF and oversize are handled here
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if refusal := _refusal(image):
                    return None, refusal
                image.load()
                return _rgb(_upright(image)), "ok"
    except UnidentifiedImageError:
        return None, _unidentified(data)
    except Image.DecompressionBombError:
        return None, "too_large"
    except _DAMAGE:
        return None, "corrupt"


def opened(path: Path) -> tuple[Image.Image | None, str, bytes]:
    """Return what `read` and `decode` make of a file, and the sha256 of its bytes."""
    data, status = read(path)
    image, status = decode(data) if status == "ok" else (None, status)
    return image, status, hashlib.sha256(data).digest()


def pixels(data: bytes) -> int:
    """Return how many pixels a picture has by its header; 0 where `decode` would refuse it for that alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return 0 if _refusal(image) else image.width * image.height
    except _DAMAGE:
        return 0


def thumbnail(picture: Image.Image, side: int) -> bytes:
    """Return a picture of RGB as a JPEG of at most `side` pixels a side, without what its file says beside the pixels.

    The picture itself is made small.
    """
    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    bare = Image.new("RGB", picture.size)  # Pillow would save a comment of the original, too
    bare.paste(picture)
    file = io.BytesIO()
    bare.save(file, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return file.getvalue()


def neutral() -> Image.Image:
    """Return the declared picture that stands in where there is none; such rows are masked."""
    return Image.new("RGB", (SIDE, SIDE), (GRAY, GRAY, GRAY))


def _nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _refusal(image: Image.Image) -> str:
    width, height = image.size
    if width * height > MAX_PIXELS:
        return "too_large"
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        return "too_small"
    return "float_image" if image.mode == "F" else ""


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGE:  # a picture does not fail for its metadata
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray: convert("RGB") would clip 99% of the pixels to white
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    return _over_white(image) if image.has_transparency_data else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """Return a picture with transparent places over white; made by strips, as each step is another copy of it."""
    made = Image.new("RGB", image.size)
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        layer = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        made.paste(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"), (0, top))
    return made


def _unidentified(data: bytes) -> str:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<svg") or (head.startswith((b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in head):
        return "svg"
    if data.startswith(_OTHER) or data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"):
        return "unsupported"
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")) or data[8:12] == b"WEBP":
        return "corrupt"
    return "not_an_image"
