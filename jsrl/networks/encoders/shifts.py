"""Random shifts of images, the augmentation of DrQ and DrQ-v2, from draws that are made outside.

An image is padded by repeating its edges, and a window of its own size is cut out (Kostrikov,
Yarats and Fergus 2020, arXiv 2004.13649, section 3.1). A shift is where the window begins in the
padded image, (row, column), each from 0 to twice the padding; a shift of the padding changes
nothing. The averages over several shifts, K of the target and M of the loss (section 3.2 and
algorithm 1), are taken by ``mean_over_shifts``.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int, Num, UInt8
from torch import Tensor

from jsrl.core.streams import Streams

PAD = 4
"""Rows and columns at each edge, as both papers have for 84×84 pixels."""


def draw_shifts(streams: Streams, name: str, batch: int, pad: int = PAD) -> Int[Tensor, "S B 2"]:
    """Whole shifts for a batch of B images of each seed, uniform on 0 … 2·pad."""
    return streams.integers(name, 2 * pad + 1, (batch, 2))


def draw_fractional_shifts(
    streams: Streams, name: str, batch: int, pad: int = PAD
) -> Float[Tensor, "S B 2"]:
    """Shifts by parts of a pixel, uniform on [0, 2·pad), for ``shift_bilinear``."""
    return 2 * pad * streams.uniform(name, (batch, 2))


def shift(
    images: UInt8[Tensor, "S B C H W"], shifts: Int[Tensor, "S B 2"], pad: int = PAD
) -> UInt8[Tensor, "S B C H W"]:
    """Images moved by whole pixels."""
    return _cut(_windows(images, pad), shifts[..., 0], shifts[..., 1])


def shift_bilinear(
    images: UInt8[Tensor, "S B C H W"], shifts: Num[Tensor, "S B 2"], pad: int = PAD
) -> Float[Tensor, "S B C H W"]:
    """Images moved by parts of a pixel, interpolated between the four pixels around.

    DrQ-v2's published code draws whole shifts and interpolates at them, which moves nothing but
    rounding errors; whole ``shifts`` give exactly what ``shift`` gives here.

    Returns:
        float32 in [0, 255], which the encoders take as they take uint8.
    """
    windows = _windows(images, pad)
    first = shifts.floor().long()
    second = (first + 1).clamp(max=2 * pad)
    share = (shifts - first).to(torch.float32)[..., None, None, None]
    down, right = share[:, :, 0], share[:, :, 1]

    def row(at: Tensor) -> Tensor:
        left = _cut(windows, at, first[..., 1]).float()
        return left + right * (_cut(windows, at, second[..., 1]).float() - left)

    upper = row(first[..., 0])
    return upper + down * (row(second[..., 0]) - upper)


def mean_over_shifts(
    function: Callable[[Tensor], Tensor],
    images: UInt8[Tensor, "S B C H W"],
    shifts: Int[Tensor, "K S B 2"],
    pad: int = PAD,
) -> Tensor:
    """The mean of ``function`` over K shifts of the same images.

    With K = 2 and a function that gives the target values of next observations, it is DrQ's target.
    """
    return torch.stack([function(shift(images, one, pad)) for one in shifts]).mean(0)


def _windows(images: Tensor, pad: int) -> Tensor:
    """A view of all windows of the padded images, ``[S, B, C, 2·pad + 1, 2·pad + 1, H, W]``."""
    height, width = images.shape[-2:]
    # PyTorch has no padding by the edge for uint8.
    rows = torch.arange(-pad, height + pad, device=images.device).clamp(0, height - 1)
    columns = torch.arange(-pad, width + pad, device=images.device).clamp(0, width - 1)
    padded = images.index_select(-2, rows).index_select(-1, columns)
    return padded.unfold(-2, height, 1).unfold(-2, width, 1)


def _cut(windows: Tensor, row: Tensor, column: Tensor) -> Tensor:
    seeds, batch = windows.shape[:2]
    seed = torch.arange(seeds, device=windows.device).unsqueeze(1)
    number = torch.arange(batch, device=windows.device)
    return windows[seed, number, :, row, column]
