"""Compares single updates of jsrl's offline learners with those of d3rlpy.

Both libraries begin with equal weights, and get equal minibatches and equal noise. What the
docstring of ``compare_with_d3rlpy.py`` lists as different is first switched off, in d3rlpy or in
jsrl: then 200 updates should leave equal weights. Each case is repeated from five initial weights,
since a value that rounding puts on the other side of a ReLU's bend may tear them apart. A second
case of CQL and Cal-QL leaves the differences as they are, to show how much they matter.

IQL has three cases. With ``value_first=false`` jsrl's critics learn, as d3rlpy's, from the value
before its step, but so do the actor's weights, which d3rlpy takes from the value after it: critics
and value should be equal. With ``value_first=true`` the actor should be equal after one update; the
last case goes on from there.

It needs both libraries in one environment. d3rlpy asks for an older Gymnasium, but works without:

    pip install --no-deps d3rlpy==2.8.1 gym==0.26.2 gym-notices
    pip install structlog colorama dataclasses-json tqdm click h5py scikit-learn
    python scripts/equal_updates_with_d3rlpy.py
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from typing import Any
from unittest.mock import patch

import d3rlpy
import torch
from d3rlpy.algos.qlearning.torch import awac_impl, sac_impl
from d3rlpy.models import VectorEncoderFactory
from d3rlpy.models.torch import build_gaussian_distribution
from d3rlpy.torch_utility import TorchMiniBatch
from torch import Tensor, nn

from jsrl.core.observations import Observation
from jsrl.core.protocols import Draws, Phase
from jsrl.core.specs import BoxActions, ObservationSpec, VectorPart
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners import LearnerInputs, learners

UPDATES, B, SEEN, A, HIDDEN, DISCOUNT = 200, 64, 3, 2, [32, 24], 0.99
OBSERVATION = ObservationSpec((VectorPart((), (SEEN,)),))
INITIAL_WEIGHTS = range(5)
ACTIONS = BoxActions((-1.0,) * A, (1.0,) * A, (A,))


@dataclass(frozen=True)
class Case:
    """A learner of both libraries, with what is switched off in either.

    Args:
        ours: jsrl's.
        options: of it, where they differ from its defaults.
        theirs: the name in d3rlpy.
        settings: its keywords, where they differ from its defaults.
        log_std: what d3rlpy's logarithm of the standard deviation is fixed at; None: it is learnt.
        noise: what d3rlpy draws, in that order, from the draws of jsrl's update.
        first: the number of the first update in d3rlpy.
        learns_temperature: whether jsrl's temperature moves.
        updates: of both.
    """

    ours: str
    options: dict[str, Any]
    theirs: str
    settings: dict[str, Any] = field(default_factory=dict)
    log_std: float | None = None
    noise: Callable[[Draws], list[Tensor]] = lambda draws: []
    first: int = 0
    learns_temperature: bool = True
    updates: int = UPDATES


def noise_of_cql(draws: Draws) -> list[Tensor]:
    """d3rlpy has the samples of a state in front: ``(n, B, A)``."""
    policy = [draws[name][0].transpose(0, 1) for name in ("next_noise", "sampled_noise")]
    later = draws["next_sampled_noise"][0].transpose(0, 1)
    return [*policy, later, draws["uniform_actions"][0].flatten(0, 1), draws["noise"][0]]


CONSERVATIVE: dict[str, Any] = {"max_target_backup": True, "actor_learning_rate": 1e-4}
CONSERVATIVE_SETTINGS: dict[str, Any] = {"max_q_backup": True, "alpha_threshold": 0.8}
MULTIPLIED = {"alpha_learning_rate": 3e-4, "initial_alpha": math.e}
FIXED = {"alpha_learning_rate": 0.0, "temp_learning_rate": 0.0}
IQL_SETTINGS = {"expectile": 0.9, "weight_temp": 1.0}
IQL: dict[str, Any] = {
    "actor_schedule": "constant",
    "temperature": 1.0,
    "log_std_range": [0.0, 0.0],
}

CASES = {
    "BC, standard deviation of 1": Case(
        "bc", {"actor_schedule": "constant", "log_std_range": [0.0, 0.0]}, "BC", {}
    ),
    "IQL, standard deviation of 1, the value last in jsrl": Case(
        "iql", {**IQL, "value_first": False}, "IQL", IQL_SETTINGS, log_std=0.0
    ),
    "IQL, standard deviation of 1, one update": Case(
        "iql", IQL, "IQL", IQL_SETTINGS, log_std=0.0, updates=1
    ),
    "IQL, standard deviation of 1": Case("iql", IQL, "IQL", IQL_SETTINGS, log_std=0.0),
    "AWAC, standard deviation of 1/e, no entropy, the policy's own samples, mean loss": Case(
        "awac",
        {"log_std_range": [-1.0, -1.0]},
        "AWAC",
        log_std=-1.0,
        noise=lambda draws: [draws["next_noise"][0], draws["noise"]],
    ),
    "TD3+BC, the same updates of the actor": Case(
        "td3_bc", {}, "TD3PlusBC", noise=lambda draws: [draws["noise"][0]], first=1
    ),
    **{
        f"{theirs}{what}": Case(
            ours,
            CONSERVATIVE | options,
            theirs,
            CONSERVATIVE_SETTINGS | settings,
            noise=noise_of_cql,
            learns_temperature=not what,
        )
        for ours, theirs in (("cql", "CQL"), ("cal_ql", "CalQL"))
        for what, options, settings in (
            (", factor and temperature of 1", {}, FIXED),
            ("", {"target_gap": 0.8}, MULTIPLIED),
        )
    },
}


def our_learner(case: Case) -> Any:
    kind = learners[case.ours]
    options = kind.options(kind=case.ours, hidden=HIDDEN, batch_size=B, **case.options)
    inputs = LearnerInputs(Streams([0]).child("equal"), OBSERVATION, ACTIONS, torch.device("cpu"))
    learner: Any = kind.make(options, inputs)
    learner.start_phase(Phase.OFFLINE, case.updates)
    return learner


def their_learner(case: Case) -> Any:
    kind = getattr(d3rlpy.algos, f"{case.theirs}Config")
    names = [f.name for f in fields(kind) if f.name.endswith("encoder_factory")]
    encoders = dict.fromkeys(names, VectorEncoderFactory(HIDDEN))
    rates = {"learning_rate": 3e-4} if case.ours == "bc" else {}
    learner = kind(batch_size=B, **encoders, **rates, **case.settings).create(device="cpu")
    learner.create_impl((SEEN,), A)
    if case.log_std is not None:
        policy = learner.impl.modules.policy
        policy._min_logstd = policy._max_logstd = case.log_std
    if case.ours == "awac":
        for parameter in learner.impl.modules.log_temp.parameters():
            parameter.data.fill_(-math.inf)
    return learner


def pairs(ours: Any, theirs: Any) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Every parameter of ours, targets included, with the one of theirs in the same shape."""
    modules = theirs.impl.modules
    if not hasattr(ours, "networks"):
        yield from of_layers("actor", ours.actor.mlp, modules.imitator)
        return
    networks = ours.networks
    yield from of_layers("actor", networks.actor.mlp, modules.policy)
    for name in ("critic", "target_critic"):
        critics = modules.q_funcs if name == "critic" else modules.targ_q_funcs
        for k, critic in enumerate(critics):
            yield from of_layers(name, getattr(networks, name), critic, k)
    if hasattr(networks, "value"):
        yield from of_layers("value", networks.value, modules.value_func)
    if hasattr(networks, "target_actor"):
        yield from of_layers("target_actor", networks.target_actor.mlp, modules.targ_policy)


def of_layers(
    name: str, ours: nn.Module, theirs: nn.Module, *member: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Of one perceptron; d3rlpy's SAC has two output layers where jsrl's has one."""
    linear = [module for module in theirs.modules() if isinstance(module, nn.Linear)]
    hidden, output = linear[: len(HIDDEN)], linear[len(HIDDEN) :]
    layers: list[Any] = [layer for layer in ours.children() if hasattr(layer, "weight")]
    for own, found in zip(layers, [*([x] for x in hidden), output], strict=True):
        yield name, own.weight[0, *member], torch.cat([x.weight for x in found]).T
        yield name, own.bias[0, *member].flatten(), torch.cat([x.bias for x in found])


def minibatch(streams: Streams) -> tuple[TransitionBatch, TorchMiniBatch]:
    """The same random transitions for both, some of which end their episode."""
    seen, later = streams.normal("observations", (B, SEEN)), streams.normal("later", (B, SEEN))
    actions, rewards = 2 * streams.uniform("actions", (B, A)) - 1, streams.normal("rewards", (B,))
    ended, returns = (streams.uniform("ends", (B,)) < 0.1).float(), streams.normal("returns", (B,))
    zeros = torch.zeros(1, B)
    ours = TransitionBatch(
        Observation(seen),
        actions,
        rewards,
        DISCOUNT * (1 - ended),
        Observation(later),
        ended,
        *(zeros, zeros, zeros, zeros),
        return_to_go=returns,
    )
    column = [x[0, :, None] for x in (rewards, returns, ended)]
    theirs = TorchMiniBatch(
        observations=seen[0],
        actions=actions[0],
        rewards=column[0],
        next_observations=later[0],
        next_actions=actions[0],
        returns_to_go=column[1],
        terminals=column[2],
        intervals=torch.ones(B, 1),
        device="cpu",
    )
    return ours, theirs


class GivenNoise(ExitStack):
    """While it is entered, d3rlpy draws what is given, in that order.

    Args:
        noise: in the shapes that it asks for.
    """

    def __init__(self, noise: list[Tensor]) -> None:
        super().__init__()
        self.noise = list(noise)

    def __enter__(self) -> "GivenNoise":
        super().__enter__()
        normal = "torch.distributions.normal._standard_normal"
        self.enter_context(patch(normal, lambda shape, dtype, device: self.take(shape)))
        self.enter_context(patch("torch.randn", lambda shape, device: self.take(shape)))
        uniform = lambda tensor, low, high: self.take(tensor.shape)  # noqa: E731
        self.enter_context(patch("torch.Tensor.uniform_", uniform))
        return self

    def take(self, shape: Any) -> Tensor:
        drawn = self.noise.pop(0)
        assert drawn.shape == tuple(shape), f"{drawn.shape} was drawn, {shape} was asked for"
        return drawn


def as_in_the_paper(given: ExitStack) -> None:
    """Samples of the policy itself in the target of d3rlpy's AWAC, and the mean of its loss."""
    plain = awac_impl.AWACImpl.compute_actor_loss

    def mean_loss(self: Any, batch: Any, action: Any) -> Any:
        loss = plain(self, batch, action)
        return replace(loss, actor_loss=loss.actor_loss / B)

    given.enter_context(patch.object(awac_impl.AWACImpl, "compute_actor_loss", mean_loss))
    name = "build_squashed_gaussian_distribution"
    given.enter_context(patch.object(sac_impl, name, build_gaussian_distribution))


def compare(case: Case, seed: int) -> dict[str, tuple[float, float]]:
    """By how much the weights of each network differ at most, and have moved at most."""
    torch.manual_seed(seed)
    ours, theirs = our_learner(case), their_learner(case)
    if not case.learns_temperature:
        ours._step_temperature = lambda log_prob: {}
    with torch.no_grad():
        for _, own, their in pairs(ours, theirs):
            own.copy_(their)
    before = [own.clone() for _, own, _ in pairs(ours, theirs)]
    streams = Streams([0]).child("minibatches")
    with ExitStack() as given:
        if case.ours == "awac":
            as_in_the_paper(given)
        for update in range(case.updates):
            of_ours, of_theirs = minibatch(streams)
            draws = ours.draws(streams)
            ours.update(of_ours, draws)
            with GivenNoise(case.noise(draws)) as noise:
                theirs.impl.update(of_theirs, case.first + update)
            assert not noise.noise, "d3rlpy drew less noise than jsrl"
    found: dict[str, tuple[float, float]] = {}
    for (name, own, their), start in zip(pairs(ours, theirs), before, strict=True):
        differ, moved = (float((own - x).detach().abs().max()) for x in (their, start))
        found[name] = tuple(map(max, found.get(name, (0.0, 0.0)), (differ, moved)))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, case in CASES.items():
        print(name, flush=True)
        found = [compare(case, seed) for seed in INITIAL_WEIGHTS]
        for network in found[0]:
            differ = ", ".join(f"{x:.0e}" for x in sorted(of[network][0] for of in found))
            moved = min(of[network][1] for of in found)
            print(f"    {network}: differs by {differ}; moved by {moved:.0e} or more", flush=True)
