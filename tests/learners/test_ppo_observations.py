"""PPO's running statistics of observations: beside NumPy, in rollouts, by seed, and in files."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import onnxruntime
import pytest
import torch
from fakes import FakeGuide, FixedSteps
from minibatches import small_encoder
from rollout.collected import make, through_a_file
from small_runs import different
from specs import vector
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Draws, Metrics
from jsrl.core.rollouts import ExploringStep, RolloutBatch
from jsrl.core.specs import DiscreteActions, ImagePart
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.learners.options import LearnerInputs
from jsrl.learners.ppo import PPO, PPOOptions
from jsrl.learners.running_statistics import RunningStatistics
from jsrl.networks.export import export_policy
from jsrl.networks.saved_policies import build_policy
from jsrl.rollout.on_policy import OnPolicyRunner

CPU = torch.device("cpu")
LENGTH, ENVS = 12, 2
SETTINGS = EnvSettings(fakes.COUNTING, {"lengths": (3, 5), "end": "truncated"})
CURRICULA = {0: FixedSteps(2), 3: FixedSteps(1)}


def setup_module() -> None:
    fakes.register()


class Watched(PPO):
    """Keeps what it sees, and what the policy makes of the first minibatch of each rollout."""

    seen: list[Tensor]
    first: list[tuple[Tensor, Tensor]]

    def explore(self, obs: Observation, streams: Streams) -> ExploringStep:
        self.seen = [*getattr(self, "seen", []), obs.vector.clone()]
        return super().explore(obs, streams)

    def update(self, batch: RolloutBatch, draws: Draws) -> Metrics:
        if self.updates % 4 == 0:
            actor = self.networks.actor
            log_prob, _ = actor.log_prob_and_entropy(actor.encode(batch.observation), batch.action)
            apart = (log_prob - batch.log_prob).detach(), self.values(batch.observation)
            self.first = [*getattr(self, "first", []), (apart[0], apart[1] - batch.value)]
        return super().update(batch, draws)


def options(**changes: Any) -> PPOOptions:
    settings = {"hidden": [8], "batch_size": 12, "epochs": 2, "rollout_length": LENGTH, **changes}
    made = PPOOptions(kind="ppo", normalise_observations=True, learning_rate=0.01, **settings)
    made.check()
    return made


def learner(seeds: tuple[int, ...] = (0, 3), size: int = 3, **changes: Any) -> PPO:
    inputs = LearnerInputs(Streams(seeds), vector(size), DiscreteActions(4), CPU)
    return PPO(options(**changes), inputs)


def runner(seeds: tuple[int, ...]) -> tuple[OnPolicyRunner, Watched]:
    spec, streams = describe_env(SETTINGS), Streams(seeds)
    made = Watched(options(), LearnerInputs(streams, spec.observation, spec.actions, CPU))
    collector = make(list(seeds), ENVS, SETTINGS)
    order, draws = streams.child("order"), streams.child("draws")
    return OnPolicyRunner(collector, made, order, draws, CPU), made


def steps(
    made: OnPolicyRunner, guide: FakeGuide, seeds: tuple[int, ...], count: int
) -> list[Metrics]:
    found = [made.step(guide, [CURRICULA[seed] for seed in seeds])[0] for _ in range(count)]
    return [metrics for metrics in found if metrics is not None]


def test_blocks_are_put_together_as_if_all_had_come_at_once() -> None:
    """Also where the mean is large beside the spread, which sums of squares would lose."""
    generator = np.random.default_rng(0)
    offset, scale = np.array([1e4, 0.0, -3.0]), np.array([1e-2, 1.0, 0.0])
    sizes = (5, 1, 40, 17)
    blocks = [
        (offset + scale * generator.standard_normal((2, size, 3))).astype(np.float32)
        for size in sizes
    ]
    statistics = RunningStatistics(2, 3, CPU)
    mean, std = statistics.normaliser()
    assert torch.equal(mean, torch.zeros(2, 1, 3))
    assert torch.equal(std, torch.ones(2, 1, 3))
    for number in range(len(blocks)):
        assert statistics.add(torch.from_numpy(blocks[number]), torch.tensor([True, True])).all()
        rows = np.concatenate(blocks[: number + 1], 1).astype(np.float64)
        mean, std = statistics.normaliser()
        np.testing.assert_allclose(mean[:, 0], rows.mean(1), rtol=1e-6)
        np.testing.assert_allclose(std[:, 0], np.sqrt(rows.var(1) + 1e-8), rtol=1e-6)
    # What never changes is 0, not what is left of it by rounding.
    assert (torch.from_numpy(blocks[0][..., 2:]) == mean[..., 2:]).all()


def test_a_seed_that_sits_out_or_would_not_be_finite_keeps_its_statistics() -> None:
    statistics = RunningStatistics(3, 2, CPU)
    everyone = torch.tensor([True, True, True])
    assert statistics.add(torch.randn(3, 6, 2), everyone).tolist() == [True, True, True]
    before = copy.deepcopy(statistics.state_dict())
    block = torch.randn(3, 6, 2)
    block[1, 3, 0] = math.inf
    assert statistics.add(block, torch.tensor([False, True, True])).tolist() == [True, False, True]
    after = statistics.state_dict()
    for name, tensor in after.items():
        assert torch.equal(tensor[:2], before[name][:2])
        assert not torch.equal(tensor[2], before[name][2])


def test_a_rollout_is_normalised_by_all_that_was_seen_before_it_and_the_ratio_begins_at_1() -> None:
    """Steps of the guide are among what was seen; every seed has statistics of its own."""
    seeds = (0, 3)
    made, watched = runner(seeds)
    guide, policy = FakeGuide(), watched.policy()
    vectors = torch.tensor([[[3.0, -1.0, 7.0]], [[3.0, -1.0, 7.0]]])
    for number in range(1, 4):
        before = [tensor.clone() for tensor in policy.normaliser()]
        steps(made, guide, seeds, LENGTH - 1)
        assert all(torch.equal(*pair) for pair in zip(before, policy.normaliser(), strict=True))
        [metrics] = steps(made, guide, seeds, 1)
        assert (metrics["policy/guide_share"] > 0.2).all()
        seen = torch.cat(watched.seen, 1).double().numpy()
        assert seen.shape == (2, number * LENGTH * ENVS, 3)
        mean, spread = seen.mean(1, keepdims=True), np.sqrt(seen.var(1, keepdims=True) + 1e-8)
        for own, expected in zip(policy.normaliser(), (mean, spread), strict=True):
            np.testing.assert_allclose(own, expected, rtol=1e-6)
        normalised = np.clip((vectors.numpy() - mean) / spread, -10, 10)
        np.testing.assert_allclose(policy.normalise(vectors), normalised, rtol=1e-4)
    assert not np.allclose(mean[0], mean[1])
    assert len(watched.first) == 3
    # Rows that are worked out beside others may differ in their last bit.
    for log_ratio, change_of_value in watched.first:
        torch.testing.assert_close(log_ratio, torch.zeros_like(log_ratio), atol=1e-6, rtol=0)
        torch.testing.assert_close(change_of_value, torch.zeros_like(log_ratio), atol=1e-6, rtol=0)


def test_normalised_observations_are_clipped_for_policy_and_value() -> None:
    made = learner((0,))
    block = torch.randn(1, 50, 3)
    made.after_rollout(Observation(block))
    far, farther = (Observation(torch.full((1, 1, 3), number)) for number in (1e3, 1e5))
    assert made.policy().normalise(far.vector).tolist() == [[[10, 10, 10]]]
    assert torch.equal(made.values(far), made.values(farther))
    assert not torch.equal(made.values(far), made.values(Observation(block[:, :1])))


def test_a_seed_runs_bitwise_the_same_alone_and_in_company() -> None:
    (both, together), (one, alone) = runner((0, 3)), runner((3,))
    of_both = steps(both, FakeGuide(), (0, 3), 3 * LENGTH)
    of_one = steps(one, FakeGuide(), (3,), 3 * LENGTH)
    assert len(of_both) == 3
    for company, own in zip(of_both, of_one, strict=True):
        assert all(torch.equal(company[name][1:], own[name]) for name in own)
    state, own_state = together.networks.state_dict(), alone.networks.state_dict()
    for name in own_state:
        assert torch.equal(state[name][1:], own_state[name]), name
    observed = together.state_dict()["observed"]
    for name, own_value in alone.state_dict()["observed"].items():
        assert torch.equal(observed[name][1:], own_value), name


@pytest.mark.parametrize("size", [1, 2, 5, 17])
def test_sums_do_not_depend_on_how_many_seeds_there_are(size: int) -> None:
    block = torch.randn(7, 333, size, generator=torch.Generator().manual_seed(size))
    together, alone = RunningStatistics(7, size, CPU), RunningStatistics(1, size, CPU)
    for part in block.split(111, 1):
        together.add(part, torch.ones(7, dtype=torch.bool))
        alone.add(part[4:5], torch.ones(1, dtype=torch.bool))
    for name, own in alone.state_dict().items():
        assert torch.equal(together.state_dict()[name][4:5], own), name


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_observation_that_is_not_finite_freezes_its_seed_alone(bad: float) -> None:
    together, alone = learner((0, 3)), learner((3,))
    for number in range(3):
        block = Streams([0, 3]).child("block", number).normal("block", (20, 3))
        alone.after_rollout(Observation(block[1:].clone()))
        if number == 1:
            block[0, 4, 1] = bad
        together.after_rollout(Observation(block))
    assert together.alive.tolist() == [False, True]
    mean, std = together.policy().normaliser()
    assert all(tensor.isfinite().all() for tensor in (mean, std))
    assert torch.equal(mean[1:], alone.policy().normaliser()[0])
    first = Streams([0]).child("block", 0).normal("block", (20, 3))
    torch.testing.assert_close(mean[0, 0], first[0].mean(0))


@pytest.mark.parametrize("cut", [5, LENGTH, LENGTH + 4])
def test_a_resume_is_exact(cut: int) -> None:
    seeds = (0, 3)
    made, watched = runner(seeds)
    guide, again = FakeGuide(stateful=True), FakeGuide(stateful=True)
    steps(made, guide, seeds, cut)
    saved = through_a_file({"runner": made.state_dict(), "learner": watched.state_dict()})
    resumed, other = runner(seeds)
    other.load_state_dict(saved["learner"])
    assert resumed.load_state_dict(saved["runner"], again) == []
    steps(made, guide, seeds, 2 * LENGTH)
    steps(resumed, again, seeds, 2 * LENGTH)
    assert different(made.state_dict(), resumed.state_dict()) == []
    assert different(watched.state_dict(), other.state_dict()) == []


@pytest.mark.parametrize("only_actor", [False, True], ids=["warm", "naive"])
def test_a_start_from_another_goes_on_with_its_seeds_statistics(only_actor: bool) -> None:
    other, made = learner((1, 2)), learner((8,))
    first, second = (5 + 2 * torch.randn(2, 30, 3) for _ in range(2))
    other.after_rollout(Observation(first))
    made.start_from(other.state_dict(), [1], only_actor=only_actor)
    for own, theirs in zip(made.policy().normaliser(), other.policy().normaliser(), strict=True):
        assert torch.equal(own, theirs[1:])
    for each, rows in ((other, second), (made, second[1:])):
        each.after_rollout(Observation(rows))
    for own, theirs in zip(made.policy().normaliser(), other.policy().normaliser(), strict=True):
        assert torch.equal(own, theirs[1:])


def test_a_saved_an_exported_and_a_chosen_policy_normalise_as_each_seed_did(tmp_path: Path) -> None:
    for actions, size in ((DiscreteActions(4), 3), (describe_env(SETTINGS).actions, 3)):
        inputs = LearnerInputs(Streams([0, 3, 5]), vector(size), actions, CPU)
        made = PPO(options(initialisation="pytorch"), inputs)
        offset = torch.tensor([0.0, 5.0, -40.0]).reshape(3, 1, 1)
        made.after_rollout(Observation(offset + torch.randn(3, 50, size)))
        policy = made.policy()
        # The last rows are clipped.
        rows = -40 + torch.cat([torch.randn(20, size), 50 * torch.randn(20, size)])
        seen = Observation(rows.expand(3, -1, -1))
        expected = policy.act(seen, None)
        rebuilt = build_policy(policy.describe(), policy.state_dict())
        assert torch.equal(rebuilt.act(seen, None), expected)
        turned = policy.select([2, 0]).act(seen[:2], None)
        torch.testing.assert_close(turned, expected[[2, 0]])
        files = export_policy(policy, 2, tmp_path / type(actions).__name__)
        own = expected[2].numpy()
        assert not np.allclose(own, expected[0].numpy(), atol=1e-3)
        with torch.no_grad():
            found = torch.jit.load(files["torchscript"])(rows).numpy()
        np.testing.assert_allclose(found, own, atol=1e-5)
        session = onnxruntime.InferenceSession(files["onnx"])
        [found] = session.run(["action"], {"observation": rows.numpy()})
        np.testing.assert_allclose(found, own, atol=1e-5)


def test_images_are_left_alone_and_without_a_vector_it_is_refused() -> None:
    images = (ImagePart(("camera",), (3, 21, 21), (0, 1, 2), (3, 21, 21)),)
    chosen = options(encoder=small_encoder(shift=0, features=4))
    inputs = LearnerInputs(Streams([0]), replace(vector(3), images=images), DiscreteActions(4), CPU)
    made = PPO(chosen, inputs)
    pixels = Streams([0]).integers("pixels", 256, (30, 3, 21, 21)).byte()
    seen = Observation(torch.randn(1, 30, 3), {"camera": pixels})
    made.after_rollout(seen)
    shifted = Observation(seen.vector + 4, seen.images)
    policy, plain = made.policy(), PPO(replace(chosen, normalise_observations=False), inputs)
    plain.start_from({"networks": _without_statistics(made, plain)}, [0], only_actor=False)
    in_units = Observation(policy.normalise(shifted.vector), seen.images)
    torch.testing.assert_close(made.values(shifted), plain.values(in_units))
    assert torch.equal(policy.act(shifted, None), plain.policy().act(in_units, None))
    whole = describe_env(SETTINGS)
    with pytest.raises(UserError, match=r"images alone.*set learner.normalise_observations=false"):
        chosen.check_environment(
            replace(
                whole, observation=replace(vector(0), images=images), actions=DiscreteActions(4)
            )
        )


def _without_statistics(made: PPO, plain: PPO) -> dict[str, Tensor]:
    """The networks of ``made`` as those of ``plain``, which has other statistics, 0 and 1."""
    statistics = {f"actor.observation_{name}" for name in ("mean", "std")}
    of_plain = {n: t for n, t in plain.networks.state_dict().items() if n in statistics}
    return made.networks.state_dict() | of_plain


def test_policies_that_do_not_normalise_are_described_as_they_were() -> None:
    plain = learner((0,))
    assert plain.policy().describe()["arguments"]["observation_clip"] == 10
    inputs = LearnerInputs(Streams([0]), vector(3), DiscreteActions(4), CPU)
    described = PPO(replace(options(), normalise_observations=False), inputs).policy().describe()
    assert not {"statistics_by_seed", "observation_clip"} & described["arguments"].keys()
