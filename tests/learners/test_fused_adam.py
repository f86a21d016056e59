import copy

import numpy as np
import pytest
import torch

from jsrl.learners import fused_adam
from jsrl.learners.common import SeedOptimiser

# Sizes that fill whole vector registers, and one that leaves a rest.
SHAPES = [(3, 16, 8), (3, 5), (3, 7, 3)]
RATE, STEPS = 3e-3, 50
FEW_ROUNDINGS = {"rtol": 2e-6, "atol": 2e-7}
"""float32 keeps 1.2e-7 of a number; fifty steps of a few roundings each stay below this."""


def problem():
    """Parameters, and the gradients of every step: large ones, small ones and zeros."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(shape, generator=generator) for shape in SHAPES]
    gradients = [
        [torch.randn(shape, generator=generator) * 10.0 ** (step % 7 - 4) for shape in SHAPES]
        for step in range(STEPS)
    ]
    for tensor in gradients[5]:
        tensor.zero_()
    return parameters, gradients


def after(step_of, parameters, gradients):
    """Parameters and averages after all steps; ``step_of(tensors, gradients, t)`` makes one."""
    own = [p.clone() for p in parameters]
    first, second = ([torch.zeros_like(p) for p in own] for _ in range(2))
    for t, now in enumerate(gradients, start=1):
        step_of((own, now, first, second), t)
    return [*own, *first, *second]


def fused(tensors, t):
    fused_adam.fused_step(*tensors, torch.tensor(float(t)), RATE)


def elementwise(tensors, t):
    size, scale = RATE / (1 - 0.9**t), 1 / np.sqrt(1 - 0.999**t)
    fused_adam.elementwise_step(*tensors, torch.tensor(size), torch.tensor(float(scale)))


def by_the_paper(parameters, gradients):
    """Algorithm 1 of Kingma and Ba (2015) in float64."""
    found = []
    for i, parameter in enumerate(parameters):
        x = parameter.numpy().astype(np.float64)
        m, v = np.zeros_like(x), np.zeros_like(x)
        for t, now in enumerate(gradients, start=1):
            g = now[i].numpy().astype(np.float64)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            x = x - RATE * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        found.append(torch.from_numpy(x).float())
    return found


needs_the_kernel = pytest.mark.skipif(
    not fused_adam.FUSED_KERNEL_IS_KNOWN, reason="this PyTorch's fused Adam is not known"
)


@needs_the_kernel
def test_the_fallback_gives_what_the_fused_kernel_gives_up_to_rounding():
    parameters, gradients = problem()
    expected = after(fused, parameters, gradients)
    for one, other in zip(after(elementwise, parameters, gradients), expected, strict=True):
        torch.testing.assert_close(one, other, **FEW_ROUNDINGS)


@pytest.mark.parametrize("step_of", [pytest.param(fused, marks=needs_the_kernel), elementwise])
def test_both_are_adam_as_in_the_paper_and_in_pytorch(step_of):
    parameters, gradients = problem()
    own = after(step_of, parameters, gradients)[: len(SHAPES)]
    others = [torch.nn.Parameter(p.clone()) for p in parameters]
    adam = torch.optim.Adam(others, RATE)
    for now in gradients:
        for parameter, gradient in zip(others, now, strict=True):
            parameter.grad = gradient.clone()
        adam.step()
    paper = by_the_paper(parameters, gradients)
    for one, pytorch, expected in zip(own, others, paper, strict=True):
        torch.testing.assert_close(one, pytorch.detach(), **FEW_ROUNDINGS)
        torch.testing.assert_close(one, expected, **FEW_ROUNDINGS)


@pytest.mark.parametrize(
    ("version", "known"),
    [
        *(("2.5.1", False), ("2.6.0", True), ("2.13.0+cpu", True), ("2.13.0a0+git1", True)),
        *(("2.14.0", False), ("3.0", False), ("unknown", False)),
    ],
)
@needs_the_kernel
def test_the_kernel_is_used_with_the_versions_that_are_known_alone(version, known):
    assert fused_adam.fused_kernel_is_known(version) == known


@needs_the_kernel
def test_a_kernel_that_takes_other_arguments_is_not_used(monkeypatch):
    monkeypatch.setattr(fused_adam, "ARGUMENTS", fused_adam.ARGUMENTS[:-1])
    assert not fused_adam.fused_kernel_is_known(torch.__version__)


def descended(parameters, gradients, seeds):
    """The parameters of chosen seeds after an optimiser has descended these gradients."""
    own = [torch.nn.Parameter(p[seeds].clone()) for p in parameters]
    optimiser = SeedOptimiser({"all": own}, RATE, len(seeds))
    for now in gradients:
        optimiser.prepare("all")
        # The gradient of a product with a constant is that constant.
        products = [(p * g[seeds]).flatten(1).sum(1) for p, g in zip(own, now, strict=True)]
        optimiser.descend(torch.stack(products).sum(0), "all")
    return [p.detach() for p in own]


def test_an_optimiser_without_the_kernel_descends_alike_and_seeds_stay_apart(monkeypatch):
    parameters, gradients = problem()
    with_kernel = descended(parameters, gradients, [0, 1, 2])

    def refuse(*_):
        raise AssertionError("the fused kernel was used")

    monkeypatch.setattr(fused_adam, "FUSED_KERNEL_IS_KNOWN", False)
    monkeypatch.setattr(fused_adam, "fused_step", refuse)
    without = descended(parameters, gradients, [0, 1, 2])
    for one, other in zip(without, with_kernel, strict=True):
        torch.testing.assert_close(one, other, **FEW_ROUNDINGS)
    for seed in range(3):
        alone = descended(copy.deepcopy(parameters), gradients, [seed])
        for one, other in zip(alone, without, strict=True):
            assert torch.equal(one[0], other[seed])
