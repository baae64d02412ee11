"""Any crop that a team has is read as a viewer shows it, or refused in a few words."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps

from raffect.affwild2.pixels import MAX_PIXELS, UnreadableImageError, read_image
from tests.builders import jpeg

RAMP = np.linspace(0, 65535, 24 * 16).reshape(24, 16).astype(np.uint16)
COLOUR = np.random.default_rng(0).integers(0, 256, (24, 16, 4), dtype=np.uint8)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(kind: int, bits: int, rows: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand, for what Pillow reads and does not write: rows `(height, bytes)`."""
    width = rows.shape[1] * 8 // bits // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    header = struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP"])
def test_lossless_formats_give_their_pixels(form: str):
    data = encoded(
        Image.fromarray(COLOUR[..., :3]), form, **{"lossless": True} if form == "WEBP" else {}
    )
    image = read_image(data)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), COLOUR[..., :3])


def test_a_jpeg_gives_pillows_pixels():
    np.testing.assert_array_equal(read_image(jpeg()), Image.open(io.BytesIO(jpeg())))


def grey_16() -> bytes:
    return png(0, 16, RAMP.astype(">u2").view(np.uint8).reshape(24, -1))


def grey_alpha_16() -> bytes:
    pairs = np.stack([RAMP, np.full_like(RAMP, 777)], 2)
    return png(4, 16, pairs.astype(">u2").view(np.uint8).reshape(24, -1))


def rgb_16() -> bytes:
    three = np.repeat(RAMP[..., None], 3, 2)
    return png(2, 16, three.astype(">u2").view(np.uint8).reshape(24, -1))


@pytest.mark.parametrize("data", [grey_16(), grey_alpha_16(), rgb_16()])
def test_16_bits_are_scaled_to_8(data: bytes):
    found = np.asarray(read_image(data)).astype(float)
    np.testing.assert_allclose(found, np.repeat(RAMP[..., None] / 257, 3, 2), atol=1)


def test_what_is_transparent_keeps_its_colour():
    for form in ("PNG", "WEBP", "BMP"):
        options = {"lossless": True, "exact": True} if form == "WEBP" else {}
        data = encoded(Image.fromarray(COLOUR), form, **options)
        np.testing.assert_array_equal(np.asarray(read_image(data)), COLOUR[..., :3])
    grey = Image.fromarray(COLOUR[..., :2], "LA")
    expected = np.repeat(COLOUR[..., :1], 3, 2)
    np.testing.assert_array_equal(np.asarray(read_image(encoded(grey, "PNG"))), expected)


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 250, 25))])
def test_a_palette_is_looked_up(transparency: object):
    image = Image.fromarray(COLOUR[..., 0] % 10, "P")
    image.putpalette(COLOUR[:, :, :3].tobytes()[:30])
    found = np.asarray(read_image(encoded(image, "PNG", transparency=transparency)))
    palette = np.frombuffer(COLOUR[:, :, :3].tobytes()[:30], np.uint8).reshape(10, 3)
    np.testing.assert_array_equal(found, palette[COLOUR[..., 0] % 10])


def test_one_bit_grey_and_print_colours_become_rgb():
    bits = Image.fromarray(COLOUR[..., 0] > 127)
    expected = np.where(COLOUR[..., :1] > 127, 255, 0).repeat(3, 2)
    for form in ("PNG", "BMP"):
        np.testing.assert_array_equal(np.asarray(read_image(encoded(bits, form))), expected)
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(np.asarray(read_image(encoded(cmyk, "JPEG"))) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_on_its_side_is_turned_upright(form: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(COLOUR[..., :3]), form, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(np.asarray(read_image(data)), np.asarray(expected))
    assert read_image(data).size == ((16, 24) if orientation < 5 else (24, 16))


def test_a_damaged_exif_leaves_the_image_as_it_is_without_a_word():
    plain = Image.fromarray(COLOUR[..., :3])
    bad = b"Exif\0\0II*\0\x08\0\0\0" + b"\xff" * 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(encoded(plain, "JPEG", exif=bad))
    np.testing.assert_array_equal(found, read_image(encoded(plain, "JPEG")))


def test_of_an_animation_it_is_the_first_frame():
    first, second = (Image.fromarray(COLOUR[..., i : i + 3]) for i in (0, 1))
    for form, options in (("WEBP", {"lossless": True}), ("PNG", {})):
        data = encoded(first, form, save_all=True, append_images=[second], **options)
        np.testing.assert_array_equal(np.asarray(read_image(data)), COLOUR[..., :3])


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header alone says this size."""
    data = png(2, 8, np.zeros((1, 3), np.uint8))
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "an empty file"),
        (b"no image", "an unknown format, not a JPEG, PNG, WebP or BMP image"),
        (encoded(Image.new("RGB", (4, 4)), "GIF"), "a GIF image, not a JPEG"),
        (encoded(Image.new("RGB", (4, 4)), "TIFF"), "a TIFF image"),
        (b"\0\0\0\x20ftypisom", "an MP4 video"),
        (jpeg()[:3], "JPEG image, "),
        (jpeg()[:-200], "JPEG image, truncated"),
        (grey_16()[:-300], "PNG image, truncated"),
        (encoded(Image.fromarray(COLOUR[..., :3]), "BMP")[:-20], "BMP image, truncated"),
        (encoded(Image.fromarray(COLOUR[..., :3]), "WEBP")[:-20], "WebP image, "),
        (b"\x89PNG\r\n\x1a\n", "PNG image, "),
        (b"RIFF\x10\0\0\0WEBPVP8 \0\0", "WebP image, "),
        (b"BM\0", "BMP image, "),
        (bomb(20_000, 20_000), "20000 x 20000 pixels, more than the 33,554,432"),
        (bomb(2**31 - 1, 2**31 - 1), "pixels, more than"),
        (bomb(1, 33), "1 x 33 pixels, one side over 32 times the other"),
        (bomb(0, 5), "PNG image, "),
        (encoded(Image.new("L", (7000, 5000)), "JPEG"), "7000 x 5000 pixels"),
    ],
)  # fmt: skip
def test_what_can_not_be_used_is_said_in_a_few_words(data: bytes, why: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnreadableImageError, match=why) as caught:
            read_image(data)
    assert len(str(caught.value)) < 120


def test_a_frame_of_8k_video_is_read():
    assert MAX_PIXELS > 7680 * 4320
    assert read_image(encoded(Image.new("1", (7680, 4320)), "PNG")).size == (7680, 4320)


def test_damaged_bytes_raise_no_other_error_and_no_warning():
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    forms = [
        encoded(Image.fromarray(COLOUR[..., :3]), form, exif=exif)
        for form in ("JPEG", "PNG", "WEBP")
    ]
    forms += [encoded(Image.fromarray(COLOUR[..., :3]), "BMP"), grey_16()]

    def attempt(seed: int) -> None:
        data = bytearray(forms[seed % len(forms)])
        for place in rng.integers(0, len(data), 1 + seed % 7):
            data[place] = seed * 37 % 256
        with contextlib.suppress(UnreadableImageError):
            assert read_image(bytes(data)).mode == "RGB"

    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as seen, ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("always")
        list(pool.map(attempt, range(2000)))
    assert not seen
    assert warnings.filters == before
