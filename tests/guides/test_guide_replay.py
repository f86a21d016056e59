"""Demonstrations as the guide: in time, by the nearest state, from files in any units."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import fakes
import h5py
import numpy as np
import pytest
import torch
from fakes import FakePolicy, FixedSteps
from guide_cases import SPEC, UNIT
from rollout.collected import assert_equal, assert_resumes_bitwise
from rollout.collected import make as make_collector
from rollout.collected import run as collect
from small_runs import QUIET, REACH, TINY, call, write_reach_data

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.processes import ALLOWED, UNUSED_KEYS
from jsrl.core.specs import DiscreteActions, EnvSpec, ImagePart
from jsrl.core.transitions import TransitionData
from jsrl.datasets import save_hdf5
from jsrl.datasets.dataset import Dataset, fingerprint
from jsrl.datasets.episodes import starts_of
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.guides import GuideView, guide_lines
from jsrl.guides.replay import ReplayGuide, ReplayOptions
from jsrl.run.build import build_guide
from jsrl.settings.schema import EnvConfig

fakes.register()
EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"
COUNTING = EnvSettings(fakes.COUNTING, {"lengths": (4, 6), "end": "truncated"})
CPU = torch.device("cpu")


def recorded(lengths, spec=UNIT, seed=0):
    """Demonstrations of these lengths, with random states and actions."""
    rng, count = np.random.default_rng(seed), sum(lengths)
    states = rng.normal(size=(count, spec.observation.size)).astype(np.float32)
    if isinstance(spec.actions, DiscreteActions):
        actions = rng.integers(spec.actions.n, size=count)
    else:
        actions = rng.uniform(-1, 1, (count, spec.actions.size)).astype(np.float32)
    ends = np.zeros(count, bool)
    ends[np.cumsum(lengths) - 1] = True
    data = TransitionData(
        states, actions, np.zeros(count, np.float32), states + 1, np.zeros(count, bool), ends
    )
    return Dataset(data, "demos", fingerprint(data), starts_of(data))


def start(guide, shape, episodes=None, seeds=None):
    everyone = torch.ones(shape, dtype=torch.bool)
    episodes = np.arange(everyone.numel()).reshape(shape) if episodes is None else episodes
    guide.begin(everyone, np.array(episodes), np.zeros(shape, int) if seeds is None else seeds)
    return everyone


def acted(guide, steps, vector, mask):
    """The actions of so many steps, ``[T, S, E, A]``."""
    return torch.stack([guide.act(Observation(vector), None, mask) for _ in range(steps)])


@pytest.mark.parametrize("after", ["last", "zeros"])
def test_actions_are_taken_one_after_the_other_and_then_the_last_or_zeros(after):
    demos = recorded([3, 2])
    guide = ReplayGuide(demos, GuideView(), UNIT, choose="round_robin", after=after)
    mask = start(guide, (1, 3), [[4, 7, 0]])  # the first, the second, the first
    seen = torch.zeros(1, 3, 5)
    actions = acted(guide, 4, seen, mask)[:, 0].numpy()
    own, end = demos.data.actions, np.zeros((2, 2))
    if after == "last":
        end = own[[2, 4]]
    np.testing.assert_array_equal(actions[:, 0], [*own[:3], end[0]])
    np.testing.assert_array_equal(actions[:, 1], [*own[3:5], end[1], end[1]])
    np.testing.assert_array_equal(actions[:, 2], actions[:, 0])
    # The first two begin again; the last goes on. A row that it does not act for stands still.
    guide.begin(torch.tensor([[True, True, False]]), np.array([[0, 2, 0]]), np.zeros((1, 3), int))
    only = torch.tensor([[True, False, True]])
    again = acted(guide, 1, seen, only)[0, 0].numpy()
    np.testing.assert_array_equal(again, [own[0], [0, 0], end[0]])
    rest = acted(guide, 2, seen, mask)[:, 0].numpy()
    np.testing.assert_array_equal(rest[:, 1], own[:2])


def test_choices_are_replayed_as_choices_and_have_no_zeros():
    spec = EnvSpec("Choices-v0", UNIT.observation, DiscreteActions(4, start=3), 50)
    demos = recorded([3], spec)
    guide = ReplayGuide(demos, GuideView(), spec)
    actions = acted(guide, 4, torch.zeros(1, 1, 5), start(guide, (1, 1)))
    assert actions.dtype == torch.int64
    assert actions.flatten().tolist() == [*demos.data.actions, demos.data.actions[-1]]
    with pytest.raises(UserError, match=r"guide\.after=zeros is no choice of Choices-v0"):
        ReplayGuide(demos, GuideView(), spec, after="zeros")


@pytest.mark.parametrize("normaliser", [None, (0.5, [2.0, 0.1, 3.0])])
def test_by_state_it_takes_the_action_of_the_nearest_state_that_was_recorded(normaliser):
    demos = recorded([20, 30])
    demos.data.observations[:, 3] = 7  # a column that never varies is not divided by its deviation
    chosen = ("observation",)
    view = GuideView(observation=chosen)
    if normaliser:
        view = replace(view, mean=normaliser[0], std=normaliser[1])
    guide = ReplayGuide(demos, view, UNIT, by="state")
    assert not guide.stateful
    generator = torch.Generator().manual_seed(3)
    vector = torch.randn(2, 8, 5, generator=generator)
    vector[..., 3] += 7
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[1, 2] = False
    actions = guide.act(Observation(vector), None, mask).numpy()
    # The same by hand: only the last three columns are seen.
    states, seen = demos.data.observations[:, 2:].astype(float), vector[..., 2:].double().numpy()
    std = states.std(0) if normaliser is None else np.array(normaliser[1])
    std[1] = 1.0 if normaliser is None else std[1]
    gaps = ((seen[:, :, None] - states) / std) ** 2
    expected = demos.data.actions[gaps.sum(-1).argmin(-1)]
    expected[1, 2] = 0
    np.testing.assert_array_equal(actions, expected)
    assert len(np.unique(expected[..., 0])) > 5


def test_the_demonstration_that_starts_nearest_is_chosen_by_the_first_that_is_seen():
    demos = recorded([4, 4, 4])
    guide = ReplayGuide(demos, GuideView(), UNIT, choose="nearest_start")
    vector = torch.from_numpy(demos.data.observations[[8, 0]]).unsqueeze(0) + 0.01
    mask = start(guide, (1, 2))
    first = guide.act(Observation(vector), None, mask)[0].numpy()
    np.testing.assert_array_equal(first, demos.data.actions[[8, 0]])
    # What is seen later does not matter.
    later = guide.act(Observation(torch.zeros(1, 2, 5)), None, mask)[0].numpy()
    np.testing.assert_array_equal(later, demos.data.actions[[9, 1]])


def test_a_demonstration_is_drawn_by_the_key_of_the_episode_and_each_is_equally_often():
    demos = recorded([1, 1, 1])
    guide = ReplayGuide(demos, GuideView(), UNIT)
    seeds = np.arange(900).reshape(2, 450)
    mask = start(guide, (2, 450), seeds=seeds)
    first = guide.act(Observation(torch.zeros(2, 450, 5)), None, mask)
    counts = np.unique(first[..., 0].numpy(), return_counts=True)[1]
    assert len(counts) == 3
    assert (np.abs(counts - 300) < 5 * np.sqrt(900 * 2 / 9)).all()
    alone = ReplayGuide(demos, GuideView(), UNIT)
    own = start(alone, (1, 450), seeds=seeds[1:])
    assert torch.equal(first[1:], alone.act(Observation(torch.zeros(1, 450, 5)), None, own))


@pytest.mark.parametrize("choose", ["random", "round_robin", "nearest_start"])
def test_a_resumed_run_goes_on_with_the_same_demonstration_and_seeds_do_not_matter(choose):
    spec = describe_env(COUNTING)
    demos = recorded([3, 6, 2, 5], spec)

    def make():
        return ReplayGuide(demos, GuideView(), spec, choose=choose)

    rows = assert_resumes_bitwise(COUNTING, 8, [FixedSteps(4)] * 2, FakePolicy, make)
    assert rows.by_guide.any() and not rows.by_guide.all()
    whole = {}
    for seeds in ([0, 1], [1]):
        collector = make_collector(seeds, 2, COUNTING)
        whole[len(seeds)], _ = collect(
            collector, 20, FakePolicy(), make(), [FixedSteps(4)] * len(seeds)
        )
        collector.close()
    assert_equal(whole[2][:, 1:], whole[1])


def of_file(path, spec=SPEC, **options):
    options = ReplayOptions("replay", path=str(path), **options)
    return build_guide(options, EnvConfig(id=spec.id), spec, [0], CPU)


def test_the_files_units_are_converted_to_the_environments_and_told(tmp_path):
    demos = recorded([3, 2])
    own = replace(demos.data, actions=2 * demos.data.actions)  # as SPEC takes them: -2 to 2
    save_hdf5(tmp_path / "demos.hdf5", own, {}, {}, action_units="environment")
    guide = of_file(tmp_path / "demos.hdf5", choose="round_robin")
    first = acted(guide, 1, torch.zeros(1, 2, 5), start(guide, (1, 2)))[0, 0].numpy()
    np.testing.assert_allclose(first, demos.data.actions[[0, 3]], atol=1e-6)
    lines = "\n".join(guide_lines(guide))
    assert "[-2, 2]" in lines
    assert "2 demonstrations of 2 to 3 steps; one of them, in turns" in lines
    wide = of_file(tmp_path / "demos.hdf5", action_low=-4, action_high=4)
    assert wide.fingerprint != guide.fingerprint


def test_mistakes_are_told_by_the_keys_of_the_guide(tmp_path):
    demos = recorded([3])
    save_hdf5(tmp_path / "demos.hdf5", demos.data, {}, {})
    with h5py.File(tmp_path / "far.hdf5", "w") as file:
        for name, array in replace(demos.data, actions=9 * demos.data.actions).arrays().items():
            file[name] = array
    narrow = replace(SPEC, actions=replace(SPEC.actions, low=(-1.0,), high=(1.0,), shape=(1,)))
    pictured = ImagePart(("view",), (3, 4, 5), None, (3, 4, 5))
    images = replace(SPEC, observation=replace(SPEC.observation, images=(pictured,)))
    for make, words in (
        (lambda: of_file(tmp_path / "no.hdf5"), ("guide.path", "no.hdf5")),
        (lambda: of_file(tmp_path / "demos.hdf5", spec=narrow), ("action size is 2",)),
        (lambda: of_file(tmp_path / "far.hdf5"), ("guide.clip_actions",)),
        (lambda: of_file(tmp_path / "demos.hdf5", by="place"), ("guide.by='place'", "time, state")),
        (
            lambda: of_file(tmp_path / "demos.hdf5", by="state", choose="random"),
            ("guide.choose=random", "leave guide.choose out"),
        ),
        (
            lambda: ReplayGuide(demos, GuideView(), images, by="state"),
            ("guide.by=state", "view", "guide.observation"),
        ),
    ):
        with pytest.raises(UserError) as caught:
            make()
        assert [word for word in words if word not in str(caught.value)] == []
        assert "\n" not in str(caught.value)
        assert "dataset." not in str(caught.value)


def test_a_missing_file_ends_the_command_with_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    ended = call(
        monkeypatch,
        capfd,
        *("train", *REACH, *TINY, "dataset=none", "guide=replay", "guide.path=no.hdf5"),
        *("curriculum=jsrl", "offline.updates=0", "online.offline_fraction=0", "run_dir=run"),
    )
    assert ended.status == 2
    assert "guide.path=no.hdf5" in ended.err and "Traceback" not in ended.err


def test_the_example_in_ten_lines(tmp_path, monkeypatch):
    monkeypatch.setenv(UNUSED_KEYS, ALLOWED)
    found = importlib.util.spec_from_file_location("example", EXAMPLES / "guide_replay.py")
    example = importlib.util.module_from_spec(found)
    found.loader.exec_module(example)
    path = write_reach_data(tmp_path / "demos.hdf5")
    run = example.train(
        *(str(path), *QUIET, *TINY, *REACH, "online.steps=60", "online.offline_fraction=0"),
        f"run_dir={tmp_path / 'run'}",
    )
    assert run.summary["evaluation"]["guide"]["success"]["mean"] is not None
