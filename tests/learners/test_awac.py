"""AWAC: a second implementation, its weights by hand, seeds apart, starts, and whole runs."""

import copy
from dataclasses import replace

import pytest
import torch
from minibatches import one_seed, random_batch
from small_runs import REACH, assert_same_run, different, train_here, write_reach_data
from specs import box, vector
from torch.distributions import Independent, Normal

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import HasTwinValues, Phase
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.awac import AWAC, AWACOptions
from jsrl.learners.losses import softmax_weights
from jsrl.learners.options import LearnerInputs

B, CPU = 24, torch.device("cpu")
OBSERVATION, ACTIONS = vector(3), box((-1.0, -1.0), (1.0, 1.0))
BASE = AWACOptions(
    hidden=[12, 10],
    batch_size=B,
    learning_rate=3e-3,
    target_rate=0.05,
    advantage_temperature=0.4,
    reward_shift=-0.5,
)
KINDS = {
    "softmax": replace(BASE, value_samples=3, dropout=0.1),
    "exponential": replace(
        BASE, weights="exponential", largest_weight=2.0, normalise_observations=True, critics=3
    ),
    "mode": replace(BASE, value_samples=0, tanh_mean=False, online_action_clip=0.8),
}


def make(seeds, options):
    mean, std = torch.tensor([0.5, -0.5, 1.0]), torch.tensor([2.0, 0.5, 1.5])
    streams = Streams(seeds).child("awac")
    inputs = LearnerInputs(
        streams, OBSERVATION, ACTIONS, CPU, observation_mean=mean, observation_std=std
    )
    return AWAC(options, inputs)


def train(learner, streams, updates):
    found = {}
    for _ in range(updates):
        batch = random_batch(streams, B, OBSERVATION, ACTIONS)
        found = learner.update(batch, learner.draws(streams))
    return found


class PlainAWAC:
    """One seed in PyTorch's own optimiser and distributions, float64."""

    def __init__(self, learner, index):
        self.options, self.learner, self.index = learner.options, learner, index
        self.own = {
            name: value[index].detach().double().clone()
            for name, value in learner.networks.named_parameters()
        }
        self.adams = {
            part: torch.optim.Adam(
                [p.requires_grad_() for name, p in self.own.items() if name.startswith(part)],
                self.options.learning_rate,
            )
            for part in ("actor", "critic")
        }

    def see(self, obs):
        if not self.options.normalise_observations:
            return obs
        actor = self.learner.networks.actor
        return (obs - actor.observation_mean.double()) / actor.observation_std.double()

    def mlp(self, x, prefix, masks=(None, None)):
        for i, mask in zip(range(2), masks, strict=True):
            weight, bias = (self.own[f"{prefix}hidden_{i}.{n}"] for n in ("weight", "bias"))
            x = torch.relu(x @ weight + bias)
            x = x if mask is None else x * mask
        return x @ self.own[f"{prefix}output.weight"] + self.own[f"{prefix}output.bias"]

    def policy(self, obs, masks=(None, None)):
        mean = self.mlp(self.see(obs), "actor.mlp.", masks)
        mean = torch.tanh(mean) if self.options.tanh_mean else mean
        log_std = self.own["actor.log_std"].clamp(*self.options.log_std_range)
        return Independent(Normal(mean, log_std.exp().expand(mean.shape)), 1)

    def sample(self, obs, noise):
        said, clip = self.policy(obs), self.options.online_action_clip
        return (said.mean + said.stddev * noise).clamp(-clip, clip)

    def least_q(self, obs, action, prefix="critic."):
        return self.mlp(torch.cat([self.see(obs), action], -1), prefix)[..., 0].min(0).values

    def weights(self, rows, noise):
        """Of each action, from the definition."""
        o = self.options
        draws = [torch.zeros(B, 2).double()] if noise is None else noise.split(B)
        of_policy = [
            self.least_q(rows.observation, self.sample(rows.observation, n)) for n in draws
        ]
        advantage = self.least_q(rows.observation, rows.action) - sum(of_policy) / len(draws)
        raised = torch.exp(advantage / o.advantage_temperature)
        if o.weights == "softmax":
            return raised / raised.mean()
        return torch.minimum(raised, torch.tensor(o.largest_weight))

    def update(self, batch, draws):
        o, rows = self.options, one_seed(batch, self.index, torch.float64)
        drawn = {name: value[self.index].double() for name, value in draws.items()}
        with torch.no_grad():
            after = self.sample(rows.next_observation, drawn["next_noise"])
            value = self.least_q(rows.next_observation, after, "target_critic.")
            reward = o.reward_scale * rows.reward + o.reward_shift
            target = reward + o.discount * (1 - rows.terminated) * value
        pair = torch.cat([self.see(rows.observation), rows.action], -1)
        q = self.mlp(pair, "critic.")[..., 0]
        self.step("critic", sum(torch.nn.functional.mse_loss(one, target) for one in q))
        with torch.no_grad():
            weights = self.weights(rows, drawn.get("noise"))
        masks = [drawn.get(f"dropout_{i}") for i in range(2)]
        likelihood = self.policy(rows.observation, masks).log_prob(rows.action)
        self.step("actor", -(weights * likelihood).mean())
        for name, value in self.own.items():
            if name.startswith("target_"):
                source = self.own[name.removeprefix("target_")].detach()
                value.mul_(1 - o.target_rate).add_(o.target_rate * source)

    def step(self, part, loss):
        mine = self.adams[part].param_groups[0]["params"]
        for parameter, gradient in zip(mine, torch.autograd.grad(loss, mine), strict=True):
            parameter.grad = gradient
        self.adams[part].step()


@pytest.mark.parametrize("kind", KINDS)
def test_thirty_updates_agree_with_a_second_implementation(kind):
    learner = make([4, 5], KINDS[kind])
    learner.start_phase(Phase.ONLINE, 30)
    plain, streams = [PlainAWAC(learner, i) for i in range(2)], Streams([4, 5]).child("batches")
    for _ in range(30):
        batch = random_batch(streams, B, OBSERVATION, ACTIONS)
        draws = learner.draws(streams)
        learner.update(batch, draws)
        for one in plain:
            one.update(batch, draws)
    for i, one in enumerate(plain):
        for name, value in learner.networks.named_parameters():
            expected = one.own[name].detach()
            torch.testing.assert_close(value[i].double(), expected, rtol=1e-5, atol=1e-6)


def test_softmax_weights_by_hand_and_where_exponentials_overflow():
    found = softmax_weights(torch.tensor([[0.0, 2.0], [1000.0, 1002.0]]), 2.0)
    # e⁰ and e¹ over their mean.
    expected = torch.tensor([1.0, 2.718281828]) / 1.859140914
    torch.testing.assert_close(found, expected.expand(2, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_learns_bitwise_the_same_alone_and_in_company(kind):
    found = []
    for seeds in ([7], [3, 7, 11]):
        learner = make(seeds, KINDS[kind])
        train(learner, Streams(seeds).child("batches"), 10)
        found.append([p[seeds.index(7)].clone() for p in learner.networks.parameters()])
    for alone, together in zip(*found, strict=True):
        assert torch.equal(alone, together)


def test_while_the_critics_warm_up_the_policy_stays_and_a_cosine_is_of_pre_training_alone():
    learner, streams = make([0], replace(BASE, actor_schedule="cosine")), Streams([0])
    learner.start_phase(Phase.OFFLINE, 3)
    train(learner, streams, 3)
    for phase, moves in ((None, False), (Phase.CRITIC_WARMUP, False), (Phase.ONLINE, True)):
        if phase is not None:
            learner.start_phase(phase, 5)
        before = {n: p.clone() for n, p in learner.networks.named_parameters()}
        train(learner, streams, 1)
        for name, parameter in learner.networks.named_parameters():
            moved = not torch.equal(parameter, before[name])
            assert moved == (moves or "critic" in name), (phase, name)


def test_a_saved_learner_continues_bitwise():
    learner, restored, streams = make([0, 1], BASE), make([5, 6], BASE), Streams([0, 1])
    learner.start_phase(Phase.OFFLINE, 20)
    train(learner, streams, 5)
    restored.load_state_dict(copy.deepcopy(learner.state_dict()))
    again = Streams([0, 1])
    again.load_state_dict(streams.state_dict())
    assert different(train(learner, streams, 5), train(restored, again, 5)) == []
    assert different(learner.state_dict(), restored.state_dict()) == []


@pytest.mark.parametrize("only_actor", [False, True])
def test_a_start_copies_the_networks_or_the_actor_alone(only_actor):
    guide, learner = make([7, 8], BASE), make([8], BASE)
    train(guide, Streams([7, 8]), 4)
    before = {n: p.clone() for n, p in learner.networks.named_parameters()}
    learner.start_from(guide.state_dict(), [1], only_actor=only_actor)
    theirs = dict(guide.networks.named_parameters())
    for name, value in learner.networks.named_parameters():
        kept = only_actor and not name.startswith("actor.")
        assert torch.equal(value, before[name] if kept else theirs[name][1:]), name
    assert isinstance(learner, HasTwinValues)
    seen = Observation(torch.ones(1, 4, 3))
    said = learner.predict(seen, torch.ones(1, 4, 2))
    best = learner.policy().act(seen, None)
    torch.testing.assert_close(said["value"], learner.twin_values(seen, best).amin(1))


def test_it_learns_which_of_two_actions_is_paid():
    """Up or down alike in the data, and up is paid."""
    learner, streams = make([0, 1], replace(BASE, advantage_temperature=0.2)), Streams([0, 1])
    learner.start_phase(Phase.OFFLINE, 200)
    zeros, nowhere = torch.zeros(2, B), Observation(torch.zeros(2, B, 3))
    for _ in range(200):
        action = random_batch(streams, B, OBSERVATION, ACTIONS).action.sign() * 0.5
        batch = TransitionBatch(
            *(nowhere, action, action[..., 0], zeros, nowhere),
            *(zeros + 1, zeros, zeros, zeros, zeros),
        )
        learner.update(batch, learner.draws(streams))
    assert (learner.policy().act(nowhere, None)[:, 0, 0] > 0.3).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": "linear"}, "learner.weights='linear' is unknown; choose one of softmax"),
        ({"critics": 0}, "learner.critics=0 must be at least 1"),
        ({"value_samples": -1}, "learner.value_samples=-1 must be at least 0"),
        ({"advantage_temperature": 0.0}, "learner.advantage_temperature=0.0 must be above 0"),
        ({"largest_weight": -1.0}, "learner.largest_weight=-1.0 must be above 0"),
        ({"largest_weight": 9.0}, "learner.largest_weight=9.0 clips exponential weights"),
        ({"n_step": 2}, "learner.reward_shift=-0.5 would be added once a sum"),
    ],
)
def test_what_is_out_of_range_is_told(changes, words):
    with pytest.raises(UserError, match=words):
        replace(BASE, **changes).check()


def test_a_run_offline_and_online_is_resumed(tmp_path):
    data = f"dataset.path={write_reach_data(tmp_path / 'data.hdf5')}"
    own = (*REACH, "dataset=d4rl", data, "learner=awac", "learner.hidden=[8]", "seeds=[0,3]")
    for folder, steps in (("whole", 80), ("parts", 51), ("parts", 80)):
        train_here(tmp_path / folder, *own, "guide=offline", f"online.steps={steps}")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
