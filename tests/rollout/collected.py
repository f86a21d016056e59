"""What a collector did, step by step, as named tensors; and collectors that are cut in two."""

import io
from dataclasses import dataclass, fields

import numpy as np
import torch

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, describe_env
from jsrl.rollout.collector import Collector

CPU = torch.device("cpu")


@dataclass
class Rows:
    """T steps of S seeds with E environments each, ``[T, S, E]``.

    ``next_observation`` is the true successor, also where an episode ended.
    """

    observation: Observation
    action: torch.Tensor
    reward: torch.Tensor
    next_observation: Observation
    terminated: torch.Tensor
    truncated: torch.Tensor
    by_guide: torch.Tensor
    stage: torch.Tensor

    def __getitem__(self, index):
        return Rows(*(getattr(self, field.name)[index] for field in fields(self)))

    @property
    def seen(self):
        """The vectors of what was seen."""
        return self.observation.vector

    @property
    def ended(self):
        return self.terminated | self.truncated


def make(seeds, num_envs, settings):
    return Collector(
        Environments(settings, len(seeds) * num_envs),
        describe_env(settings),
        num_envs,
        Streams(seeds).child("collector"),
        CPU,
    )


def run(collector, steps, policy, guide, curricula):
    """The rows of all steps, and the episodes that ended."""
    found, episodes = [], []
    for _ in range(steps):
        moment, step, ended = collector.step(policy, guide, curricula)
        found.append(_row(moment, step, collector.guide_steps.shape))
        episodes += ended
    return together(found, torch.stack), episodes


def together(rows, join=torch.cat):
    """Rows that follow one another."""

    def joined(name):
        parts = [getattr(row, name) for row in rows]
        if not isinstance(parts[0], Observation):
            return join(parts)
        images = {image: join([part.images[image] for part in parts]) for image in parts[0].images}
        return Observation(join([part.vector for part in parts]), images)

    return Rows(*(joined(field.name) for field in fields(Rows)))


def assert_equal(one, other):
    """Bit by bit."""
    for field in fields(Rows):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if not isinstance(mine, Observation):
            assert mine.dtype == theirs.dtype, field.name
            assert torch.equal(mine, theirs), field.name
            continue
        assert torch.equal(mine.vector, theirs.vector), field.name
        assert mine.images.keys() == theirs.images.keys()
        assert all(torch.equal(mine.images[name], theirs.images[name]) for name in mine.images)


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_resumes_bitwise(
    settings, cut, curricula, make_policy, make_guide, further=15, num_envs=2
):
    """Environments of each seed go on after ``cut`` steps as if nothing had happened.

    Returns:
        What was collected after the cut.
    """
    seeds = list(range(len(curricula)))
    collector, guide = make(seeds, num_envs, settings), make_guide()
    run(collector, cut, make_policy(), guide, curricula)
    state = through_a_file(collector.state_dict())
    expected, episodes = run(collector, further, make_policy(), guide, curricula)

    resumed, fresh_guide = make(seeds, num_envs, settings), make_guide()
    assert resumed.load_state_dict(state, fresh_guide) == []
    rows, again = run(resumed, further, make_policy(), fresh_guide, curricula)
    assert_equal(rows, expected)
    assert again == episodes
    collector.close()
    resumed.close()
    return rows


def _row(moment, step, shape):
    # Copies, since nothing says that the arrays stay as they are after the next step.
    def arranged(array):
        return torch.from_numpy(np.array(array)).reshape(*shape, *array.shape[1:])

    return Rows(
        observation=moment.observation.copy().arranged(*shape),
        action=arranged(moment.actions),
        reward=arranged(step.rewards),
        next_observation=step.observation.copy().arranged(*shape),
        terminated=arranged(step.terminated),
        truncated=arranged(step.truncated),
        by_guide=arranged(moment.by_guide),
        stage=arranged(moment.stages),
    )
