"""PPO: updates beside a second implementation, steps of a guide, seeds, and refusals."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from minibatches import small_encoder
from specs import box, vector
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Consumes, OnPolicyLearner
from jsrl.core.rollouts import RolloutBatch
from jsrl.core.specs import ActionSpec, BoxActions, DiscreteActions, ImagePart
from jsrl.core.streams import Streams
from jsrl.learners.losses import clipped_surrogate_loss, normalised_advantages
from jsrl.learners.options import LearnerInputs
from jsrl.learners.ppo import PPO, PPOOptions
from jsrl.networks.hidden_layers import HiddenLayers, NetworkLayers

CPU = torch.device("cpu")
SIZE, BATCH = 3, 8
REAL, CHOICES = box([-1.0, -1.0], [1.0, 1.0]), DiscreteActions(4)
TANH = NetworkLayers(*[HiddenLayers("tanh")] * 3)
BOTH = pytest.mark.parametrize("actions", [REAL, CHOICES], ids=["real", "choices"])


def learner(actions: ActionSpec = REAL, seeds: tuple[int, ...] = (0,), **changes: Any) -> PPO:
    settings = {"hidden": [6, 5], "batch_size": BATCH, "learning_rate": 0.01, **changes}
    options = PPOOptions(kind="ppo", **settings)
    options.check()
    return PPO(options, LearnerInputs(Streams(seeds), vector(SIZE), actions, CPU, TANH))


def batch(
    actions: ActionSpec = REAL, seeds: tuple[int, ...] = (0,), number: int = 0, guided: float = 0.3
) -> RolloutBatch:
    """Random steps of each seed, which its own number decides; some of them are the guide's."""
    draws = Streams(seeds).child("batch", number)

    def normal(name: str, *shape: int) -> Tensor:
        return draws.normal(name, (BATCH, *shape))

    real = isinstance(actions, BoxActions)
    value, advantage = normal("value"), 2 * normal("advantage") + 1
    return RolloutBatch(
        observation=Observation(normal("observation", SIZE)),
        action=normal("action", 2) if real else draws.integers("action", 4, (BATCH,)),
        log_prob=(-2.5 if real else -1.4) + 0.3 * normal("log_prob"),
        value=value,
        advantage=advantage,
        value_target=value + advantage,
        weight=(draws.uniform("weight", (BATCH,)) >= guided).float(),
    )


def of_seed(given: RolloutBatch, index: int) -> RolloutBatch:
    rows = {
        name: value[index : index + 1]
        for name, value in vars(given).items()
        if name != "observation"
    }
    return RolloutBatch(observation=given.observation[index : index + 1], **rows)


def parameters(made: PPO, index: int = 0) -> list[Tensor]:
    return [parameter[index].detach().clone() for parameter in made.networks.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Reference:
    """The same algorithm for one seed, with what PyTorch has for it, on the rows that count."""

    def __init__(self, made: PPO, actions: ActionSpec) -> None:
        self.options, self.real = made.options, isinstance(actions, BoxActions)
        self.actor, self.value = _plain(made.networks.actor.mlp), _plain(made.networks.value)
        self.log_std = nn.Parameter(torch.zeros(2))
        self.parameters = [*self.actor.parameters(), *self.value.parameters()]
        if self.real:
            self.parameters.append(self.log_std)
        o = made.options
        self.adam = torch.optim.Adam(self.parameters, o.learning_rate, eps=o.adam_epsilon)

    def distribution(self, seen: Tensor) -> torch.distributions.Distribution:
        if not self.real:
            return torch.distributions.Categorical(logits=self.actor(seen))
        normal = torch.distributions.Normal(self.actor(seen), self.log_std.exp())
        return torch.distributions.Independent(normal, 1)

    def update(self, given: RolloutBatch) -> dict[str, float]:
        o, rows = self.options, given.weight[0] > 0
        policy = self.distribution(given.observation.vector[0, rows])
        ratio = (policy.log_prob(given.action[0, rows]) - given.log_prob[0, rows]).exp()
        advantage = given.advantage[0, rows]
        if o.normalise_advantages:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        within = ratio.clamp(1 - o.clip, 1 + o.clip)
        actor = -torch.min(ratio * advantage, within * advantage).mean()
        values = self.value(given.observation.vector[0, rows])[:, 0]
        value = nn.functional.mse_loss(values, given.value_target[0, rows])
        entropy = policy.entropy().mean()
        self.adam.zero_grad()
        (actor + o.value_coefficient * value - o.entropy_coefficient * entropy).backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, o.largest_gradient_norm or math.inf)
        self.adam.step()
        return {
            "loss/actor": actor.item(),
            "loss/value": value.item(),
            "policy/entropy": entropy.item(),
            "value/v": values.mean().item(),
            "gradient/norm": norm.item(),
            "policy/divergence": (ratio - 1 - ratio.log()).mean().item(),
            "policy/clipped": ((ratio - 1).abs() > o.clip).float().mean().item(),
        }


def _plain(mlp: Any) -> nn.Sequential:
    layers: list[nn.Module] = []
    for name in ("hidden_0", "hidden_1", "output"):
        own = getattr(mlp, name)
        linear = nn.Linear(*own.weight.shape[1:])
        with torch.no_grad():
            linear.weight.copy_(own.weight[0].T)
            linear.bias.copy_(own.bias[0, 0])
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


@BOTH
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"entropy_coefficient": 0.1, "value_coefficient": 2.0, "clip": 0.05},
        {"normalise_advantages": False, "largest_gradient_norm": None},
    ],
    ids=["defaults", "coefficients", "plain"],
)
def test_updates_are_those_of_a_second_implementation(
    actions: ActionSpec, changes: dict[str, Any]
) -> None:
    made = learner(actions, **changes)
    reference = Reference(made, actions)
    for number in range(6):
        given = batch(actions, number=number)
        metrics, expected = made.update(given, {}), reference.update(given)
        for name, value in expected.items():
            assert metrics[name].item() == pytest.approx(value, rel=1e-4, abs=1e-5), name
        assert metrics["policy/guide_share"].item() == pytest.approx(1 - given.weight.mean().item())
    networks = made.networks
    for mlp, theirs in ((networks.actor.mlp, reference.actor), (networks.value, reference.value)):
        for own, other in zip(_plain(mlp).parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
    if isinstance(actions, BoxActions):
        torch.testing.assert_close(
            networks.actor.log_std[0, 0], reference.log_std, rtol=1e-4, atol=1e-5
        )


def test_the_clipped_objective_and_its_gradient_by_hand() -> None:
    """ε = 0.2. A ratio beyond it counts where it makes the objective smaller, and only there."""
    ratio = torch.tensor([[1.0, 1.5, 1.5, 0.5, 0.5, 9.0]])
    log_ratio = ratio.log().requires_grad_()
    advantage = torch.tensor([[2.0, 1.0, -1.0, 1.0, -1.0, 5.0]])
    weight = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]])
    loss = clipped_surrogate_loss(log_ratio, advantage, weight, 0.2)
    assert loss.item() == pytest.approx(-(2 + 1.2 - 1.5 + 0.5 - 0.8) / 5)
    loss.sum().backward()
    assert log_ratio.grad is not None
    # The gradient of the ratio by its logarithm is the ratio.
    expected = [-2 / 5, 0, 1.5 / 5, -0.5 / 5, 0, 0]
    assert log_ratio.grad[0].tolist() == pytest.approx(expected)


def test_advantages_are_normalised_over_the_steps_that_count() -> None:
    advantage = torch.tensor([[1.0, 100.0, 3.0], [7.0, -4.0, 5.0], [1.0, 2.0, 3.0]])
    weight = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    found = normalised_advantages(advantage, weight)
    # Mean 2 and deviation √2; a step alone is left as it is; and no step is none.
    half = 1 / math.sqrt(2)
    assert found[0].tolist() == pytest.approx([-half, 0, half])
    assert found[1:].tolist() == [[0, -4, 0], [0, 0, 0]]


@BOTH
def test_nothing_is_learnt_from_the_steps_of_a_guide(actions: ActionSpec) -> None:
    """Whatever is in their fields, what is learnt is the same bit by bit."""
    one, other = learner(actions), learner(actions)
    for number in range(4):
        given = batch(actions, number=number)
        guided = given.weight == 0
        assert 0 < guided.sum() < BATCH

        def poisoned(tensor: Tensor, value: float, where: Tensor = guided) -> Tensor:
            wide = where if tensor.dim() == 2 else where.unsqueeze(-1)
            return torch.where(wide, torch.tensor(value, dtype=tensor.dtype), tensor)

        changed = replace(
            given,
            observation=Observation(poisoned(given.observation.vector, 3.0)),
            action=poisoned(given.action, 1),
            log_prob=poisoned(given.log_prob, -math.inf),
            value=poisoned(given.value, math.nan),
            advantage=poisoned(given.advantage, math.nan),
            value_target=poisoned(given.value_target, math.inf),
        )
        metrics, again = one.update(given, {}), other.update(changed, {})
        assert metrics.keys() == again.keys()
        assert all(torch.equal(metrics[name], again[name]) for name in metrics)
    assert same(parameters(one), parameters(other))


@BOTH
def test_a_seed_without_a_step_of_its_own_is_left_as_if_there_had_been_no_update(
    actions: ActionSpec,
) -> None:
    """Neither its weights, nor its averages, nor the clock of their correction move."""
    seeds = (3, 7)
    together, alone = learner(actions, seeds), learner(actions, (7,))
    for number in range(8):
        given = batch(actions, seeds, number)
        sits_out = number in (0, 3, 4)
        if sits_out:
            weight = given.weight.clone()
            weight[1] = 0
            given = replace(given, weight=weight)
        before = parameters(together, 0), parameters(together, 1)
        metrics = together.update(given, {})
        assert not same(parameters(together, 0), before[0])
        assert same(parameters(together, 1), before[1]) == sits_out
        assert metrics.pop("policy/guide_share")[1] == 1 - given.weight[1].mean()
        assert all(
            value[1].isnan() == sits_out and value[0].isfinite() for value in metrics.values()
        )
        if not sits_out:
            alone.update(of_seed(given, 1), {})
    assert same(parameters(together, 1), parameters(alone))


@BOTH
def test_a_seed_learns_bitwise_the_same_alone_and_in_company(actions: ActionSpec) -> None:
    seeds = (5, 3, 7, 1, 2)
    together = learner(actions, seeds, largest_gradient_norm=0.1)
    alone = learner(actions, (7,), largest_gradient_norm=0.1)
    norms = []
    for number in range(5):
        given = batch(actions, seeds, number)
        both, own = together.update(given, {}), alone.update(of_seed(given, 2), {})
        assert all(torch.equal(both[name][2:3], own[name]) for name in own)
        norms.append(both["gradient/norm"])
    # Each is above the bound, and each its own: a common one would tie the seeds together.
    assert all(len(set(norm.tolist())) == len(seeds) and (norm > 0.1).all() for norm in norms)
    assert same(parameters(together, 2), parameters(alone))
    seen = Observation(batch(actions, seeds).observation.vector[:, :1])
    act, own_act = (
        made.explore(where, Streams(of))
        for made, where, of in ((together, seen, seeds), (alone, seen[2:3], (7,)))
    )
    for name in ("action", "sample", "log_prob", "value"):
        assert torch.equal(getattr(act, name)[2:3], getattr(own_act, name)), name


def test_a_seed_that_is_not_finite_is_frozen_and_the_others_go_on() -> None:
    seeds = (3, 7)
    together, alone = learner(seeds=seeds), learner(seeds=(3,))
    for number in range(4):
        given = batch(seeds=seeds, number=number)
        if number == 1:
            bad = given.advantage.clone()
            bad[1] = math.nan
            given = replace(given, advantage=bad)
        before = parameters(together, 1)
        together.update(given, {})
        alone.update(of_seed(given, 0), {})
        assert same(parameters(together, 1), before) == (number > 0)
    assert together.alive.tolist() == [True, False]
    assert same(parameters(together, 0), parameters(alone))
    assert all(parameter.isfinite().all() for parameter in together.networks.parameters())


@BOTH
def test_what_is_drawn_has_the_probability_that_an_update_finds_again(actions: ActionSpec) -> None:
    made, seen = learner(actions), Observation(torch.randn(1, 500, SIZE))
    step = made.explore(seen, Streams([0]))
    actor = made.policy()
    again, _ = actor.log_prob_and_entropy(actor.encode(seen), step.sample)
    torch.testing.assert_close(step.log_prob, again.detach())
    assert torch.equal(step.value, made.values(seen))
    assert torch.equal(step.action, actor.act(seen, Streams([0])))
    if isinstance(actions, BoxActions):
        # With a deviation of 1 a third of all numbers lie outside, and their clipped ones do not.
        assert 0.2 < (step.sample.abs() > 1).float().mean() < 0.45
        assert torch.equal(step.action, step.sample.clamp(-1, 1))


def test_the_learning_rate_stays_or_falls_with_the_steps_that_were_learnt_from() -> None:
    # 8 steps a minibatch and 2 epochs: a minibatch is 4 new steps.
    made = learner(learning_rate=0.5, learning_rate_steps=20, epochs=2)
    found = []
    for number in range(7):
        found.append(made.learning_rate)
        before = parameters(made)
        made.update(batch(number=number), {})
        assert same(parameters(made), before) == (number >= 5)
    assert found == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1, 0, 0])
    constant = learner(learning_rate=0.5)
    constant.update(batch(), {})
    assert constant.learning_rate == 0.5


def test_a_state_holds_everything() -> None:
    made = learner(seeds=(1, 2), learning_rate_steps=100)
    for number in range(2):
        made.update(batch(seeds=(1, 2), number=number), {})
    other = learner(seeds=(1, 2), learning_rate_steps=100)
    other.load_state_dict(copy.deepcopy(made.state_dict()))
    for number in range(2, 5):
        given = batch(seeds=(1, 2), number=number)
        one, two = made.update(given, {}), other.update(given, {})
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert same(parameters(made, 1), parameters(other, 1))


@pytest.mark.parametrize("only_actor", [False, True], ids=["warm", "naive"])
def test_it_starts_from_the_networks_of_another(only_actor: bool) -> None:
    other, made = learner(seeds=(1, 2)), learner(seeds=(8,))
    other.update(batch(seeds=(1, 2)), {})
    drawn = [p[0].clone() for p in made.networks.value.parameters()]
    made.start_from(other.state_dict(), [1], only_actor=only_actor)
    networks = made.networks
    for own, theirs in zip(
        networks.actor.parameters(), other.networks.actor.parameters(), strict=True
    ):
        assert torch.equal(own[0], theirs[1])
    values = [p[0] for p in networks.value.parameters()]
    theirs = drawn if only_actor else [p[1] for p in other.networks.value.parameters()]
    assert same(values, theirs)


def test_networks_of_another_learner_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"start=warm: .* shape None"):
        learner().start_from({"network": {}}, [0], only_actor=False)


def test_it_says_what_it_needs_and_begins_as_published() -> None:
    made = learner(rollout_length=16, epochs=3, trace=0.9, discount=0.8, hidden=[64, 64])
    assert isinstance(made, OnPolicyLearner)
    assert (made.needs.data, made.needs.discount) == (Consumes.ROLLOUTS, 0.8)
    needs = made.rollouts
    assert (needs.length, needs.epochs, needs.batch_size, needs.trace) == (16, 3, BATCH, 0.9)
    weights = made.networks.actor.mlp.output.weight[0], made.networks.value.output.weight[0]
    # The project's schemes are made for ReLU, and layers behind another activation are scaled.
    behind_tanh = 1.5927 / math.sqrt(2)
    for weight, gain in zip(weights, (0.01, 1.0), strict=True):
        product = weight.T @ weight
        expected = (gain * behind_tanh) ** 2 * torch.eye(weight.shape[1])
        torch.testing.assert_close(product.detach(), expected, rtol=1e-3, atol=1e-6)
    assert made.networks.actor.log_std.abs().sum() == 0


def test_it_learns_from_images_whose_convolutions_the_value_trains() -> None:
    spec = replace(
        vector(SIZE),
        images=(ImagePart(("camera",), (3, 21, 21), (0, 1, 2), (3, 21, 21)),),
    )
    options = PPOOptions(
        kind="ppo", hidden=[5], batch_size=BATCH, encoder=small_encoder(shift=0, features=4)
    )
    options.check()
    made = PPO(options, LearnerInputs(Streams([0]), spec, CHOICES, CPU))
    before = [p.clone() for p in made.networks.value_encoder.parameters()]
    given = batch(CHOICES)
    pixels = Streams([0]).integers("pixels", 256, (BATCH, 3, 21, 21)).byte()
    seen = Observation(given.observation.vector, {"camera": pixels})
    metrics = made.update(replace(given, observation=seen), {})
    assert metrics["loss/value"].isfinite().all()
    after = list(made.networks.value_encoder.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clip": 0.0}, "learner.clip=0.0 must be above 0"),
        ({"trace": 1.1}, "learner.trace=1.1 must lie in [0, 1]"),
        ({"discount": -0.1}, "learner.discount=-0.1 must lie in [0, 1]"),
        ({"epochs": 0}, "learner.epochs=0 must be at least 1"),
        ({"rollout_length": 0}, "learner.rollout_length=0 must be at least 1"),
        ({"entropy_coefficient": -1.0}, "learner.entropy_coefficient=-1.0 must be at least 0"),
        ({"largest_gradient_norm": 0.0}, "learner.largest_gradient_norm=0.0 must be above 0"),
        ({"learning_rate_steps": 0}, "learner.learning_rate_steps=0 must be at least 1"),
        ({"adam_epsilon": math.nan}, "learner.adam_epsilon=nan must be a finite number"),
        ({"log_std_range": [1.0, 0.0]}, "must be [low, high]"),
        ({"encoder": small_encoder(shift=4)}, "set learner.encoder.shift=0"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        learner(**changes)
    assert words in str(caught.value)
