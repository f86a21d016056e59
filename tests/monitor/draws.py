"""Random samples for tests of the monitor, from generators of their own."""

import torch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(shape, seed, shift=0.0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64) + shift
