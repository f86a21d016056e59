"""Arrays of bytes in memory, or in files that a folder holds."""

import math
import os
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jsrl.core.errors import UserError


def byte_array(shape: tuple[int, ...], directory: Path | None) -> UInt8[np.ndarray, "..."]:
    """Zeros, in memory or mapped from a file.

    The file has no name and vanishes with the process, however it ends. Its whole size is reserved
    at once: a disk that is found full while mapped memory is written to would kill the process.

    Args:
        shape: of the array.
        directory: for the file; made if it is missing. None for memory.

    Raises:
        UserError: if the folder cannot be written to, or has no room.
    """
    size = math.prod(shape)
    if directory is None or size == 0:
        return np.zeros(shape, np.uint8)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            _reserve(file.fileno(), size)
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise UserError(
            f"replay.directory={str(directory)!r} cannot hold {size / 1e9:.3g} GB of images: "
            f"{error.strerror or error}; choose a folder that can be written to and has as much "
            "room, or a smaller replay.capacity, or leave replay.directory out to keep images in "
            "memory"
        ) from error


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    block = bytes(2**20)
    for start in range(0, size, len(block)):
        os.write(descriptor, block[: size - start])
