from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from refseg.data.formats.images import read_image


def picture(height=20, width=30):
    array = np.zeros((height, width, 3), dtype=np.uint8)
    array[:, : width // 2] = (200, 30, 60)
    array[: height // 2, width // 2 :] = (20, 180, 90)
    return array


def saved(tmp_path, image, name="x.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_array_pil_and_path_give_the_same(tmp_path):
    array = picture()
    path = saved(tmp_path, Image.fromarray(array))
    for image in (array, Image.fromarray(array), path, str(path)):
        assert np.array_equal(read_image(image), array)


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    path = saved(tmp_path, Image.fromarray(picture()), exif=exif)
    assert np.array_equal(read_image(path), np.rot90(picture(), -1))


def test_transparency_lies_over_white(tmp_path):
    rgba = np.dstack([picture(), np.full((20, 30), 255, np.uint8)])
    rgba[:5, :, 3] = 0
    found = read_image(saved(tmp_path, Image.fromarray(rgba)))
    assert (found[:5] == 255).all() and np.array_equal(found[5:], picture()[5:])


def test_grey_palette_cmyk_sixteen_bit_and_two_level_images(tmp_path):
    image = Image.fromarray(picture())
    grey = read_image(saved(tmp_path, image.convert("L"), "grey.png"))
    assert grey.shape == (20, 30, 3) and (grey[..., 0] == grey[..., 2]).all()
    palette = read_image(saved(tmp_path, image.quantize(16), "palette.png"))
    assert np.abs(palette.astype(int) - picture()).max() < 12
    cmyk = read_image(saved(tmp_path, image.convert("CMYK"), "cmyk.jpg", quality=100, subsampling=0))
    assert np.abs(cmyk.astype(int) - picture()).mean() < 12
    values = (np.arange(20 * 30).reshape(20, 30) * 100).astype(np.uint16)
    deep = read_image(saved(tmp_path, Image.fromarray(values), "deep.png"))
    assert np.abs(deep[..., 0].astype(int) - (values / 257).astype(int)).max() <= 1
    assert read_image(saved(tmp_path, image.convert("1"), "two.png")).shape == (20, 30, 3)


def test_float_and_dark_sixteen_bit_images():
    floats = Image.fromarray(np.full((20, 20), 0.5, dtype=np.float32))
    assert np.abs(read_image(floats).astype(int) - 128).max() <= 1
    dark = Image.fromarray(np.full((20, 20), 200, dtype=np.uint16))  # 8 bits in the room of 16
    with pytest.warns(UserWarning, match="image: 255 is taken for white"):
        assert (read_image(dark) == 200).all()


def test_palette_with_a_transparent_colour(tmp_path):
    image = Image.fromarray(picture()).quantize(4)
    path = saved(tmp_path, image, transparency=image.getpixel((0, 0)))
    assert (read_image(path)[0, 0] == 255).all()


def test_unicode_file_names(tmp_path):
    assert read_image(saved(tmp_path, Image.fromarray(picture()), "Bäume 树.png")).shape == (20, 30, 3)


def truncated(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)))
    path.write_bytes(path.read_bytes()[:3000])
    return path


def bomb(tmp_path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 1, 0, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "none.png", "no such file"),
        (lambda p: p, "a folder"),
        (lambda p: (p / "text.png").write_text("hello") and p / "text.png", "no image"),
        (lambda p: (p / "empty.png").touch() or p / "empty.png", "no image"),
        (truncated, "truncated"),
        (bomb, "too many pixels"),
        (
            lambda p: (p / "broken.dds").write_bytes(b"DDS " + b"\x7c" + b"\xff" * 200) and p / "broken.dds",
            "broken.dds",
        ),
        (lambda p: p / ("x" * 300 + ".png"), "too long"),
        (lambda p: np.zeros((1, 1, 3), np.uint8), "1x1 pixels"),
        (lambda p: np.zeros((5000, 1, 3), np.uint8), "1x5000 pixels"),
        (lambda p: np.zeros((9, 5000, 3), np.uint8), "5000x9 pixels"),
        (lambda p: np.zeros((20, 20, 3)), "float64"),
        (lambda p: b"bytes", "image: no image"),
        (lambda p: {"a": 1}, "image of type dict"),
        (lambda p: np.zeros((20, 20, 2), np.uint8), r"shape \(20, 20, 2\)"),
        (lambda p: np.zeros((0, 0, 3), np.uint8), "empty"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path, make, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_image(make(tmp_path))
    assert "accepted" in str(caught.value)
