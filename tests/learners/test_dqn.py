"""Deep Q-learning: an update by hand, double and not, the target, ε, seeds, and a task solved."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import train_here
from specs import vector
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Consumes, Phase
from jsrl.core.specs import DiscreteActions
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.dqn import DQN, DQNOptions
from jsrl.learners.losses import huber_loss
from jsrl.learners.options import LearnerInputs
from jsrl.networks.epsilon_greedy import EpsilonGreedyPolicy

CPU = torch.device("cpu")
SIZE, CHOICES, BATCH = 3, 4, 6


def learner(seeds: tuple[int, ...] = (0,), **changes: Any) -> DQN:
    options = DQNOptions(kind="dqn", hidden=[5], batch_size=BATCH, **changes)
    options.check()
    made = DQN(options, LearnerInputs(Streams(seeds), vector(SIZE), DiscreteActions(CHOICES), CPU))
    # At the beginning network and target are equal, and double changes nothing.
    with torch.no_grad():
        for parameter in made.target.parameters():
            parameter.copy_(torch.arange(parameter.numel()).view(parameter.shape).sin())
    return made


def batch(seeds: int = 1, number: int = 0) -> TransitionBatch:
    draws = torch.Generator().manual_seed(number)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(seeds, BATCH, *shape, generator=draws)

    zeros = torch.zeros(seeds, BATCH)
    return TransitionBatch(
        observation=Observation(numbers(SIZE)),
        action=torch.randint(0, CHOICES, (seeds, BATCH), generator=draws),
        reward=3 * numbers(),
        discount=0.9 * (numbers() > 0),
        next_observation=Observation(numbers(SIZE)),
        terminated=zeros,
        truncated=zeros,
        by_guide=zeros,
        share=zeros,
        stage=zeros,
    )


def plain(network: EpsilonGreedyPolicy) -> nn.Sequential:
    """The network of the first seed in PyTorch's own layers."""
    mlp: Any = network.mlp
    layers = []
    for layer in (mlp.hidden_0, mlp.output):
        linear = nn.Linear(*layer.weight.shape[1:])
        with torch.no_grad():
            linear.weight.copy_(layer.weight[0].T)
            linear.bias.copy_(layer.bias[0, 0])
        layers.append(linear)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


@pytest.mark.parametrize("double", [True, False])
def test_an_update_is_the_one_that_pytorch_makes_by_hand(double: bool) -> None:
    made, given = learner(double=double, learning_rate=0.01), batch()
    network, target = plain(made.network), plain(made.target)
    adam = torch.optim.Adam(network.parameters(), 0.01)
    after = given.next_observation.vector[0]
    with torch.no_grad():
        best = (network if double else target)(after).argmax(-1, keepdim=True)
        value = target(after).gather(-1, best)[:, 0]
        wanted = given.reward[0] + given.discount[0] * value
    taken = network(given.observation.vector[0]).gather(-1, given.action[0, :, None])[:, 0]
    loss = nn.functional.smooth_l1_loss(taken, wanted)
    loss.backward()
    adam.step()
    metrics = made.update(given, {})
    torch.testing.assert_close(metrics["loss/critic"][0], loss.detach())
    torch.testing.assert_close(metrics["value/q"][0], taken.mean().detach())
    for own, theirs in zip(plain(made.network).parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(own, theirs)


def test_double_and_plain_targets_differ_where_the_networks_disagree() -> None:
    losses = {d: learner(double=d).update(batch(), {})["loss/critic"] for d in (True, False)}
    assert losses[True] != losses[False]


def test_the_huber_loss_and_its_gradient_by_hand() -> None:
    prediction = torch.tensor([[0.0, 0.5, 3.0, -2.0]], requires_grad=True)
    loss = huber_loss(prediction, torch.zeros(1, 4))
    assert loss.item() == pytest.approx((0 + 0.125 + 2.5 + 1.5) / 4)
    loss.sum().backward()
    assert prediction.grad is not None
    assert prediction.grad[0].tolist() == pytest.approx([0, 0.125, 0.25, -0.25])


def test_the_target_follows_when_it_is_due_and_by_its_share() -> None:
    made = learner(target_interval=3, target_rate=0.25)
    before = [p.clone() for p in made.target.parameters()]
    for number in range(3):
        unchanged = [
            torch.equal(a, b) for a, b in zip(before, made.target.parameters(), strict=True)
        ]
        assert all(unchanged)
        made.update(batch(number=number), {})
    own = zip(before, made.network.parameters(), made.target.parameters(), strict=True)
    for old, source, target in own:
        torch.testing.assert_close(target, old + 0.25 * (source - old))


def test_a_seed_learns_bitwise_the_same_alone_and_in_company() -> None:
    together, alone = learner((3, 7)), learner((7,))
    with torch.no_grad():
        for of_all, own in zip(
            together.target.parameters(), alone.target.parameters(), strict=True
        ):
            own.copy_(of_all[1:])
    for number in range(5):
        both = batch(2, number)
        second = {name: value[1:] for name, value in vars(both).items() if value is not None}
        together.update(both, {})
        alone.update(TransitionBatch(**second), {})
    for of_all, own in zip(together.network.parameters(), alone.network.parameters(), strict=True):
        assert torch.equal(of_all[1:], own)


def test_epsilon_falls_along_a_line_with_the_steps_that_are_acted_in() -> None:
    made = learner(initial_epsilon=0.8, final_epsilon=0.2, exploration_steps=20)
    made.start_phase(Phase.ONLINE, 40)
    policy, streams = made.policy(), Streams([0])
    seen = Observation(torch.zeros(1, 4, SIZE))
    found = []
    for _ in range(7):
        found.append(policy.epsilon)
        policy.act(seen, streams)
        policy.act(seen, None)
        policy.sample(seen, streams, "guide_noise")
    assert found == pytest.approx([0.8, 0.68, 0.56, 0.44, 0.32, 0.2, 0.2])


def test_so_many_actions_are_random_and_these_are_spread_evenly() -> None:
    made = learner(initial_epsilon=0.4, final_epsilon=0.4)
    made.start_phase(Phase.ONLINE, 10)
    seen = Observation(torch.zeros(1, 40_000, SIZE))
    mode = int(made.policy().act(seen, None)[0, 0])
    counts = np.bincount(made.policy().act(seen, Streams([0]))[0].numpy(), minlength=CHOICES)
    expected = np.full(CHOICES, 0.4 / CHOICES)
    expected[mode] += 0.6
    # Five standard deviations.
    spread = 5 * np.sqrt(expected * (1 - expected) / 40_000)
    assert (np.abs(counts / 40_000 - expected) < spread).all()


def test_a_state_holds_everything() -> None:
    made = learner(target_interval=2)
    made.start_phase(Phase.ONLINE, 100)
    made.policy().act(Observation(torch.zeros(1, 3, SIZE)), Streams([0]))
    made.update(batch(), {})
    other = learner(target_interval=2)
    other.load_state_dict(copy.deepcopy(made.state_dict()))
    assert other.policy().epsilon == made.policy().epsilon
    for number in range(1, 4):
        made.update(batch(number=number), {})
        other.update(batch(number=number), {})
    for one, two in ((made.network, other.network), (made.target, other.target)):
        for a, b in zip(one.parameters(), two.parameters(), strict=True):
            assert torch.equal(a, b)


def test_it_says_what_it_needs_and_what_its_network_predicts() -> None:
    made = learner(n_step=3, discount=0.9)
    assert (made.needs.data, made.needs.n_step, made.needs.discount) == (Consumes.N_STEP, 3, 0.9)
    assert learner().needs.data is Consumes.TRANSITIONS
    given = batch()
    said = made.predict(given.observation, given.action)
    q = made.network(given.observation.vector)
    torch.testing.assert_close(said["value"], q.amax(-1))
    taken = [q[0, i, a] for i, a in enumerate(given.action[0].tolist())]
    torch.testing.assert_close(said["critic"][0], torch.stack(taken))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"initial_epsilon": 0.1, "final_epsilon": 0.2},
            "must be probabilities, of which the first",
        ),
        ({"target_interval": 0}, "learner.target_interval=0 must be at least 1"),
        ({"exploration_steps": -1}, "learner.exploration_steps=-1 must be at least 0"),
        ({"n_step": 2, "reward_shift": -1.0}, "set learner.reward_shift=0 or learner.n_step=1"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        learner(**changes)
    assert words in str(caught.value)


def test_a_run_on_cartpole_is_whole_and_goes_on_bitwise(tmp_path: Any) -> None:
    chosen = (
        *("env=gymnasium", "env.id=CartPole-v1", "env.success_key=null", "learner=dqn"),
        *("dataset=none", "guide=none", "curriculum=none", "online.steps=200", "seeds=[0,1]"),
        *("checkpoint.interval=90", "evaluation.interval=100", "learner.n_step=2"),
    )
    whole = train_here(tmp_path / "whole", *chosen)
    train_here(tmp_path / "parts", *chosen, "online.steps=130")
    parts = train_here(tmp_path / "parts", *chosen)
    assert whole["evaluation"] == parts["evaluation"]
    assert whole["failed_seeds"] == []
