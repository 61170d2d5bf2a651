"""Every kind of bad picture that releases hold: its verdict, and the pixels where a naive decoder gets them wrong."""

import io
import os
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cache.kinds import IMAGE_STATUS
from extract import images

RED, SIZE = (220, 30, 40), (32, 24)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(size=SIZE, mode="RGB"):
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8)).convert(mode)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, chunks=(), depth=1, color=0, rows=b""):
    """Return a PNG made by hand; its header may lie about its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(two_colors(), "PNG", exif=exif)


def two_colors():
    picture = Image.new("RGB", (4, 2), "red")
    picture.putpixel((0, 0), (0, 0, 255))
    return picture


JPEG, PNG = encoded(noise(), "JPEG"), encoded(noise(), "PNG")
CASES = {
    "nothing": (b"", "empty"),
    "one byte": (b"x", "not_an_image"),
    "HTML": (b"<!DOCTYPE html><html><body>404</body></html>", "not_an_image"),
    "JSON": (b'{"error": "not found"}', "not_an_image"),
    "PDF": (b"%PDF-1.7\n1 0 obj", "not_an_image"),
    "MP4": (b"\0\0\0\x18ftypmp42" + bytes(64), "not_an_image"),
    "gzip": (b"\x1f\x8b\x08" + bytes(64), "not_an_image"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg"),
    "SVG behind an XML declaration and a comment": (b"\xef\xbb\xbf<?xml version='1.0'?><!-- a --><SVG/>", "svg"),
    "SVG behind a doctype": (b"<!DOCTYPE svg PUBLIC ''><svg/>", "svg"),
    "XML that is no SVG": (b"<?xml version='1.0'?><rss/>", "not_an_image"),
    **{f"JPEG cut at {share} %": (JPEG[: len(JPEG) * share // 100], "corrupt") for share in (5, 10, 50, 90, 99)},
    "JPEG without its end marker": (JPEG[:-2], "corrupt"),
    "progressive JPEG cut": (encoded(noise(), "JPEG", progressive=True)[:-40], "corrupt"),
    "JPEG with a tail of zeros": (JPEG[: len(JPEG) // 2] + bytes(len(JPEG) // 2), "corrupt"),
    "PNG cut": (PNG[: len(PNG) // 2], "corrupt"),
    "PNG of 65 bytes that claims more": (png(100, 100, rows=b"\0\0"), "corrupt"),
    "PNG with a wrong checksum": (PNG.replace(PNG[29:33], b"\0\0\0\0", 1), "corrupt"),
    "PNG of 0 x 0": (png(0, 0), "corrupt"),
    "PNG text bomb": (png(8, 8, [chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(70 << 20)))]), "corrupt"),
    "trailing garbage": (JPEG + b"garbage" * 9, "ok"),
    "CMYK": (encoded(noise(mode="CMYK"), "JPEG"), "ok"),
    "gray": (encoded(noise(mode="L"), "JPEG"), "ok"),
    "one bit": (encoded(noise(mode="1"), "PNG"), "ok"),
    "palette": (encoded(noise(mode="P"), "PNG"), "ok"),
    "LAB": (encoded(noise(mode="LAB"), "TIFF"), "ok"),
    "WebP": (encoded(noise(), "WEBP"), "ok"),
    "BMP": (encoded(noise(), "BMP"), "ok"),
    "TIFF": (encoded(noise(), "TIFF"), "ok"),
    "animated GIF": (encoded(noise(), "GIF", save_all=True, append_images=[Image.new("RGB", SIZE)]), "ok"),
    "broken EXIF": (encoded(noise(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"), "ok"),
    "broken color profile": (encoded(noise(), "JPEG", icc_profile=b"broken" * 40), "ok"),
    "float TIFF": (encoded(Image.new("F", SIZE, 0.5), "TIFF"), "float_image"),
    "one pixel": (encoded(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
    "a line": (encoded(Image.new("RGB", (1, 300)), "PNG"), "too_small"),
    "51 times as wide as high": (encoded(Image.new("RGB", (102, 2)), "PNG"), "too_small"),
    "50 times as wide as high": (encoded(Image.new("RGB", (100, 2)), "PNG"), "ok"),
    "bomb of 102 megapixels": (png(10200, 10000), "too_large"),
    "bomb of 400 megapixels": (png(20000, 20000), "too_large"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported"),
    "PSD": (b"8BPS\0\1" + bytes(40), "unsupported"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(40), "unsupported"),
    "ICO": (encoded(noise((16, 16)), "ICO"), "unsupported"),
    "PPM": (encoded(noise(), "PPM"), "unsupported"),
}


@pytest.mark.parametrize("name", CASES)
def test_verdict(name):
    data, expected = CASES[name]
    image, status = images.decode(data)
    assert status == expected
    assert (image is None) == (status != "ok")
    if image is not None:
        assert image.mode == "RGB" and min(image.size) >= 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_lossless_formats_keep_their_pixels(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert images.decode(encoded(noise(), kind, **options))[0].tobytes() == noise().tobytes()


def test_transparency_is_laid_over_white():
    for mode in ("RGBA", "LA"):
        layer = Image.new(mode, (4, 4), (0, 0, 0, 0) if mode == "RGBA" else (0, 0))
        image, status = images.decode(encoded(layer, "PNG"))
        assert status == "ok" and set(image.get_flattened_data()) == {(255, 255, 255)}
    image, _ = images.decode(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 128)), "PNG"))
    red, green, blue = image.getpixel((0, 0))
    assert red == 255 and abs(green - 127) <= 1 and green == blue


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L"])
def test_transparency_is_the_same_by_strips_as_at_once(mode, monkeypatch):
    picture = noise(mode="RGB" if mode in ("RGB", "L", "P") else "RGBA").convert(mode)
    if picture.mode.endswith("A"):
        picture.putalpha(noise().convert("L"))
    else:
        seen = picture.getpixel((3, 3))
        picture = Image.open(io.BytesIO(encoded(picture, "PNG", transparency=seen)))
        picture.load()
    assert picture.has_transparency_data
    layer = picture.convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    monkeypatch.setattr(images, "STRIP", 3 * SIZE[0])
    assert images._rgb(picture).tobytes() == whole.tobytes()


def test_pixels_are_known_of_a_header_as_decoding_finds_them():
    for data in (encoded(noise(), "JPEG"), encoded(noise(mode="L"), "GIF")):
        assert images.pixels(data) == SIZE[0] * SIZE[1]
    too_large = encoded(noise(), "PNG").replace(struct.pack(">II", *SIZE), struct.pack(">II", 9_000, 9_000))
    for refused in (b"", b"<svg", too_large, encoded(Image.new("RGB", (200, 2)), "PNG")):
        assert images.pixels(refused) == 0 and images.decode(refused)[0] is None


def test_a_transparent_palette_color_is_white():
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.putpixel((0, 0), 0)
    image, _ = images.decode(encoded(picture, "PNG", transparency=1))
    assert image.getpixel((0, 0)) == (0, 0, 0) and image.getpixel((1, 1)) == (255, 255, 255)


def test_sixteen_bit_gray_keeps_its_high_byte():
    values = np.arange(0, 65536, 16, np.uint16).reshape(64, 64)
    for kind in ("PNG", "TIFF"):
        image, status = images.decode(encoded(Image.fromarray(values), kind))
        assert status == "ok"
        np.testing.assert_array_equal(np.asarray(image)[..., 0], values >> 8)


@pytest.mark.parametrize(
    ("orientation", "size", "blue"),
    [(1, (4, 2), (0, 0)), (3, (4, 2), (3, 1)), (6, (2, 4), (1, 0)), (8, (2, 4), (0, 3))],
)
def test_exif_orientation_is_applied(orientation, size, blue):
    image, _ = images.decode(turned(orientation))
    assert image.size == size
    assert image.getpixel(blue) == (0, 0, 255)
    assert sum(pixel == (0, 0, 255) for pixel in image.get_flattened_data()) == 1


def test_the_first_frame_counts():
    data = encoded(Image.new("RGB", SIZE, RED), "GIF", save_all=True, append_images=[Image.new("RGB", SIZE)])
    assert images.decode(data)[0].getpixel((0, 0)) == RED


def test_the_suffix_of_a_file_does_not_matter(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(PNG)
    data, status = images.read(path)
    assert (status, data) == ("ok", PNG)
    assert images.decode(data)[1] == "ok"


def test_a_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert images.read(tmp_path / "pipe.jpg") == (b"", "not_a_file")


def test_what_is_no_readable_file_has_its_reason(tmp_path, monkeypatch):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "file").write_bytes(b"x")
    for name, expected in {
        "folder.jpg": "not_a_file",
        "dangling.jpg": "missing",
        "loop.jpg": "missing",
        "absent.jpg": "missing",
        "file/below.jpg": "missing",
        "n" * 300: "missing",
        "nul\0.jpg": "missing",
        "empty.jpg": "empty",
    }.items():
        assert images.read(tmp_path / name) == (b"", expected), name
    monkeypatch.setattr(images, "MAX_BYTES", 0)
    assert images.read(tmp_path / "file") == (b"", "too_large")


def test_a_fuzzed_picture_gets_a_verdict_and_never_an_exception():
    rng = random.Random(0)
    seeds = [encoded(noise(), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")]
    seen = set()
    for _ in range(500):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(min(len(data), rng.choice([60, 10000])))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(1, len(data)) :]
        image, status = images.decode(bytes(data))
        assert status in IMAGE_STATUS and (image is None) == (status != "ok")
        seen.add(status)
    assert {"ok", "corrupt"} <= seen


def test_memory_errors_are_not_taken_for_damage(monkeypatch):
    def exhausted(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(Image, "open", exhausted)
    with pytest.raises(MemoryError):
        images.decode(PNG)
