"""Guides made of this package's policies, fresh or from checkpoints written in the test."""

import shutil

import pytest
import torch
from guide_cases import SPEC, observations, random_policy, write_checkpoint

from jsrl.core.checkpoint import newest_checkpoint
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.guides import GuideView, NetworkGuide
from jsrl.networks.policies import GaussianPolicy

SEEDS = [3, 1, 8]


def load(path, seeds, guide_seed=None, view=None, **options):
    view = view or GuideView()
    return NetworkGuide.from_checkpoint(path, seeds, guide_seed, view=view, spec=SPEC, **options)


def test_acts_as_the_policy_in_the_mask_and_not_outside():
    policy, obs = random_policy(SEEDS), observations(3, 4)
    mask = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    expected = policy.act(obs.only(mask), None)
    guide = NetworkGuide.from_policy(policy, GuideView(), SPEC)
    obs.vector[~mask] = float("nan")
    actions = guide.act(obs, None, mask)
    assert 0 < mask.sum() < 12
    assert torch.equal(actions[mask], expected[mask])
    assert torch.equal(actions[~mask], torch.zeros(int((~mask).sum()), 2))


@pytest.mark.parametrize("sample", [False, True])
def test_a_seed_alone_is_bitwise_the_seed_in_company(sample):
    policy, obs = random_policy(SEEDS), observations(3, 4)
    guide = NetworkGuide.from_policy(policy, GuideView(), SPEC, sample=sample)
    single = NetworkGuide.from_policy(policy.select(1), GuideView(), SPEC, sample=sample)
    streams, own = Streams(SEEDS), Streams(SEEDS[1:2])
    masks = torch.ones(2, 3, 4, dtype=torch.bool)
    masks[0, 0] = masks[0, 1, 2] = masks[1, 2] = False
    for mask in masks:
        company = guide.act(obs, streams, mask)[1]
        assert torch.equal(company, single.act(obs[1:2], own, mask[1:2])[0])
        assert company.abs().sum() > 0


def test_a_seed_without_rows_draws_no_noise():
    guide = NetworkGuide.from_policy(random_policy(SEEDS), GuideView(), SPEC, sample=True)
    streams = Streams(SEEDS)
    guide.act(observations(3, 2), streams, torch.tensor([[True, False], [False] * 2, [False] * 2]))
    assert [list(row) for row in streams.state_dict()] == [["guide_noise"], [], []]


def test_an_empty_mask_calls_no_network():
    class Loud(GaussianPolicy):
        def act(self, obs, streams):
            raise AssertionError("called")

    guide = NetworkGuide(Loud(3, 5, 2), GuideView(), SPEC, sample=False, name="loud")
    nobody = torch.zeros(3, 2, dtype=torch.bool)
    assert torch.equal(guide.act(observations(3, 2), None, nobody), torch.zeros(3, 2, 2))
    with pytest.raises(AssertionError, match="called"):
        guide.act(observations(3, 2), None, ~nobody)


def test_a_frozen_copy_does_not_follow_the_original():
    policy, obs = random_policy(SEEDS), observations(3, 2)
    guide = NetworkGuide.from_policy(policy, GuideView(), SPEC)
    everyone = torch.ones(3, 2, dtype=torch.bool)
    before, fingerprint = guide.act(obs, None, everyone), guide.fingerprint
    with torch.no_grad():
        policy.mlp.output.bias += 0.5
    assert torch.equal(guide.act(obs, None, everyone), before)
    assert not any(p.requires_grad for p in guide.policy.parameters())
    assert NetworkGuide.from_policy(policy, GuideView(), SPEC).fingerprint != fingerprint


def test_nan_weights_stop_with_a_message_only_if_acted_for():
    policy = random_policy(SEEDS)
    with torch.no_grad():
        policy.mlp.output.bias[2] = float("nan")
    guide = NetworkGuide.from_policy(policy, GuideView(), SPEC)
    mask = torch.tensor([[True], [True], [False]])
    assert guide.act(observations(3, 1), None, mask).isfinite().all()
    with pytest.raises(UserError, match="nan"):
        guide.act(observations(3, 1), None, ~mask)


def test_any_policy_gives_a_guide_by_its_mode():
    class Half(torch.nn.Module):
        def act(self, obs, streams):
            assert streams is None
            return torch.full((*obs.leading, 2), 0.5)

    guide = NetworkGuide.from_policy(Half(), GuideView(), SPEC)
    mask = torch.tensor([[True, False]])
    assert guide.act(observations(1, 2), Streams([0]), mask).tolist() == [[[0.5, 0.5], [0.0, 0.0]]]
    with pytest.raises(UserError, match=r"guide\.sample"):
        NetworkGuide.from_policy(Half(), GuideView(), SPEC, sample=True)


def test_seeds_are_matched_one_by_one(tmp_path):
    stored = write_checkpoint(tmp_path / "c.pt", SEEDS)
    obs, mask = observations(2, 3), torch.ones(2, 3, dtype=torch.bool)
    actions = load(tmp_path / "c.pt", [8, 3]).act(obs, None, mask)
    assert torch.equal(actions[0], stored.select(2).act(obs[:1], None)[0])
    assert torch.equal(actions[1], stored.select(0).act(obs[1:], None)[0])


def test_one_seed_guides_all(tmp_path):
    stored = write_checkpoint(tmp_path / "c.pt", SEEDS)
    obs, mask = observations(2, 3), torch.ones(2, 3, dtype=torch.bool)
    actions = load(tmp_path / "c.pt", [100, 101], guide_seed=1).act(obs, None, mask)
    for i in range(2):
        assert torch.equal(actions[i], stored.select(1).act(obs[i : i + 1], None)[0])


def test_the_fingerprint_is_of_the_seeds_that_guide(tmp_path):
    write_checkpoint(tmp_path / "c.pt", SEEDS)
    first = load(tmp_path / "c.pt", [1]).fingerprint
    assert load(tmp_path / "c.pt", [50], guide_seed=1).fingerprint == first
    assert load(tmp_path / "c.pt", [8]).fingerprint != first


def test_the_guides_own_view_of_an_older_observation(tmp_path):
    stored = write_checkpoint(tmp_path / "c.pt", [0], observation_size=3)
    view = GuideView(observation=("observation",), mean=(1.0, 2.0, 3.0), std=2.0)
    obs = observations(1, 3)
    actions = load(tmp_path / "c.pt", [0], view=view).act(obs, None, torch.ones(1, 3).bool())
    seen = (obs.vector[..., 2:] - torch.tensor([1.0, 2.0, 3.0])) / 2
    assert torch.equal(actions, stored.act(Observation(seen), None))


def test_a_run_directory_gives_its_newest_checkpoint_that_is_whole(tmp_path):
    folder = tmp_path / "checkpoints"
    for step in ("000100", "000200"):
        write_checkpoint(folder / f"{step}.pt", [0], marker=step)
    shutil.copy(folder / "000200.pt", tmp_path / "whole")
    assert newest_checkpoint(tmp_path) == folder / "000200.pt"
    (folder / "000200.pt").write_bytes((tmp_path / "whole").read_bytes()[:700])
    assert newest_checkpoint(tmp_path) == folder / "000100.pt"
    assert load(tmp_path, [0]).name.endswith("000100.pt")
    (folder / "000100.pt").write_bytes(b"")
    with pytest.raises(UserError, match="none of its 2 checkpoints"):
        newest_checkpoint(tmp_path)


def test_the_guide_of_a_run_can_be_taken_instead(tmp_path):
    policy = random_policy([5])
    stored = {"description": policy.describe(), "state": policy.state_dict()}
    write_checkpoint(tmp_path / "c.pt", [0], policies={"guide": stored})
    obs, mask = observations(1, 2), torch.ones(1, 2).bool()
    guide = load(tmp_path / "c.pt", [0], which="guide")
    assert torch.equal(guide.act(obs, None, mask), policy.act(obs, None))
    with pytest.raises(UserError, match=r"guide\.which='exploration'.*guide"):
        load(tmp_path / "c.pt", [0])


def broken_checkpoint(tmp_path, case):
    path = tmp_path / "c.pt"
    write_checkpoint(path, SEEDS)
    if case == "truncated":
        path.write_bytes(path.read_bytes()[:900])
    elif case == "empty":
        path.write_bytes(b"")
    elif case == "text":
        path.write_text("not a checkpoint\n" * 50)
    elif case == "foreign":
        torch.save({"state_dict": {"w": torch.ones(2)}}, path)
    elif case == "code":
        torch.save({"format": "jsrl-checkpoint", "object": random_policy([0])}, path)
    elif case == "lacking":
        torch.save({"format": "jsrl-checkpoint", "version": 1, "seeds": [0]}, path)
    elif case == "weights":
        content = torch.load(path, weights_only=True)
        del content["policies"]["exploration"]["state"]["log_std"]
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "case", ["truncated", "empty", "text", "foreign", "code", "lacking", "weights"]
)
def test_a_file_that_is_no_whole_checkpoint_is_refused(tmp_path, case):
    path = broken_checkpoint(tmp_path, case)
    with pytest.raises(UserError) as caught:
        load(path, [3])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_things_are_named(tmp_path):
    path = tmp_path / "run" / "c.pt"
    write_checkpoint(path, SEEDS)
    with pytest.raises(UserError, match=r"no seed 4, 9; it has \[3, 1, 8\].*guide\.seed"):
        load(path, [9, 3, 4])
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "nowhere", [3])
    with pytest.raises(UserError, match=r"no checkpoints/\*\.pt"):
        load(path.parent, [3])


def test_other_sizes_are_refused(tmp_path):
    write_checkpoint(tmp_path / "small.pt", [0], observation_size=4)
    with pytest.raises(UserError, match=r"4 observation columns.*5.*guide\.observation"):
        load(tmp_path / "small.pt", [0])
    write_checkpoint(tmp_path / "actions.pt", [0], action_size=3)
    with pytest.raises(UserError, match="3 actions"):
        load(tmp_path / "actions.pt", [0])
    environment = {"observation_size": 5, "action_size": 2, "layout": [["observation", 0, 5]]}
    write_checkpoint(tmp_path / "parts.pt", [0], environment=environment)
    with pytest.raises(UserError, match=r"parts.*guide\.observation"):
        load(tmp_path / "parts.pt", [0])


def test_a_runs_guide_that_saw_less_than_the_run_is_measured_by_its_own_size(tmp_path):
    policy = random_policy([0], observation_size=3)
    stored = {"description": policy.describe(), "state": policy.state_dict()}
    write_checkpoint(tmp_path / "c.pt", [0], policies={"guide": stored})
    with pytest.raises(UserError, match=r"3 observation columns.*5.*guide\.observation"):
        load(tmp_path / "c.pt", [0], which="guide")
    view, obs = GuideView(observation=("observation",)), observations(1, 2)
    guide = load(tmp_path / "c.pt", [0], which="guide", view=view)
    actions = guide.act(obs, None, torch.ones(1, 2).bool())
    assert torch.equal(actions, policy.act(Observation(obs.vector[..., 2:]), None))
