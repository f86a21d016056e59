"""Three ways to convolve the images of S seeds with a kernel each: how fast, and how they round.

``python -m jsrl.benchmark.convolutions`` prints the table of ``results/benchmark/encoders.md``. It
takes some minutes, on one thread. Each row is a forward and a backward of an encoder's
convolutions.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.benchmark.results import cpu_name
from jsrl.benchmark.timing import interleaved, ratio
from jsrl.core.streams import Streams
from jsrl.networks.encoders import encoders
from jsrl.networks.encoders.convolution import SeedConv2d
from jsrl.run.summary import versions

SECONDS = 0.25
"""How long each way is timed in a small batch; a large one is timed three times."""

MOST_PIXELS = {"impala": 5 * 32 * 64 * 64, "drq": 2 * 256 * 64 * 64}
"""Of an encoder's images of all seeds; more take minutes a row, or many gigabytes when unfolded."""

KINDS = tuple(name for name in encoders.names() if name != "none")

EXPLANATION = """\
Times are of a forward and a backward, relative to the loop in the same round (medians over rounds).
The last columns say whether every seed's outputs and gradients are bitwise those that it has alone
(where the two differ: outputs, gradients). With one seed, the loop and a grouped convolution
are the same work: how far their ratio is from 1 is noise."""


class GroupedConv2d(SeedConv2d):
    """One grouped convolution: the channels of all seeds side by side."""

    def forward(self, x: Float[Tensor, "S B in H W"]) -> Float[Tensor, "S B out H2 W2"]:
        beside = x.transpose(0, 1).flatten(1, 2)
        weight, bias = self.weight.flatten(0, 1), self.bias.flatten()
        out = nn.functional.conv2d(
            beside, weight, bias, self.stride, self.padding, groups=len(self.weight)
        )
        return out.unflatten(1, self.bias.shape).transpose(0, 1)


class UnfoldedConv2d(SeedConv2d):
    """Every patch as a column, and one batched matrix product."""

    def forward(self, x: Float[Tensor, "S B in H W"]) -> Float[Tensor, "S B out H2 W2"]:
        seeds, batch, _, height, _ = x.shape
        kernel = self.weight.shape[-1]
        columns = nn.functional.unfold(
            x.flatten(0, 1), kernel, padding=self.padding, stride=self.stride
        )
        weight = self.weight.flatten(2).unsqueeze(1).expand(-1, batch, -1, -1)
        out = torch.bmm(weight.flatten(0, 1), columns).unflatten(0, (seeds, batch))
        rows = (height + 2 * self.padding - kernel) // self.stride + 1
        return (out + self.bias[:, None, :, None]).unflatten(-1, (rows, -1))


WAYS: dict[str, type[SeedConv2d]] = {
    "loop": SeedConv2d,
    "grouped": GroupedConv2d,
    "unfold and bmm": UnfoldedConv2d,
}


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        kind: the encoder.
        shape: channels, height and width.
        batch: B.
        seeds: S.
    """

    kind: str
    shape: tuple[int, int, int]
    batch: int
    seeds: int


def all_cases() -> Iterator[Case]:
    """What is measured: all combinations but those above ``MOST_PIXELS``."""
    shapes = ((3, 64, 64), (5, 84, 84))
    for kind, shape, batch, seeds in product(KINDS, shapes, (1, 32, 256), (1, 2, 5)):
        pixels = seeds * batch * shape[1] * shape[2]
        if pixels <= MOST_PIXELS.get(kind, pixels):
            yield Case(kind, shape, batch, seeds)


def convolutions(
    kind: str, shape: tuple[int, int, int], seeds: Iterable[int], way: str
) -> nn.Module:
    """The convolutions of an encoder with weights of these seeds, done in one of the ways."""
    seeds = list(seeds)
    made = encoders[kind].make(encoders[kind].options(kind=kind), len(seeds), shape)
    made.initialise(Streams(seeds), "encoder")
    _replace(made.convolutions, WAYS[way])
    return made.convolutions


def forward_and_backward(module: nn.Module, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output, and the gradients of all parameters."""
    out = module(x)
    return out, torch.autograd.grad(out.square().sum(), list(module.parameters()))


def same_alone(case: Case, way: str, x: Tensor) -> tuple[bool, bool]:
    """Whether outputs, and gradients, of every seed are bitwise those that it has alone."""
    out, gradients = forward_and_backward(
        convolutions(case.kind, case.shape, range(case.seeds), way), x
    )
    forward = backward = True
    for seed in range(case.seeds):
        alone = convolutions(case.kind, case.shape, [seed], way)
        own, theirs = forward_and_backward(alone, x[seed : seed + 1].clone())
        forward &= torch.equal(out[seed : seed + 1], own)
        pairs = zip(gradients, theirs, strict=True)
        backward &= all(torch.equal(a[seed : seed + 1], b) for a, b in pairs)
    return forward, backward


def measure(case: Case, seconds: float = SECONDS) -> str:
    """A row of the table."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(case.seeds, case.batch, *case.shape, generator=generator)
    cells = [case.kind, "×".join(map(str, case.shape)), str(case.batch), str(case.seeds)]
    bitwise = {way: same_alone(case, way, x) for way in WAYS}

    def timed(way: str) -> Callable[[], object]:
        module = convolutions(case.kind, case.shape, range(case.seeds), way)
        return lambda: forward_and_backward(module, x)

    # Each has been called already, so that nothing is timed that is done only once.
    calls = 1 if case.batch > 1 else None
    times = interleaved({way: timed(way) for way in WAYS}, seconds, calls=calls)
    cells += [f"{ratio(times[way], times['loop']):.2f}" for way in WAYS if way != "loop"]
    words = {True: "same", False: "differs"}
    cells += [
        words[forward] if forward == backward else f"{words[forward]}, {words[backward]}"
        for forward, backward in bitwise.values()
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table, row by row."""
    torch.set_num_threads(1)
    used = ", ".join(f"{name} {value}" for name, value in versions().items())
    print("# Convolutions of S seeds: in a loop, grouped, or unfolded\n")
    print(f"`python -m jsrl.benchmark.convolutions`\n\n{cpu_name()}, 1 thread; {used}\n")
    print(f"{EXPLANATION}\n")
    times = [f"{way}, time" for way in WAYS if way != "loop"]
    bitwise = [f"{way}, bitwise" for way in WAYS]
    print("| " + " | ".join(["encoder", "image", "batch", "seeds", *times, *bitwise]) + " |")
    print("|---|---|--:|--:|--:|--:|---|---|---|", flush=True)
    for case in all_cases():
        print(measure(case, SECONDS if case.batch <= 32 else 0.0), flush=True)


def _replace(module: nn.Module, way: type[SeedConv2d]) -> None:
    for name, child in module.named_children():
        if isinstance(child, SeedConv2d):
            seeds, out_channels, in_channels, kernel, _ = child.weight.shape
            other = way(seeds, in_channels, out_channels, kernel, child.stride, child.padding)
            other.load_state_dict(child.state_dict())
            setattr(module, name, other)
        else:
            _replace(child, way)


if __name__ == "__main__":
    main()
