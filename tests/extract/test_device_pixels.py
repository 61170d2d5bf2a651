"""Pictures made as large as they are read on the device (--pixels device), beside Pillow's, and cut there."""

import numpy as np
import pytest
import torch
from PIL import Image

from bench.encoding import padding
from bench.encoding.pictures import drawn
from bench.measuring.crossings import Crossings, device
from cache.names import PartName
from common.errors import ConfigError
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.encoders.detector import _padded
from extract.encoders.pixels import DevicePixels, Picture, short_side

SIZES = ((80, 60), (60, 80), (64, 64), (300, 40), (7, 5), (224, 224))
CPU = torch.device("cpu")


def encoders(pixels):
    return Encoders(ExtractConfig(weights="random-tiny", device="cpu", text_batch=4, image_batch=4, pixels=pixels))


@pytest.fixture(scope="module")
def both():
    return {pixels: encoders(pixels) for pixels in ("host", "device")}


def pillow(image, size):
    """Return Pillow's resize of a picture on floats, (3, H, W)."""
    channels = [Image.fromarray(np.asarray(image, np.float32)[..., k]) for k in range(3)]
    return np.stack([np.asarray(channel.resize(size, Image.Resampling.BICUBIC)) for channel in channels])


@pytest.mark.parametrize("size", SIZES)
def test_the_device_resizes_as_pillow_does_on_floats(size):
    image = drawn(1, size)
    whole = DevicePixels(lambda height, width: (64, 64), lambda: 64, (0.0,) * 3, (1.0,) * 3)
    expected = pillow(image, (64, 64)).clip(0, 255) / 255
    np.testing.assert_allclose(whole.batch([image], CPU)[0], expected, atol=2e-5)
    middle = DevicePixels(short_side(32), lambda: 32, (0.0,) * 3, (1.0,) * 3)
    short = min(size)
    made = pillow(image, tuple(int(32 * side / short) for side in size)).clip(0, 255) / 255
    top, left = (round((length - 32) / 2) for length in made.shape[1:])
    np.testing.assert_allclose(middle.batch([image], CPU)[0], made[:, top : top + 32, left : left + 32], atol=2e-5)


def test_vectors_are_near_to_those_of_the_papers_way_and_their_recipes_are_others(both):
    image = Image.fromarray(np.tile(np.linspace(0, 255, 120, dtype=np.uint8)[None, :, None], (90, 1, 3)))
    for role in ("image", "joint"):
        one, other = (found.by_role[role] for found in both.values())
        assert one.recipe != other.recipe
        kind = {"image": "vector", "joint": "image"}[role]
        host, device_ = (e.columns([image], [role])[role][kind][0] for e in (one, other))
        assert host @ device_ / np.linalg.norm(host) / np.linalg.norm(device_) > 0.999 and (host != device_).any()
    assert both["host"].objects.recipe != both["device"].objects.recipe


def test_objects_do_not_depend_on_the_pictures_beside_and_their_crops_are_cut_on_the_device(both):
    objects = both["device"].objects
    images = [Picture(drawn(i, size)) for i, size in enumerate(SIZES[:4])]
    together, alone = objects.encode(images), [objects.encode([image]) for image in images]
    for name, values in together.items():
        for row, one in enumerate(alone):
            np.testing.assert_allclose(values[row], one[name][0], atol=2e-4, err_msg=name)
    crop = images[0].cut(3, 5, 40, 50)
    assert crop.size == (37, 45) and crop.there.data_ptr() == images[0].there[5:, 3:].data_ptr()
    on_host = Picture(images[0].image).cut(3, 5, 40, 50)
    vectors = both["device"].image.encode([crop, on_host])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


def test_what_a_picture_is_padded_to_is_what_torchvision_pads_it_to(both):
    transform = both["device"].objects._model.transform
    for size in (*SIZES, (641, 480), (333, 500), (1000, 51)):
        made, _ = transform([torch.zeros(3, size[1], size[0])])
        assert tuple(made.tensors.shape[2:]) == _padded(*size, transform)[::-1]


def test_padding_is_counted_as_what_is_read_beside_pictures_and_texts():
    """Pictures of 800 x 800 are read as they are, or in 896 x 896; beside one of 1600 x 800 (1333 x 666) in 1344."""
    square = padding.pictures([(800, 800)], 4)
    assert square == {"together": 0, "padded alike": pytest.approx(1 - (800 / 896) ** 2)}
    [both] = {padding.pictures([(800, 800)] * 9 + [(1600, 800)], 99)["together"]}
    assert 1 - 800 / 1344 > both > 1 - 800 / 1344 - 0.1
    assert padding.texts([1, 3, 3, 1], 2) == {"in order": 1 - 8 / 12, "by length": 0}


def test_all_encoders_of_a_batch_share_one_copy_of_its_pictures():
    found = encoders("device")
    object.__setattr__(found.compute, "device", device())
    with torch.inference_mode(), Crossings() as counted:
        for _ in range(2):
            images = [Picture(drawn(i, (80, 60 + i))) for i in range(4)]
            counted.clear()
            finish = [found.launched(images, [PartName(f"entity.{kind}")]) for kind in ("image", "joint", "objects")]
            made = [wait() for wait in finish]
    pictures = sum(3 * 80 * (60 + i) for i in range(4))
    assert len(made) == 3 and counted.fetched == 1 + 1 + 1 + 3  # crops in three batches
    assert pictures <= counted.sent_bytes < pictures + 2000  # torchvision's own numbers; no crop is sent


def test_pixels_of_the_device_are_for_the_papers_encoders():
    with pytest.raises(ConfigError, match="--pixels device with --image"):
        ExtractConfig(pixels="device", image="resnet50")
    ExtractConfig(pixels="device", detector="v2", text="name")
