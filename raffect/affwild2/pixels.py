"""The one reader of encoded crops: what `prepare` keeps is what an encoder can see.

Without torch, because Ray Data's tasks import it in processes of their own.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from raffect.text import first_line

FORMATS = "JPEG, PNG, WebP or BMP"
MAX_PIXELS = 2**25
"""A frame of 8K video is 7680 x 4320, just below; a decoded one takes 130 MB."""
MAX_ASPECT = 32
"""No face is so long, and scaled to an encoder's height such a strip would fill the memory."""
_READERS: dict[str, tuple[type[ImageFile], bytes]] = {
    "JPEG": (JpegImageFile, b"\xff\xd8\xff"),
    "PNG": (PngImageFile, b"\x89PNG\r\n\x1a\n"),
    "WebP": (WebPImageFile, b"RIFF....WEBP"),
    "BMP": (BmpImageFile, b"BM"),
}
_OTHERS = (
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"....ftyphei", "a HEIC image"),
    (b"....ftypmif1", "a HEIF image"),
    (b"....ftypavi", "an AVIF image"),
    (b"....ftyp", "an MP4 video"),
    (b"....jP  ", "a JPEG 2000 image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"....JXL ", "a JPEG XL image"),
)
_WARNINGS = threading.Lock()


class UnreadableImageError(ValueError):
    """Bytes that are no image which can be used; the message says why in a few words."""


def read_image(data: bytes) -> Image.Image:
    """The upright 8-bit RGB image of an encoded crop, recognised by its content.

    16-bit values are scaled to 8 bits; of an animation it is the first frame. Transparency is
    dropped, as open_clip's `convert("RGB")` drops it: encoders were trained on such pixels.

    Raises:
        UnreadableImageError: It is of another format, damaged, or too large or too long
            (`MAX_PIXELS`, `MAX_ASPECT`), which its header says before anything is decoded.
    """
    name = next((name for name, (_, mark) in _READERS.items() if _begins(data, mark)), None)
    if name is None:
        known = next((what for mark, what in _OTHERS if _begins(data, mark)), None)
        what = known or ("an unknown format" if data else "an empty file")
        raise UnreadableImageError(f"{what}, not a {FORMATS} image")
    try:
        with _no_warnings():
            image = _READERS[name][0](io.BytesIO(data))
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise UnreadableImageError(
                f"{width} x {height} pixels, more than the {MAX_PIXELS:,} of an 8K frame"
            )
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise UnreadableImageError(
                f"{width} x {height} pixels, one side over {MAX_ASPECT} times the other"
            )
        image.load()
        _set_upright(image)
        return _to_rgb(image)
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError:
        raise UnreadableImageError(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # Pillow's decoders raise all kinds of errors on damaged data.
        detail = first_line(error, 80)
        short = re.search("truncated|unpack", detail, re.IGNORECASE)
        why = "truncated" if short else f"damaged: {detail}"
        raise UnreadableImageError(f"{name} image, {why}") from None


def _begins(data: bytes, mark: bytes) -> bool:
    """Whether data begins with a mark, in which a dot stands for any byte."""
    return len(data) >= len(mark) and all(
        want in (got, ord(".")) for got, want in zip(data, mark, strict=False)
    )


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Pillow warns of odd EXIF on the screen; Python's filters are the whole process's."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _set_upright(image: Image.Image) -> None:
    """Turn an image as its EXIF orientation says; a damaged EXIF says nothing about the pixels."""
    with suppress(Exception), _no_warnings():
        ImageOps.exif_transpose(image, in_place=True)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips values above 255 instead of scaling them.
        values = np.asarray(image, np.float32) / 257
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    # Pillow would convert, and warn of what is dropped.
    image.info.pop("transparency", None)
    return image.convert("RGB")
