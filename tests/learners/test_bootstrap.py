"""Targets with the action that a rule of who acts says, by the formula, for every such learner."""

from dataclasses import replace

import pytest
import torch
from minibatches import changed, random_actions, random_batch
from specs import box, vector

from jsrl.core.arbitration import NEXT_GUIDE
from jsrl.core.errors import UserError
from jsrl.core.protocols import BootstrapsFromActions
from jsrl.core.specs import DiscreteActions
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters import arbiters, build_arbiter
from jsrl.learners import learners
from jsrl.learners.options import LearnerInputs
from jsrl.rollout.critics import LearnerCritics

B, OBSERVATION, BOX, CHOICE = 12, vector(3), box([-1.0] * 2, [1.0] * 2), DiscreteActions(4)
KINDS = {
    "sac": {"initial_temperature": 0.3, "reward_scale": 2.0},
    "sac without entropy": {"critics": 4, "target_critics": 2, "backup_entropy": False},
    "td3": {"critics": 3},
    "td3_bc": {},
    "awac": {},
    "cql": {"conservative_weight": 0.0},
    "cql of the best": {"conservative_weight": 0.0, "max_target_backup": True},
    "dqn": {},
}


class Table:
    """A rule that says the same whatever it is asked."""

    needs = frozenset({NEXT_GUIDE})

    def __init__(self, share):
        self.share = share

    def target(self, moment):
        return self.share


def make(name, seeds=(0, 1), rule=None):
    kind = name.split()[0]
    actions = CHOICE if kind == "dqn" else BOX
    own = {"hidden": [8], "batch_size": B, "learning_rate": 1e-2, **KINDS[name]}
    options = learners[kind].options(kind=kind, **own)
    streams = Streams(seeds).child("learner")
    inputs = LearnerInputs(streams, OBSERVATION, actions, torch.device("cpu"))
    learner = learners.build(options, inputs)
    # Targets begin as copies of the critics, which a mistake of the one for the other would hide.
    critics = learner.network if kind == "dqn" else learner.networks.critic
    with torch.no_grad():
        for parameter in critics.parameters():
            parameter.mul_(1.3)
    if rule is not None:
        learner.bootstrap_by(rule, LearnerCritics(learner))
    return learner


def minibatch(streams, name):
    actions = CHOICE if name == "dqn" else BOX
    batch = random_batch(streams, B, OBSERVATION, actions)
    return changed(batch, next_guide=random_actions(streams.child("guide"), B, actions))


def own_action(learner, name, after, draws):
    """The action of the learner's own target, and its log-probability where that counts."""
    if name == "dqn":
        return learner.policy().act(after, None), 0.0
    if name.startswith("td3"):
        noise = (0.2 * draws["noise"]).clamp(-0.5, 0.5)
        return (learner.networks.target_actor.act(after, None) + noise).clamp(-1, 1), 0.0
    actor = learner.networks.actor
    if name == "awac":
        mean, log_std = actor(actor.encode(after))
        return (mean + log_std.exp() * draws["next_noise"]).clamp(-1, 1), 0.0
    return actor.sample_with_log_prob(actor.encode(after), draws["next_noise"])


@torch.no_grad()
def expected_loss(learner, name, batch, draws, share):
    """The critics' loss row by row, for shares of the explorer."""
    o, after, total = learner.options, batch.next_observation, torch.zeros(2)
    own, log_prob = own_action(learner, name, after, draws)
    if name == "dqn":
        mixture = torch.where(share == 1, own, batch.next_guide)
    else:
        weight = share.unsqueeze(-1)
        mixture = weight * own + (1 - weight) * batch.next_guide
    q_after = learner.target_values(after, mixture)
    q = LearnerCritics(learner).q(batch.observation, batch.action)
    temperature = o.initial_temperature if getattr(o, "backup_entropy", False) else 0.0
    for s in range(2):
        among = range(q.shape[1])
        if getattr(o, "target_critics", None) is not None:
            among = draws["ranks"][s].argsort()[: o.target_critics].tolist()
        for b in range(B):
            value = min(q_after[s, k, b] for k in among)
            if temperature and share[s, b] > 0:
                value = value - temperature * log_prob[s, b]
            reward = o.reward_scale * batch.reward[s, b] + o.reward_shift
            errors = q[s, :, b] - (reward + batch.discount[s, b] * value)
            if name == "dqn":
                small = errors.abs() < 1
                errors = torch.where(small, errors**2 / 2, errors.abs() - 0.5).sqrt()
            total[s] += (errors**2).sum() / B
    return total


@pytest.mark.parametrize("name", [name for name in KINDS if name != "cql of the best"])
def test_the_loss_is_that_of_the_mixed_action_in_the_successor(name):
    streams = Streams([0, 1]).child("batch")
    share = (streams.uniform("share", (B,)) * 3).floor() / 2
    if name == "dqn":
        share = share.round()
    learner, batch = make(name, rule=Table(share)), minibatch(streams, name)
    draws = learner.draws(streams)
    expected = expected_loss(learner, name, batch, draws, share)
    found = learner.update(batch, draws)["loss/critic"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    plain = make(name).update(batch, draws)["loss/critic"]
    assert not torch.isclose(found, plain).any()


@pytest.mark.parametrize("name", KINDS)
def test_with_the_learners_own_action_everywhere_nothing_changes(name):
    updated = {}
    for rule in (None, Table(torch.ones(2, B)), Table(torch.zeros(2, B))):
        learner, streams = make(name, rule=rule), Streams([0, 1]).child("batch")
        for _ in range(3):
            batch = minibatch(streams, name)
            learner.update(batch, learner.draws(streams))
        state = learner.state_dict()
        updated[None if rule is None else float(rule.share[0, 0])] = (
            state["network"] if name == "dqn" else state["networks"]
        )
    same = [torch.equal(value, updated[1.0][key]) for key, value in updated[None].items()]
    other = [torch.equal(value, updated[0.0][key]) for key, value in updated[None].items()]
    assert all(same) and not all(other)


@pytest.mark.parametrize("name", ["sac", "td3", "cql of the best", "dqn"])
def test_a_seed_learns_the_same_alone_and_in_company(name):
    found = []
    for seeds in ([7], [3, 7, 11]):
        options = arbiters["ibrl"].options(kind="ibrl", inverse_temperature=5.0, commitment=2)
        learner = make(name, seeds, build_arbiter(options))
        streams = Streams(seeds).child("batches")
        for _ in range(5):
            batch = minibatch(streams, name)
            learner.update(batch, learner.draws(streams))
        module = learner.network if name == "dqn" else learner.networks
        found.append([p[seeds.index(7)].clone() for p in module.parameters()])
    for alone, together in zip(*found, strict=True):
        assert torch.equal(alone, together)


def test_which_learners_listen_to_a_rule():
    listening = {
        name
        for name in learners.names()
        for made in [learners[name].make]
        if isinstance(made, type) and issubclass(made, BootstrapsFromActions)
    }
    assert {"sac", "td3", "td3_bc", "awac", "cql", "cal_ql", "dqn"} <= listening
    assert not listening & {"iql", "bc", "ppo"}


def test_what_cannot_be_a_target_is_told_in_one_line():
    learner, streams = make("td3", rule=Table(torch.full((2, B), 1.5))), Streams([0, 1])
    batch, draws = minibatch(streams, "td3"), learner.draws(streams)
    with pytest.raises(UserError, match=r"Table decided shares from 1.5 to 1.5 in target"):
        learner.update(batch, draws)
    with pytest.raises(UserError, match="without next_guide"):
        learner.update(replace(batch, next_guide=None), draws)
    learner = make("dqn", rule=Table(torch.full((2, B), 0.5)))
    batch = minibatch(streams, "dqn")
    with pytest.raises(UserError, match="choices cannot be mixed"):
        learner.update(batch, learner.draws(streams))
