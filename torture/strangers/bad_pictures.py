"""Bad pictures: a corpus made here, each with its verdict, and random damage to small ones.

Decoders are C and could crash, so all of it runs in processes of its own.
"""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cache.kinds import IMAGE_STATUS
from extract import images
from torture.processes import survivors
from torture.tiny_cache import Result

SIZE = (32, 24)
Placed = Callable[[Path], object]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as a file of some format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    """Return a picture of random colors, always the same."""
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8)).convert(mode)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 1, color: int = 0, rows: bytes = b"") -> bytes:
    """Return a PNG made by hand; its header may lie about its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def seeds() -> list[bytes]:
    """Return small whole pictures of every format that is opened, and of every mode that is treated apart."""
    frames = {"save_all": True, "append_images": [Image.new("RGB", SIZE, "red")]}
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        encoded(noise(), "JPEG"),
        encoded(noise(), "JPEG", progressive=True, exif=exif),
        encoded(noise(mode="CMYK"), "JPEG"),
        encoded(noise(), "PNG"),
        encoded(noise(mode="P"), "PNG", transparency=1),
        encoded(noise(mode="RGBA"), "PNG"),
        encoded(Image.fromarray(np.arange(768, dtype=np.uint16).reshape(24, 32)), "PNG"),
        encoded(noise(), "WEBP"),
        encoded(noise(), "WEBP", **frames),
        encoded(noise(), "GIF", **frames),
        encoded(noise(), "TIFF"),
        encoded(noise(), "TIFF", compression="tiff_lzw"),
        encoded(noise(mode="LAB"), "TIFF"),
        encoded(noise(), "BMP"),
        *([encoded(noise(), "AVIF")] if "AVIF" in images.FORMATS else []),
    ]


def corpus() -> dict[str, tuple[bytes | Placed, str]]:
    """Return bad and odd pictures by name: what the file holds, or a function that puts it there; and the verdict."""
    return _whole() | _broken() | _bombs() | _foreign() | _placed()


def _whole() -> dict[str, tuple[bytes | Placed, str]]:
    """Return what is unusual and must be opened."""
    frames = {"save_all": True, "append_images": [Image.new("RGB", SIZE)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    gray = Image.fromarray(np.arange(0, 65536, 85, np.uint16)[:768].reshape(24, 32))
    made = {
        "CMYK.jpg": encoded(noise(mode="CMYK"), "JPEG"),
        "gray.jpg": encoded(noise(mode="L"), "JPEG"),
        "progressive.jpg": encoded(noise(), "JPEG", progressive=True),
        "sideways.jpg": encoded(noise(), "JPEG", exif=exif),
        "broken-exif.jpg": encoded(noise(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"),
        "broken-profile.jpg": encoded(noise(), "JPEG", icc_profile=b"broken" * 40),
        "bytes-behind.jpg": encoded(noise(), "JPEG") + b"garbage" * 9,
        "png-called.jpg": encoded(noise(), "PNG"),
        "gif-called.png": encoded(noise(), "GIF"),
        "no-suffix": encoded(noise(), "JPEG"),
        "sixteen-bits.png": encoded(gray, "PNG"),
        "sixteen-bits.tiff": encoded(gray, "TIFF"),
        "alpha.png": encoded(noise(mode="RGBA"), "PNG"),
        "gray-alpha.png": encoded(noise(mode="LA"), "PNG"),
        "palette.png": encoded(noise(mode="P"), "PNG"),
        "palette-transparent.png": encoded(noise(mode="P"), "PNG", transparency=1),
        "one-bit.png": encoded(noise(mode="1"), "PNG"),
        "two-pixels.png": encoded(noise((2, 2)), "PNG"),
        "animated.gif": encoded(noise(), "GIF", **frames),
        "animated.webp": encoded(noise(), "WEBP", **frames),
        "animated.png": encoded(noise(), "PNG", **frames),
        "lossless.webp": encoded(noise(), "WEBP", lossless=True),
        "plain.bmp": encoded(noise(), "BMP"),
        "palette.bmp": encoded(noise(mode="P"), "BMP"),
        "many-pages.tiff": encoded(noise(), "TIFF", **frames),
        "lzw.tiff": encoded(noise(), "TIFF", compression="tiff_lzw"),
        "lab.tiff": encoded(noise(mode="LAB"), "TIFF"),
        "cmyk.tiff": encoded(noise(mode="CMYK"), "TIFF"),
        "as-wide-as-allowed.png": encoded(noise((100, 2)), "PNG"),
    }
    return {name: (data, "ok") for name, data in made.items()}


def _broken() -> dict[str, tuple[bytes | Placed, str]]:
    """Return pictures of which a part is missing or wrong."""
    jpeg, whole = encoded(noise(), "JPEG"), encoded(noise(), "PNG")
    kinds = {"webp": "WEBP", "gif": "GIF", "tiff": "TIFF", "bmp": "BMP"}
    cut = {f"half.{suffix}": encoded(noise(), kind) for suffix, kind in kinds.items()}
    made = {
        **{f"cut-at-{share}.jpg": jpeg[: len(jpeg) * share // 100] for share in (5, 10, 50, 90, 99)},
        **{f"cut-at-{share}.png": whole[: len(whole) * share // 100] for share in (5, 50, 99)},
        **{name: data[: len(data) // 2] for name, data in cut.items()},
        "no-end.jpg": jpeg[:-2],
        "progressive-cut.jpg": encoded(noise(), "JPEG", progressive=True)[:-40],
        "zeros-at-the-end.jpg": jpeg[: len(jpeg) // 2] + bytes(len(jpeg) // 2),
        "head-only.jpg": b"\xff\xd8\xff\xe0",
        "wrong-checksum.png": whole.replace(whole[29:33], b"\0\0\0\0", 1),
        "claims-more.png": png(100, 100, rows=b"\0\0"),
        "no-pixels.png": png(0, 0),
        "header-only.png": b"\x89PNG\r\n\x1a\n",
    }
    return {name: (data, "corrupt") for name, data in made.items()}


def _bombs() -> dict[str, tuple[bytes | Placed, str]]:
    huge = struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + struct.pack(
        "<IiiHHIIiiII", 40, 50_000, 50_000, 1, 24, *[0] * 6
    )
    screen = b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
    return {
        "bomb-102-megapixels.png": (png(10_200, 10_000), "too_large"),
        "bomb-4-gigapixels.png": (png(65_535, 65_535), "too_large"),
        "bomb.bmp": (huge, "too_large"),
        "bomb.gif": (screen + b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\2\0;", "too_large"),
        "bomb-in-a-text.png": (png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(70 << 20)))), "corrupt"),
        "one-pixel.png": (encoded(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
        "a-line.png": (encoded(Image.new("RGB", (1, 300)), "PNG"), "too_small"),
        "too-wide.png": (encoded(Image.new("RGB", (102, 2)), "PNG"), "too_small"),
        "floats.tiff": (encoded(Image.new("F", SIZE, 0.5), "TIFF"), "float_image"),
    }


def _foreign() -> dict[str, tuple[bytes | Placed, str]]:
    """Return what is no picture, or of a kind that is not opened."""
    nothing = {
        "page.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
        "error.jpg": b'{"error": "not found"}',
        "document.pdf": b"%PDF-1.7\n1 0 obj",
        "film.mp4": b"\0\0\0\x18ftypmp42" + bytes(64),
        "packed.gz": b"\x1f\x8b\x08" + bytes(64),
        "bomb.zip": b"PK\x03\x04" + bytes(26) + zlib.compress(bytes(1 << 20)),
        "script.jpg": b"#!/bin/sh\nexit 1\n",
        "zeros.jpg": bytes(4096),
        "one-byte.jpg": b"x",
        "feed.xml": b"<?xml version='1.0'?><rss/>",
        "noise.jpg": random.Random(0).randbytes(4096),
    }
    unsupported = {
        "drawing.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "layers.psd": b"8BPS\0\1" + bytes(40),
        "photo.heic": b"\0\0\0\x18ftypheic" + bytes(40),
        "icon.ico": encoded(noise((16, 16)), "ICO"),
        "plain.ppm": encoded(noise(), "PPM"),
        "photo.jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    }
    vectors = {
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "drawing-called.png": b"\xef\xbb\xbf<?xml version='1.0'?><!-- a --><SVG/>",
        "entities.svg": b"<!DOCTYPE svg [<!ENTITY a 'b'><!ENTITY c '&a;&a;'>]><svg>&c;</svg>",
    }
    made = {"nothing.jpg": (b"", "empty")}
    for verdict, files in (("not_an_image", nothing), ("unsupported", unsupported), ("svg", vectors)):
        made |= {name: (data, verdict) for name, data in files.items()}
    return made


def _placed() -> dict[str, tuple[bytes | Placed, str]]:
    """Return what is no regular file."""

    def sparse(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(images.MAX_BYTES + 1)

    return {
        "absent.jpg": (lambda path: None, "missing"),
        "folder.jpg": (Path.mkdir, "not_a_file"),
        "pipe.jpg": (os.mkfifo, "not_a_file"),
        "dangling.jpg": (lambda path: path.symlink_to("nowhere"), "missing"),
        "loop.jpg": (lambda path: path.symlink_to(path.name), "missing"),
        "device.jpg": (lambda path: path.symlink_to(os.devnull), "not_a_file"),
        "too-many-bytes.jpg": (sparse, "too_large"),
        "n" * 300 + ".jpg": (lambda path: None, "missing"),
    }


def lay(folder: Path) -> dict[str, str]:
    """Write the corpus into a folder; return the verdicts by name."""
    folder.mkdir(parents=True)
    for name, (held, _) in corpus().items():
        if callable(held):
            held(folder / name)
        else:
            (folder / name).write_bytes(held)
    return {name: verdict for name, (_, verdict) in corpus().items()}


def run(scratch: Path, count: int, seed: int) -> Result:
    """Look at the corpus, and at `count` random mutations: every one gets a verdict, and none kills its process."""
    result = Result("pictures")
    verdicts = lay(scratch / "corpus")
    names = list(verdicts)
    for case, found in survivors(len(names), lambda case: _verdict(scratch / "corpus" / names[case])):
        result.case()
        result.count("of the corpus")
        if found != verdicts[names[case]]:
            result.fail(f"{names[case]}: {found or 'it killed the process'}, not {verdicts[names[case]]}")
    good = seeds()

    def try_(case: int) -> str:
        rng = random.Random(f"{seed} {case}")
        return _judge(damaged(rng.choice(good), rng.choice(good), rng))

    for case, found in survivors(count, try_):
        result.case()
        result.count(found or "killed")
        if found not in IMAGE_STATUS:
            result.fail(f"mutation {case} of seed {seed}: {found or 'it killed the process'}")
    return result


def damaged(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return a picture with bits or bytes changed, cut, or spliced with another."""
    changed, kind = bytearray(data), rng.random()
    if kind < 0.1:
        return bytes(changed[: rng.randrange(len(changed))])
    if kind < 0.2:
        at, begin = rng.randrange(len(changed)), rng.randrange(len(other))
        return bytes(changed[:at] + other[begin:])
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(min(len(changed), rng.choice((60, len(changed)))))
        if rng.random() < 0.5:
            changed[at] ^= 1 << rng.randrange(8)
        else:
            changed[at : at + rng.choice((1, 1, 2, 4))] = rng.choice((b"\0", b"\xff", b"\x7f", rng.randbytes(4)))
    return bytes(changed)


def _verdict(path: Path) -> str:
    data, status = images.read(path)
    return _judge(data) if status == "ok" else status


def _judge(data: bytes) -> str:
    try:
        image, status = images.decode(data)
    except Exception as error:  # what must not happen: extraction would stop
        return f"it raised {error!r}".replace("\n", " ")
    if (image is None) == (status == "ok") or (image is not None and image.mode != "RGB"):
        return f"it said {status} with {image}"
    return status
