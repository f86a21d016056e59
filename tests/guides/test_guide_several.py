"""Several guides: who is chosen, what members keep of their own, and what transitions say."""

import copy
import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import fakes
import h5py
import numpy as np
import pytest
import torch
from disturbances import STEP, kill, terminate, train_disturbed
from fakes import FakeGuide, FakePolicy, FixedSteps
from guide_cases import UNIT
from rollout.collected import assert_equal, assert_resumes_bitwise
from rollout.collected import make as make_collector
from rollout.collected import run as collect
from small_runs import (
    QUIET,
    REACH,
    TINY,
    assert_same_run,
    call,
    composed,
    newest_state,
    train_here,
    write_reach_data,
)
from specs import box, vector

from jsrl.commands.paths import expand_paths
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.processes import ALLOWED, UNUSED_KEYS
from jsrl.core.streams import seed_sequence
from jsrl.core.transitions import Moment, TransitionData
from jsrl.datasets.antmaze_walks import WalkingGuide
from jsrl.datasets.rollouts import collect_rollouts
from jsrl.envs.make import EnvSettings, Step, describe_env
from jsrl.guides import GuideInputs, guides
from jsrl.guides.several import SeveralGuide, SeveralOptions
from jsrl.rollout.offline_store import OfflineStore
from jsrl.rollout.packing import joined
from jsrl.rollout.transition_store import TransitionStore
from jsrl.run.origin import anchor
from jsrl.run.saved_evaluation import evaluate_run

fakes.register()
EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"
COUNTING = EnvSettings(fakes.COUNTING, {"lengths": (4, 6)})
CPU = torch.device("cpu")
EVERYONE = torch.ones(2, 3, dtype=torch.bool)


def several(members, num_seeds=2, actions=UNIT.actions, **options):
    kinds = [f"kind{index}" for index in range(len(members))]
    return SeveralGuide(members, kinds, actions, num_seeds, **options)


def begun(guide, shape, first=0):
    """Begin episodes everywhere, with keys that differ; who is in charge."""
    keys = first + np.arange(int(np.prod(shape))).reshape(shape)
    guide.begin(torch.ones(shape, dtype=torch.bool), keys, keys)
    return guide.acting()


def test_in_turns_by_the_numbers_of_episodes_and_each_is_asked_for_its_own_alone():
    members = [FakeGuide(0.1), FakeGuide(-0.4, stateful=True)]
    guide = several(members, choose="round_robin")
    assert begun(guide, (2, 3)).tolist() == [[0, 1, 0], [1, 0, 1]]
    assert torch.equal(members[0].resets[0] | members[1].resets[0], EVERYONE)
    mask = EVERYONE.clone()
    mask[1, 2] = False
    obs = Observation(torch.zeros(2, 3, 5))
    actions = guide.act(obs, None, mask)[..., 0]
    assert torch.equal(actions, torch.tensor([[0.1, -0.4, 0.1], [-0.4, 0.1, 0.0]]))
    # The second has a memory of its own, by which its sign alternates.
    assert torch.equal(guide.act(obs, None, EVERYONE)[0, :, 0], torch.tensor([0.1, 0.4, 0.1]))


def test_weights_are_the_shares_of_episodes_and_a_draw_follows_from_its_key_alone():
    guide = several([FakeGuide(), FakeGuide(), FakeGuide()], weights=[0.5, 0.5, 0.0])
    together = begun(guide, (2, 400))
    counts = np.bincount(together.ravel(), minlength=3)
    assert counts[2] == 0
    assert abs(counts[0] - 400) < 5 * np.sqrt(800 * 0.25)
    alone = several([FakeGuide(), FakeGuide(), FakeGuide()], 1, weights=[0.5, 0.5, 0.0])
    np.testing.assert_array_equal(begun(alone, (1, 400), first=400), together[1:])


def test_success_so_far_is_drawn_from_the_beta_posteriors_of_each_seed():
    guide = several([FakeGuide(), FakeGuide()], choose="success")
    begun(guide, (2, 3))
    # Of the first seed, all that the second member began were solved, and none of the first's.
    solved, failed = np.zeros((2, 2)), np.zeros((2, 2))
    for turn in range(40):
        who = begun(guide, (2, 3), first=100 * turn)
        success = np.where(np.array([[True], [False]]), who == 1, 0.0)
        guide.ended(EVERYONE, np.zeros((2, 3)), success)
        for seed in range(2):
            for member in range(2):
                own = who[seed] == member
                solved[seed, member] += success[seed][own].sum()
                failed[seed, member] += (1 - success[seed][own]).sum()
    who = begun(guide, (2, 3), first=10_000)
    expected = np.zeros((2, 3))
    for seed in range(2):
        for env in range(3):
            key = 10_000 + 3 * seed + env
            draws = np.random.default_rng(seed_sequence(key, "guide member"))
            expected[seed, env] = draws.beta(1 + solved[seed], 1 + failed[seed]).argmax()
    np.testing.assert_array_equal(who, expected)
    assert solved[0, 1] > 80 and solved[1].sum() == 0
    later = [begun(guide, (2, 3), first=20_000 + 6 * turn)[0] for turn in range(100)]
    assert (np.array(later) == 1).mean() > 0.9


@pytest.mark.parametrize("choose", ["weights", "round_robin", "success"])
def test_a_collector_labels_members_resumes_and_a_seed_is_the_same_alone(choose):
    spec = describe_env(COUNTING)

    def make(num_seeds=2):
        members = [FakeGuide(0.25, noise=0.1), FakeGuide(-0.75, stateful=True)]
        return several(members, num_seeds, spec.actions, choose=choose)

    found = {}
    for seeds in ([0, 1], [1]):
        collector, guide = make_collector(seeds, 2, COUNTING), make(len(seeds))
        curricula = [FixedSteps(2)] * len(seeds)
        rows, members = [], []
        for _ in range(30):
            moment, _, _ = collector.step(FakePolicy(), guide, curricula)
            members.append(moment.members.reshape(len(seeds), 2))
            rows.append(moment.actions.reshape(len(seeds), 2, -1))
            assert ((moment.members >= 0) == moment.by_guide).all()
            second = moment.members == 1
            assert (np.abs(moment.actions[second]) == 0.75).all()
        found[len(seeds)] = np.stack(members), np.stack(rows)
        collector.close()
    for together, alone in zip(found[2], found[1], strict=True):
        np.testing.assert_array_equal(together[:, 1:], alone)
    assert set(np.unique(found[2][0])) == {-1, 0, 1}
    if choose != "success":
        assert_resumes_bitwise(COUNTING, 7, [FixedSteps(3)] * 2, FakePolicy, make)


def test_members_without_memory_are_not_asked_again_on_resuming():
    spec, made = describe_env(COUNTING), []

    def make():
        made.append([FakeGuide(0.25), FakeGuide(-0.75, stateful=True)])
        return several(made[-1], 2, spec.actions, choose="round_robin")

    first, guide = make_collector([0, 1], 2, COUNTING), make()
    collect(first, 3, FakePolicy(), guide, [FixedSteps(9)] * 2)
    again = make_collector([0, 1], 2, COUNTING)
    assert again.load_state_dict(first.state_dict(), make()) == []
    first.close()
    again.close()
    plain, remembers = made[1]
    assert plain.calls == []
    assert torch.equal(remembers.memory, made[0][1].memory)


def options(*members, **others):
    return SeveralOptions("several", members=list(members), **others)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (options(), ("guide.members is empty",)),
        (options("npz"), ("guide.members[0]='npz'", "{kind: NAME")),
        (options({"kind": "npz"}), ("guide.members[0].path is not set", "guide=npz")),
        (options({"kind": "npzz"}), ("guide.members[0].kind='npzz'", "did you mean npz?")),
        (options({"kind": "offline"}), ("kind='offline' cannot be one of several",)),
        (options({"kind": "several"}), ("kind='several' cannot be one of several",)),
        (
            options({"kind": "random"}, {"kind": "npz", "paht": "x"}),
            ("guide.members[1].paht", "guide=npz", "did you mean path?"),
        ),
        (
            options({"kind": "npz", "path": "x", "noise": "much"}),
            ("guide.members[0].noise='much'", "does not fit"),
        ),
        (
            options({"kind": "npz", "path": "x", "noise": -1}),
            ("guide.members[0].noise=-1", "at least 0"),
        ),
        (options({"kind": "random"}, choose="luck"), ("guide.choose='luck'", "round_robin")),
        (
            options({"kind": "random"}, weights=[0.5, 0.5]),
            ("guide.weights=[0.5, 0.5]", "2 weights", "1 guides"),
        ),
        (
            options({"kind": "random"}, choose="success", weights=[1.0]),
            ("guide.weights=[1]", "guide.choose=success"),
        ),
        (options({"kind": "random"}, weights=[-1.0]), ("guide.weights=[-1]", "0 or more")),
    ],
)
def test_mistakes_are_told_by_the_member_that_they_are_in(given, words):
    with pytest.raises(UserError) as caught:
        given.check()
    assert [word for word in words if word not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_sum_to_1_are_refused_with_ones_that_do():
    three = [{"kind": "random"}] * 3
    with pytest.raises(UserError, match=r"guide\.weights=\[1, 2, 4\] sums to 7") as caught:
        options(*three, weights=[1.0, 2.0, 4.0]).check()
    advised = re.search(r"guide\.weights=\[([\d.,]+)\]$", str(caught.value))
    weights = [float(number) for number in advised[1].split(",")]
    options(*three, weights=weights).check()
    np.testing.assert_allclose(weights, np.array([1, 2, 4]) / 7, atol=1e-6)


def test_a_members_fault_while_it_acts_names_it_and_success_has_to_be_known(tmp_path):
    (tmp_path / "far.py").write_text(
        "import numpy as np\ndef far(observations): return np.full((len(observations), 2), 2.0)\n"
    )
    far = {"kind": "python", "target": f"{tmp_path}/far.py:far"}
    inputs = GuideInputs(UNIT, [0], CPU, EnvSettings("Unit-v0", success_key=None))
    guide = guides.build(options({"kind": "random"}, far, choose="round_robin"), inputs)
    assert begun(guide, (1, 2)).tolist() == [[0, 1]]
    with pytest.raises(UserError, match=r"set guide\.members\[1\]\.action_low and guide\.members"):
        guide.act(Observation(torch.zeros(1, 2, 5)), None, torch.ones(1, 2, dtype=torch.bool))
    # Each keeps its own units and its own selection of the observation.
    wide = {**far, "action_low": -4, "action_high": 4, "observation": ["desired_goal"]}
    mended = guides.build(options({"kind": "random"}, wide, choose="round_robin"), inputs)
    begun(mended, (1, 2))
    acted = mended.act(Observation(torch.zeros(1, 2, 5)), None, torch.ones(1, 2, dtype=torch.bool))
    assert acted[0, 1].tolist() == [0.5, 0.5]
    with pytest.raises(UserError, match=r"guide\.choose=success .* env\.success_key is null"):
        guides.build(options({"kind": "random"}, choose="success"), inputs)


def test_a_missing_guide_ends_the_command_with_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    ended = call(
        monkeypatch,
        capfd,
        *("train", *REACH, *TINY, "dataset=none", "guide=several", "curriculum=jsrl"),
        "guide.members=[{kind: random}, {kind: onnx, path: no.onnx}]",
        *("offline.updates=0", "online.offline_fraction=0", "run_dir=run"),
    )
    assert ended.status == 2
    assert "guide.members[1].path='no.onnx' does not exist" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_paths_of_members_are_expanded_and_anchored(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.npz").touch()
    config, _ = composed(
        *(*REACH, "run_dir=run", "dataset=none", "guide=several", "learner=sac"),
        "guide.members=[{kind: npz, path: '~/own.npz'}, {kind: npz, path: own.npz}]",
    )
    expand_paths(config)
    anchor(config, tmp_path)
    assert [m["path"] for m in config.guide.members] == [str(tmp_path / "own.npz")] * 2


def test_a_minibatch_says_which_member_acted_and_other_stores_have_no_room_for_it():
    observed, actions = vector(2), box((-1.0,), (1.0,))
    sizes = {"num_seeds": 1, "num_envs": 2, "capacity": 8, "discount": 0.9, "device": CPU}
    store, bare = (TransitionStore(observed, actions, members=m, **sizes) for m in (True, False))
    seen = Observation(torch.zeros(2, 2))
    flags, zeros = np.zeros(2, bool), np.zeros(2, np.float32)
    numbers, by_guide = np.arange(2), np.array([True, False])
    moment = Moment(seen, np.zeros((2, 1), np.float32), numbers, numbers, by_guide, numbers, ~flags)
    for own in (replace(moment, members=np.array([1, -1])), moment):
        store.add(own, Step(seen, zeros, flags, flags, zeros))
        bare.add(own, Step(seen, zeros, flags, flags, zeros))
    batch = store.sample(torch.arange(4)[None])
    assert batch.member.tolist() == [[1, -1, -1, -1]]
    assert batch.by_guide.tolist() == [[1, 0, 1, 0]]
    assert batch.stage.tolist() == [[0, 1, 0, 1]]
    assert bare.sample(torch.arange(4)[None]).member is None
    data = TransitionData(*(np.zeros(s, np.float32) for s in ((3, 2), (3, 1), 3, (3, 2))),
                          *np.zeros((2, 3), bool))  # fmt: skip
    offline = OfflineStore(data, observed, actions, discount=0.9, device=CPU, members=True)
    both = joined([offline.packed(torch.zeros(1, 1, dtype=torch.int64)),
                   store.packed(torch.zeros(1, 1, dtype=torch.int64))])  # fmt: skip
    assert both.unpack(store.layout).member.tolist() == [[-1, 1]]


TARGET = "{kind: python, target: 'small_runs:toward_goal'}"
RUN = (
    *(*REACH, "dataset=none", "offline.updates=0", "online.offline_fraction=0"),
    *("guide=several", "guide.choose=success", "curriculum=random", "seeds=[3]"),
    *(f"guide.members=[{{kind: random}}, {TARGET}]", "env.num_envs=2", "online.steps=140"),
    *("curriculum.initial_guide_steps=60", "curriculum.stages=2", "checkpoint.interval=30"),
    *("online.updates_per_step=0.1", "evaluation.episodes=1", "evaluation.final_episodes=1"),
)


def test_a_run_by_success_prefers_the_better_one_and_resumes_exactly(tmp_path):
    train_here(tmp_path / "whole", *RUN)
    for disturbance in ((STEP, 33, kill), (STEP, 16, terminate)):
        train_disturbed(tmp_path / "parts", disturbance, *RUN)
    train_here(tmp_path / "parts", *RUN)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    heard = newest_state(tmp_path / "whole")["guide_state"]
    assert (heard["successes"] <= heard["episodes"]).all()
    assert (heard["successes"][:, 1] > heard["successes"][:, 0]).all()
    assert "combined" in evaluate_run(tmp_path / "whole", episodes=2)


def test_the_twin_of_evaluations_goes_by_what_was_heard_in_training_and_disturbs_nothing():
    guide = several([FakeGuide(stateful=True), FakeGuide(stateful=True)], choose="success")
    twin = copy.deepcopy(guide)
    for turn in range(60):
        who = begun(guide, (2, 3), first=100 * turn)
        guide.ended(EVERYONE, np.zeros((2, 3)), (who == 0).astype(float))
    state = guide.state_dict()
    assert (begun(twin, (2, 300), first=20_000) == 0).mean() > 0.9
    after = guide.state_dict()
    assert all(torch.equal(state[name], after[name]) for name in state)


def test_walks_through_a_maze_are_told_apart_too():
    guide = several([FakeGuide(0.1), FakeGuide(0.2)], 1, choose="weights")
    walker, found = WalkingGuide(guide), []
    for _ in range(2):
        walker.begin(5, 2)
        walker.reset(np.ones(40, bool))
        found.append(guide.acting())
    np.testing.assert_array_equal(*found)
    assert set(found[0][0]) == {0, 1}


def test_data_that_several_guides_collect_say_which_one_acted(tmp_path):
    spec = describe_env(COUNTING)
    guide = several([FakeGuide(0.1), FakeGuide(0.2)], 1, spec.actions, choose="round_robin")
    collect_rollouts(tmp_path / "data.hdf5", COUNTING, spec, guide, 60, 0, {})
    with h5py.File(tmp_path / "data.hdf5") as file:
        members, actions = file["infos/guide_member"][()], file["actions"][()]
    np.testing.assert_allclose(actions[:, 0], np.array([0.1, 0.2])[members], atol=1e-6)
    assert set(members) == {0, 1}


def test_the_example_in_ten_lines(tmp_path, monkeypatch):
    monkeypatch.setenv(UNUSED_KEYS, ALLOWED)
    found = importlib.util.spec_from_file_location("example", EXAMPLES / "guide_several.py")
    example = importlib.util.module_from_spec(found)
    found.loader.exec_module(example)
    path = write_reach_data(tmp_path / "demos.hdf5")
    run = example.train(
        *(str(path), *QUIET, *TINY, *REACH, "online.steps=60", "online.offline_fraction=0"),
        *("curriculum=random", f"run_dir={tmp_path / 'run'}"),
    )
    assert run.summary["evaluation"]["guide"]["success"]["mean"] is not None


def test_choosing_draws_from_nothing_that_environments_or_policies_draw_from():
    spec = describe_env(COUNTING)
    rows = []
    for choose in ("weights", "round_robin"):
        guide = several([FakeGuide(0.5), FakeGuide(0.5)], 2, spec.actions, choose=choose)
        collector = make_collector([0, 1], 2, COUNTING)
        rows.append(collect(collector, 12, FakePolicy(), guide, [FixedSteps(3)] * 2)[0])
        collector.close()
    assert_equal(*rows)
