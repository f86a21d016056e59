"""The control: the same network with random weights.

Adebayo et al. 2018 (arXiv 1810.03292, section 3): attributions that are about the same for random
weights say nothing of what was learned.
"""

import copy
import math

import torch
from torch import nn

from jsrl.core.streams import Streams
from jsrl.networks.seed_policy import SeedPolicy


@torch.no_grad()
def randomised(network: nn.Module, streams: Streams) -> nn.Module:
    """A copy of a network whose weight matrices and biases are drawn anew.

    Weights are uniform on ±1/√in, as PyTorch draws those of linear layers, and so are biases. What
    has one number for each unit, a gain or the mean of observations, stays as it is.

    Args:
        network: a chain of layers without an axis of seeds, or any module whose matrices are
            ``[out, in]``.
        streams: of one seed (S = 1).
    """
    copied = copy.deepcopy(network)
    assert not isinstance(copied, SeedPolicy)
    for place, layer in copied.named_modules():
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, nn.Parameter) or weight.dim() < 2:
            continue
        bound = 1 / math.sqrt(math.prod(weight.shape[1:]))
        for name, parameter in layer.named_parameters(recurse=False):
            drawn = streams.uniform(f"{place}.{name}", tuple(parameter.shape))[0]
            parameter.copy_((2 * drawn - 1) * bound)
    return copied
