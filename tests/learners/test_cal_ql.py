"""Runs from offline to online: Cal-QL resumed, WSRL from its networks, and RLPD."""

import pytest
import torch
from small_runs import (
    REACH,
    TINY,
    assert_same_run,
    call,
    composed,
    newest_state,
    read_summary,
    train_here,
    write_reach_data,
)

from jsrl.rollout.packing import RowLayout

SMALL = (
    *(*REACH, "env.max_episode_steps=20", "evaluation.interval=200", "evaluation.episodes=1"),
    *("evaluation.final_episodes=1", "evaluation.num_envs=1", "learner.hidden=[8]"),
    "learner.sampled_actions=2",
)
WARM = ("guide=offline", "start=warm", "online.steps=90", "offline.updates=12")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_reach_data(tmp_path_factory.mktemp("data") / "reach.hdf5")


def on(data):
    return ("dataset=d4rl", f"dataset.path={data}")


def test_a_run_of_cal_ql_is_resumed_exactly_before_and_after_it_goes_online(tmp_path, data):
    own = (*SMALL, *on(data), *WARM, "learner=cal_ql", "learner.critic_hidden=null", "seeds=[0,3]")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_here(whole, *own)
    train_here(parts, *own, "online.steps=70")
    train_here(parts, *own)
    assert_same_run(whole, parts)
    state = newest_state(whole)["learner"]
    # The factor was warm-started from pre-training, and went on.
    assert (state["log_multiplier"] > 1 + 12 * 2e-4).all()


def test_wsrl_learns_nothing_while_its_guide_acts_and_goes_on_from_cal_qls_networks(tmp_path, data):
    sizes = ("learner.critics=3", "learner.target_critics=2", "learner.critic_hidden=[8,8]")
    sizes = (*sizes, "activation.critic.layer_norm=true")
    before, after = tmp_path / "before", tmp_path / "after"
    train_here(
        before, *SMALL, *on(data), *WARM, *sizes, "learner=cal_ql", "online.steps=0", "seeds=[0,3]"
    )
    wsrl = (
        *(*SMALL[:-1], *sizes, "learner=wsrl", "guide=run", f"guide.path={before}", "seeds=[3]"),
        *("learner.batch_size=16", "online.critic_warmup_steps=40"),
        "online.learning_starts=${online.critic_warmup_steps}",
    )
    # As it is when the guide's steps are over.
    train_here(after, *wsrl, "online.steps=0")
    state, source = newest_state(after), newest_state(before)["learner"]["networks"]
    assert (state["runner"]["steps"], state["runner"]["updates"]) == (40, 0)
    for name, value in state["learner"]["networks"].items():
        expected = source[name][1:] if value.shape == source[name][1:].shape else source[name]
        assert torch.equal(value, expected), name
    train_here(after, *wsrl, "online.steps=29")
    state = newest_state(after)["runner"]
    assert (state["steps"], state["updates"]) == (69, 29)
    layout, rows = RowLayout(4, 2, chooses=False), state["buffer"]["rows"][0]
    by_guide, ended = (rows[:, layout.column(name)].tolist() for name in ("by_guide", "truncated"))
    # The guide finishes the episode that it is in.
    last = ended.index(1.0, 39)
    assert by_guide == [1.0] * (last + 1) + [0.0] * (68 - last)
    assert read_summary(after)["dataset"] is None


def test_rlpd_is_chosen_by_its_name_alone(tmp_path, data):
    config, _ = composed("learner=rlpd", "dataset=d4rl", "dataset.path=x.hdf5")
    assert config.activation.critic.layer_norm and not config.activation.layer_norm
    assert (config.online.offline_fraction, config.online.updates_per_step) == (0.5, 1.0)
    own = (*SMALL, *on(data), "learner=rlpd", "learner.critics=4", "learner.critic_updates=3")
    train_here(tmp_path, *own, "curriculum=none", "online.steps=60")
    state = newest_state(tmp_path)
    assert state["runner"]["updates"] == 10
    groups = state["learner"]["optimiser"]["adam"]["param_groups"]
    counts = {group["name"]: group["steps"] for group in groups}
    assert counts == {"critic": 30, "actor": 10, "temperature": 10}
    assert "critic.norm_0.weight" in state["learner"]["networks"]


NO_SHARE = ("learner=cql", "dataset=d4rl", "dataset.path=x.hdf5", "online.offline_fraction=0")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("learner=cql",), "learner=cql needs offline data, but dataset=none; choose a dataset"),
        (("learner=cal_ql",), "choose a dataset, or a learner that does without: "),
        (
            ("learner=cql", "dataset=d4rl", "dataset.path=x.hdf5", "online.offline_fraction=0"),
            "start=cold, offline.updates=30 and online.offline_fraction=0 its critics never see "
            "any; set online.offline_fraction=0.5",
        ),
        (
            (*NO_SHARE, "guide=offline", "start=naive"),
            "with start=naive, offline.updates=30 and online.offline_fraction=0 its critics never",
        ),
        (
            (*NO_SHARE, "guide=offline", "start=warm", "offline.updates=0"),
            "with start=warm, offline.updates=0 and online.offline_fraction=0 its critics never",
        ),
        (("learner=rlpd",), "online.offline_fraction=0.5 needs offline data, but dataset=none"),
        (("learner=wsrl",), "start=warm copies networks of the guide, but guide=none has none"),
    ],
)
def test_what_cannot_be_learnt_from_is_told_in_one_line(tmp_path, monkeypatch, capfd, words, says):
    monkeypatch.chdir(tmp_path)
    done = call(monkeypatch, capfd, "train", *REACH, *TINY, *words, "run_dir=run")
    assert (done.status, len(done.err.strip().splitlines())) == (2, 1), done.err
    assert says in done.err
