"""Registered policy classes: names, descriptions, and copies of chosen seeds."""

from pathlib import Path

import pytest
import torch

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import ExportablePolicy, SamplingPolicy, SavablePolicy
from jsrl.core.streams import Streams
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy
from jsrl.networks.saved_policies import build_policy, describe_policy, unsavable_because
from jsrl.networks.seed_policy import SeedPolicy, register_policy


@register_policy("scaled by tests")
class Scaled(SeedPolicy):
    """Multiplies the first A columns by a weight of each seed, and by an argument."""

    def __init__(self, num_seeds, observation_size, action_size, factor=1.0, shape=(1, 2)):
        super().__init__(num_seeds, observation_size, action_size, factor=factor, shape=shape)
        self.weight = torch.nn.Parameter(torch.arange(1.0, num_seeds + 1).view(-1, 1, 1) / 10)
        self.register_buffer("shared", torch.tensor([factor]))

    def mode(self, obs):
        return (self.weight * self.shared * obs.vector[..., : self.action_size]).clamp(-1, 1)

    def act(self, obs, streams):
        return self.mode(obs)


OBS = torch.linspace(-1, 1, 24).reshape(1, 8, 3)


def test_a_policy_is_made_again_from_plain_values_and_tensors():
    policy = Scaled(3, 3, 2, factor=0.5)
    with torch.no_grad():
        policy.weight.mul_(3)
    description = describe_policy(policy)
    assert description["class"] == "scaled by tests"
    assert Path(description["folder"], description["target"]) == Path(f"{__file__}:Scaled")
    assert description["arguments"]["shape"] == [1, 2]
    again = build_policy(description, policy.state_dict())
    assert type(again) is Scaled
    seen = Observation(OBS.expand(3, -1, -1))
    assert torch.equal(again.act(seen, None), policy.mode(seen))
    assert not any(p.requires_grad for p in again.parameters())


def test_a_class_of_the_package_is_known_by_its_name_alone():
    policy = GaussianPolicy(1, 3, 2, (4,))
    assert "target" not in describe_policy(policy)
    assert unsavable_because(policy) is None


def test_select_copies_seeds_in_the_order_asked_for():
    policy = Scaled(3, 3, 2)
    chosen = policy.select([2, 0, 2])
    assert chosen.num_seeds == 3
    assert chosen.weight.flatten().tolist() == pytest.approx([0.3, 0.1, 0.3])
    assert policy.select(1).weight.flatten().tolist() == pytest.approx([0.2])
    with torch.no_grad():
        chosen.weight.zero_()
    assert policy.weight.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_the_mode_of_one_seed_is_a_module_of_rows():
    found = Scaled(3, 3, 2).mode_module(2)(OBS[0])
    assert torch.allclose(found, 0.3 * OBS[0, :, :2])


def test_abilities_are_told_by_their_protocols():
    own, gaussian = Scaled(1, 3, 2), GaussianPolicy(1, 3, 2)
    assert isinstance(own, SavablePolicy)
    assert isinstance(own, ExportablePolicy)
    assert not isinstance(own, SamplingPolicy)
    assert isinstance(gaussian, SamplingPolicy)


def test_samples_come_from_the_named_streams_of_the_chosen_seeds():
    policy = GaussianPolicy(2, 3, 2, (4,))
    policy.mlp.initialise(INITIALISATIONS["orthogonal"], Streams([0, 1]), "actor")
    obs = OBS.expand(2, -1, -1)
    found = policy.sample(Observation(obs), Streams([0, 1]), "own name", [False, True])
    noise = Streams([0, 1]).normal("own name", (8, 2))
    mean = torch.tanh(policy.mlp(obs))
    assert torch.equal(found[0], mean[0].clamp(-1, 1))
    assert torch.allclose(found[1], (mean[1] + noise[1]).clamp(-1, 1))


def test_what_cannot_be_saved_has_a_reason():
    class Local(SeedPolicy):
        def act(self, obs, streams):
            return obs

    class Derived(Scaled):
        pass

    assert "not registered" in unsavable_because(Derived(1, 3, 2))
    assert "not registered" in unsavable_because(Local(1, 3, 2))
    assert "defined in a function" in unsavable_because(register_policy("local")(Local)(1, 3, 2))
    assert "SavablePolicy" in unsavable_because(torch.nn.Linear(1, 1))
    assert "SavablePolicy" in unsavable_because(object())


def test_a_name_that_is_taken_is_refused_and_the_same_class_again_is_not():
    with pytest.raises(UserError, match="'GaussianPolicy', which is the name of"):
        register_policy("GaussianPolicy")(Scaled)
    register_policy("scaled by tests")(Scaled)
