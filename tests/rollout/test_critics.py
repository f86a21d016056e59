"""What critics say to a rule, of every learner, and which learners have any."""

import numpy as np
import pytest
import torch
from specs import box, vector

from jsrl.core.arbitration import ENSEMBLE, Q, V
from jsrl.core.observations import Observation
from jsrl.core.specs import DiscreteActions
from jsrl.core.streams import Streams
from jsrl.learners import learners
from jsrl.learners.options import LearnerInputs
from jsrl.rollout.critics import LearnerCritics, offered

OBSERVATION, ACTIONS = vector(3), box([-1.0] * 2, [1.0] * 2)
ALL = frozenset({Q, ENSEMBLE, V})


def made(kind):
    actions = DiscreteActions(4) if kind == "dqn" else ACTIONS
    options = learners[kind].options(kind=kind, hidden=[8], batch_size=4)
    return learners.build(
        options, LearnerInputs(Streams([0, 1]), OBSERVATION, actions, torch.device("cpu"))
    )


@pytest.mark.parametrize("kind", ["iql", "sac", "td3", "awac", "cql", "cal_ql", "dqn"])
def test_values_are_those_of_the_critics_the_targets_and_the_policy(kind):
    learner, generator = made(kind), torch.Generator().manual_seed(0)
    critics = LearnerCritics(learner)
    seen = Observation(torch.randn(2, 5, 3, generator=generator))
    action = torch.rand(2, 5, 2, generator=generator) * 2 - 1
    if kind == "dqn":
        action = torch.randint(0, 4, (2, 5), generator=generator)
    q, target = critics.q(seen, action), critics.target_q(seen, action)
    assert q.shape == target.shape == (2, 1 if kind == "dqn" else q.shape[1], 5)
    # Targets begin as copies, and stay where they are while the critics move.
    torch.testing.assert_close(q, target)
    network = learner.network if kind == "dqn" else learner.networks.critic
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(critics.target_q(seen, action), target)
    moved = critics.q(seen, action)
    assert not torch.allclose(moved, q)
    best = learner.policy().act(seen, None)
    expected = learner.networks.v(seen) if kind == "iql" else critics.q(seen, best).amin(1)
    torch.testing.assert_close(critics.v(seen), expected)
    assert not q.requires_grad and not critics.v(seen).requires_grad
    alone = critics.q(Observation(seen.vector.clone()), action)
    assert np.array_equal(alone.numpy(), moved.numpy())


def test_a_learner_offers_what_it_has():
    found = {
        name: offered(learners[name].make)
        for name in learners.names()
        if isinstance(learners[name].make, type)
    }
    assert found["bc"] == frozenset()
    assert found["ppo"] == {V}
    assert found["dqn"] == {Q, V}
    rest = {name: offer for name, offer in found.items() if name not in ("bc", "ppo", "dqn")}
    assert set(rest.values()) == {ALL} and len(rest) >= 6
