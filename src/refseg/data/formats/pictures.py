"""Opening picture files of any origin: a closed list of formats, known by their content, and nothing but files.

Pillow knows many more. Some start other programs (PostScript), some are rarely tested, and none of them is what people
have as a photo or a mask.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
ACCEPTED = "a PNG, JPEG, WebP, TIFF, BMP, GIF or PPM file is accepted"
Source = str | Path | bytes | BinaryIO


@contextmanager
def opened(source: Source, name: str, accepted: str = ACCEPTED) -> Iterator[Image.Image]:
    """A picture, of which so far only the header was read; what goes wrong in the block is told as its fault.

    Args:
        source: A path, the bytes of a file, or a file opened for reading bytes.
        name: What messages call it.
        accepted: How messages end.

    Raises:
        ValueError: There is no such file, it is no regular file, of another format, damaged, or has too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(source, str | Path):
                _refuse_what_is_no_file(Path(source))
            stream = io.BytesIO(source) if isinstance(source, bytes) else source
            with Image.open(stream, formats=FORMATS) as picture:
                yield picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{name}: too many pixels; at most {Image.MAX_IMAGE_PIXELS} are accepted") from error
    except FileNotFoundError as error:
        raise ValueError(f"{name}: no such file; {accepted}") from error
    except IsADirectoryError as error:
        raise ValueError(f"{name}: a folder; {accepted}") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{name}: no image of a known format; {accepted}") from error
    except (Refused, Warning):
        raise
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"{name}: damaged, truncated or unreadable image ({reason}); {accepted}") from error


class Refused(ValueError):
    """A picture was read, and is none that can be used; the message is whole."""


def _refuse_what_is_no_file(path: Path) -> None:
    """A pipe or a device would make the reader wait for ever.

    Raises:
        OSError: It is not there, or a folder.
        Refused: It is neither.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError
    if not stat.S_ISREG(mode):
        raise Refused(f"{path}: a pipe or a device, not a file; {ACCEPTED}")
