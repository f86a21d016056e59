"""The time of an IQL update if only its matrix products took any."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from jsrl.benchmark.problem import Sizes


@dataclass(frozen=True)
class Product:
    """``count`` products ``[m, k] @ [k, n]``, with the operands transposed as they come."""

    count: int
    m: int
    k: int
    n: int
    transpose_left: bool = False
    transpose_right: bool = False

    @property
    def flops(self) -> int:
        return 2 * self.count * self.m * self.k * self.n

    def prepare(self) -> Callable[[], object]:
        """The product as a call, with operands and output in place."""
        left = _operand(self.count, self.m, self.k, self.transpose_left)
        right = _operand(self.count, self.k, self.n, self.transpose_right)
        out = torch.empty(self.count, self.m, self.n)
        if self.count == 1:
            return lambda: torch.bmm(left, right, out=out)
        # One by one: on some CPUs faster than a batched product of few matrices.
        parts = list(zip(left, right, out, strict=True))
        return lambda: [torch.mm(x, w, out=y) for x, w, y in parts]


def iql_products(sizes: Sizes) -> list[Product]:
    """The products of one update, in order: target critic, V, new V(s) and V(s'), critic, actor."""
    state, state_action = sizes.observation, sizes.observation + sizes.action
    return [
        *_forward(sizes, 2, state_action, 1),
        *_forward(sizes, 1, state, 1),
        *_backward(sizes, 1, state, 1),
        *_forward(sizes, 1, state, 1),
        *_forward(sizes, 1, state, 1),
        *_forward(sizes, 2, state_action, 1),
        *_backward(sizes, 2, state_action, 1),
        *_forward(sizes, 1, state, sizes.action),
        *_backward(sizes, 1, state, sizes.action),
    ]


def make_roofline(sizes: Sizes) -> Callable[[], object]:
    """All products of one update, one after the other."""
    products = [product.prepare() for product in iql_products(sizes)]

    def run() -> None:
        for product in products:
            product()

    return run


def _forward(sizes: Sizes, nets: int, inputs: int, outputs: int) -> list[Product]:
    b, h = sizes.batch, sizes.hidden
    return [Product(nets, b, inputs, h), Product(nets, b, h, h), Product(nets, b, h, outputs)]


def _backward(sizes: Sizes, nets: int, inputs: int, outputs: int) -> list[Product]:
    """Gradients of weights, and of the inputs of all layers but the first."""
    b, h = sizes.batch, sizes.hidden
    return [
        Product(nets, h, b, outputs, transpose_left=True),
        Product(nets, b, outputs, h, transpose_right=True),
        Product(nets, h, b, h, transpose_left=True),
        Product(nets, b, h, h, transpose_right=True),
        Product(nets, inputs, b, h, transpose_left=True),
    ]


def _operand(count: int, rows: int, columns: int, transposed: bool) -> torch.Tensor:
    if transposed:
        return torch.randn(count, columns, rows).mT
    return torch.randn(count, rows, columns)
