"""Draws of libraries that ask PyTorch's own generator for them."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def draws_from(generator: np.random.Generator | None) -> Iterator[None]:
    """Let ``generator`` decide, for as long as this lasts, what PyTorch draws on the CPU.

    PyTorch's own generator is put back afterwards, so that nobody else's draws change.

    Args:
        generator: one integer is drawn from it; None for the same draws at every call.
    """
    seed = 0 if generator is None else int(generator.integers(2**63 - 1))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
