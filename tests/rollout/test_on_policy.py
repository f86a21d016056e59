"""Rollouts of real environments: what a learner is given of them, guides, limits, and resuming."""

from dataclasses import replace
from typing import Any

import fakes
import pytest
import torch
from fakes import FakeGuide, FixedSteps
from rollout.collected import make, through_a_file
from small_runs import different
from torch import Tensor

from jsrl.core.observations import Observation
from jsrl.core.protocols import Consumes, DataNeeds, Draws, Metrics
from jsrl.core.rollouts import ExploringStep, RolloutBatch, RolloutNeeds
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.learners.options import LearnerInputs
from jsrl.learners.ppo import PPO, PPOOptions
from jsrl.rollout.on_policy import OnPolicyRunner

CPU = torch.device("cpu")
DISCOUNT, TRACE = 0.9, 0.8
LENGTH, ENVS, EPISODE = 14, 2, 4
CURRICULA = [FixedSteps(2), FixedSteps(0)]


def setup_module() -> None:
    fakes.register()


class Listener:
    """Says what can be foretold, keeps what it is given, and learns nothing.

    Its value of an observation (start, t, sum) is 10·start + t, and what it draws is beyond what
    the environment takes.
    """

    needs = DataNeeds(Consumes.ROLLOUTS, (("actor",),), discount=DISCOUNT)

    def __init__(self, **changes: Any) -> None:
        needs = RolloutNeeds(LENGTH, epochs=2, batch_size=7, trace=TRACE)
        self.rollouts = replace(needs, **changes)
        self.batches: list[RolloutBatch] = []

    def explore(self, obs: Observation, streams: Streams) -> ExploringStep:
        sample = 3 * streams.normal("action_noise", (obs.leading[1], fakes.ACTION_SIZE))
        return ExploringStep(sample.clamp(-1, 1), sample, sample.sum(-1), self.values(obs))

    def values(self, obs: Observation) -> Tensor:
        return 10 * obs.vector[..., 0] + obs.vector[..., 1]

    def draws(self, streams: Streams) -> Draws:
        return {}

    def update(self, batch: RolloutBatch, draws: Draws) -> Metrics:
        self.batches.append(batch)
        counts = batch.weight.any(-1)
        return {"mean": torch.where(counts, batch.value.mean(-1), torch.nan)}


def runner(learner: Any, **environment: Any) -> OnPolicyRunner:
    collector = make(
        [0, 3], ENVS, EnvSettings(fakes.COUNTING, {"lengths": (EPISODE,)} | environment)
    )
    order = Streams([0, 3]).child("order")
    return OnPolicyRunner(collector, learner, order, Streams([0, 3]).child("draws"), CPU)


Row = dict[str, Any]


def rows_of(batches: list[RolloutBatch], seed: int) -> list[Row]:
    """Each step that is in minibatches, with what the environment paid and what it observed."""
    found = []
    for batch in batches:
        for place in range(batch.weight.shape[1]):
            start, clock, _ = batch.observation.vector[seed, place].tolist()
            found.append(
                {
                    "episode": start,
                    "clock": int(clock),
                    "value": 10 * start + clock,
                    # Of the true successor, also where the episode ended.
                    "next_value": 10 * start + clock + 1,
                    "reward": clock + 1 + batch.action[seed, place, 0].clamp(-1, 1).item(),
                    "advantage": batch.advantage[seed, place].item(),
                    "target": batch.value_target[seed, place].item(),
                    "weight": batch.weight[seed, place].item(),
                }
            )
    return sorted(found, key=lambda row: (row["episode"], row["clock"]))


def by_hand(rows: list[Row], index: int, terminates: bool) -> float:
    """The sum of the errors of the values, from a step on to the last of its episode."""
    total, factor = 0.0, 1.0
    for row in rows[index:]:
        if row["episode"] != rows[index]["episode"]:
            break
        ended = terminates and row["clock"] == EPISODE - 1
        after = 0.0 if ended else row["next_value"]
        total += factor * (row["reward"] + DISCOUNT * after - row["value"])
        factor *= DISCOUNT * TRACE
    return total


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_advantages_are_those_of_the_episodes_that_were_stepped(end: str) -> None:
    """Three episodes of each environment, and two steps of a fourth that the rollout cuts."""
    learner = Listener()
    made = runner(learner, end=end)
    for number in range(LENGTH):
        metrics, _, _ = made.step(None, CURRICULA)
        assert (metrics is None) == (number < LENGTH - 1)
    assert (made.steps, made.updates, len(learner.batches)) == (LENGTH * ENVS, 8, 8)
    for seed in range(2):
        rows = rows_of(learner.batches[:4], seed)
        assert len(rows) == LENGTH * ENVS
        assert len({(row["episode"], row["clock"]) for row in rows}) == len(rows)
        for index, row in enumerate(rows):
            expected = by_hand(rows, index, end == "terminated")
            assert row["advantage"] == pytest.approx(expected, abs=1e-4)
            assert row["target"] == pytest.approx(expected + row["value"], abs=1e-4)


def test_each_epoch_has_an_order_of_its_own_and_so_has_each_seed() -> None:
    learner = Listener()
    made = runner(learner)
    for _ in range(LENGTH):
        made.step(None, CURRICULA)
    orders = [
        torch.cat([batch.observation.vector[seed] for batch in batches]).tolist()
        for batches in (learner.batches[:4], learner.batches[4:])
        for seed in range(2)
    ]
    for one, other in ((orders[0], orders[2]), (orders[1], orders[3])):
        assert sorted(one) == sorted(other)
        assert one != other
    # Of the step number alone, in which the seeds would agree if they had one order.
    clocks = [[row[1] for row in order] for order in orders]
    assert clocks[0] != clocks[1]


def test_steps_of_the_guide_weigh_nothing_and_rewards_are_scaled() -> None:
    learner, guide = Listener(reward_scale=2.0, reward_shift=-1.0), FakeGuide(answer=0.5)
    made = runner(learner)
    shares = [made.step(guide, CURRICULA)[2].tolist() for _ in range(LENGTH)]
    assert [share[0] for share in shares[:5]] == [1, 1, 0, 0, 1]
    assert not any(share[1] for share in shares)
    for row in rows_of(learner.batches[:4], 0):
        assert row["weight"] == (row["clock"] >= 2)
    rows = rows_of(learner.batches[:4], 1)
    assert all(row["weight"] == 1 for row in rows)
    for row in rows:
        row["reward"] = 2 * row["reward"] - 1
    for index, row in enumerate(rows):
        assert row["advantage"] == pytest.approx(by_hand(rows, index, True), abs=1e-4)


def test_metrics_are_means_over_the_minibatches_in_which_a_seed_had_a_step() -> None:
    learner = Listener()
    made = runner(learner)
    throughout = [FixedSteps(EPISODE), FixedSteps(0)]
    for _ in range(LENGTH):
        metrics, _, _ = made.step(FakeGuide(), throughout)
    assert metrics is not None
    assert metrics["mean"][0].isnan()
    expected = torch.stack([batch.value[1].mean() for batch in learner.batches]).mean()
    assert metrics["mean"][1] == pytest.approx(expected.item(), rel=1e-5)


def test_the_latest_actions_are_those_that_were_done() -> None:
    made = runner(Listener())
    for _ in range(3):
        made.step(FakeGuide(answer=0.5), CURRICULA)
    found = made.latest_actions(4)
    assert found.shape == (2, 4, fakes.ACTION_SIZE)
    # Of the last two steps, in the first of which the guide acted.
    assert (found[0, :2] == 0.5).all()
    assert (abs(found) <= 1).all()
    assert not (found[0, 2:] == 0.5).any()
    assert made.latest_actions(1000).shape[1] == 3 * ENVS


@pytest.mark.parametrize("cut", [5, LENGTH - 1, LENGTH, LENGTH + 3])
@pytest.mark.parametrize("env_id", [fakes.COUNTING, fakes.CHOOSING])
def test_a_resume_restores_everything_bitwise(cut: int, env_id: str) -> None:
    settings = EnvSettings(env_id, {"lengths": (3, 5), "end": "truncated"})
    chooses = env_id == fakes.CHOOSING
    made, learner = _with_ppo(settings)
    guide = FakeGuide(stateful=True, chooses=chooses)
    for _ in range(cut):
        made.step(guide, CURRICULA)
    saved = through_a_file({"runner": made.state_dict(), "learner": learner.state_dict()})
    resumed, other = _with_ppo(settings)
    again = FakeGuide(stateful=True, chooses=chooses)
    other.load_state_dict(saved["learner"])
    assert resumed.load_state_dict(saved["runner"], again) == []
    assert different(saved["runner"], resumed.state_dict()) == []
    for _ in range(LENGTH + 2):
        one, two = made.step(guide, CURRICULA), resumed.step(again, CURRICULA)
        assert one[1] == two[1]
        assert (one[0] is None) == (two[0] is None)
        for name, value in (one[0] or {}).items():
            assert torch.equal(value.nan_to_num(9.0), (two[0] or {})[name].nan_to_num(9.0)), name
    assert different(made.state_dict(), resumed.state_dict()) == []
    assert different(learner.state_dict(), other.state_dict()) == []


def _with_ppo(settings: EnvSettings) -> tuple[OnPolicyRunner, PPO]:
    spec = describe_env(settings)
    collector = make([0, 3], ENVS, settings)
    options = PPOOptions(kind="ppo", hidden=[8], batch_size=7, epochs=2, rollout_length=LENGTH)
    streams = Streams([0, 3])
    learner = PPO(options, LearnerInputs(streams, spec.observation, spec.actions, CPU))
    order, draws = streams.child("order"), streams.child("draws")
    return OnPolicyRunner(collector, learner, order, draws, CPU), learner
