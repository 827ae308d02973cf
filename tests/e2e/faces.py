"""A real image model, small enough for a test: a DCGAN of faces, 64 × 64 pixels, on one core with NumPy.

The weights are those of gan_face_generate (MIT), trained on DigiFace1M. Its package wants PyTorch; the file needs none:
a zip of raw arrays, in the order of the layers.
"""

import struct
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
WIDTHS = (100, 512, 256, 128, 64, 3)  # channels between the layers
ARRAYS_A_LAYER = 6  # the kernel; the norm's scale, shift, mean, variance, and a count that nobody needs
EPSILON = 1e-5
SIDE = 64


class Faces:
    """Makes faces; the same seed makes the same one."""

    def __init__(self, wheel: Path) -> None:
        with (
            zipfile.ZipFile(wheel) as packed,
            packed.open("gan_face_generate/weights.tar") as inner,
            zipfile.ZipFile(inner) as weights,
        ):

            def array(number: int, *shape: int) -> Array:
                return np.frombuffer(weights.read(f"weights/data/{number}"), "<f4").reshape(shape)

            self._kernels = []
            self._norms = []
            for layer, (channels, made) in enumerate(pairwise(WIDTHS)):
                first = layer * ARRAYS_A_LAYER
                self._kernels.append(array(first, channels, made * 16))
                if made != WIDTHS[-1]:
                    self._norms.append([array(first + 1 + part, made, 1, 1) for part in range(4)])

    def make(self, seed: int) -> bytes:
        """Return a face as PNG."""
        x: Array = np.random.default_rng(seed).standard_normal((WIDTHS[0], 1, 1), dtype=np.float32)
        for layer, kernel in enumerate(self._kernels):
            x = _upwards(x, kernel, stride=1 if layer == 0 else 2)
            if layer < len(self._norms):
                scale, shift, mean, variance = self._norms[layer]
                x = np.maximum((x - mean) / np.sqrt(variance + EPSILON) * scale + shift, 0)
        return png(np.rint((np.tanh(x) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0))


def _upwards(x: Array, kernel: Array, stride: int) -> Array:
    """Return a transposed convolution with a kernel of 4 × 4: twice the size at stride 2, from 1 × 1 at stride 1."""
    channels, height, width = x.shape
    parts = (x.reshape(channels, -1).T @ kernel).reshape(height, width, -1, 4, 4)
    out = np.zeros((parts.shape[2], stride * (height - 1) + 4, stride * (width - 1) + 4), np.float32)
    for row in range(4):
        for column in range(4):
            part = parts[..., row, column].transpose(2, 0, 1)
            out[:, row : row + stride * height : stride, column : column + stride * width : stride] += part
    return out if stride == 1 else out[:, 1:-1, 1:-1]


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image of height × width × 3 as PNG."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels of an image that `png` wrote."""
    width, height = struct.unpack(">II", data[16:24])
    (length,) = struct.unpack(">I", data[33:37])
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8).reshape(height, 1 + width * 3)
    return rows[:, 1:].reshape(height, width, 3)
