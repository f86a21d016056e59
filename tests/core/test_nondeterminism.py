"""The ladder of nondeterminism: exactly the named sources vary between the seeds of a run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import REACH, newest_state, train_here, write_reach_data

from jsrl.core.errors import UserError
from jsrl.core.nondeterminism import LEVELS, SOURCES, Sources
from jsrl.core.streams import Streams

SEEDS = [3, 5, 8]
RUN = (
    *("guide=offline", "guide.sample=true", "curriculum=random", "learner.dropout=0.2"),
    *("online.steps=120", "online.offline_fraction=0.5", "seeds=[3,5,8]"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"dataset.path={write_reach_data(tmp_path_factory.mktemp('data') / 'reach.hdf5')}"


def run(directory: Path, level: str, data: str, *overrides: str) -> dict[str, Any]:
    """The last state of a run of three seeds in which everything that may draw does."""
    given = (*REACH, *RUN, data, "dataset=d4rl", f"nondeterminism={level}", *overrides)
    train_here(directory, *given)
    return newest_state(directory)


def differs(rows: torch.Tensor) -> bool:
    """Whether the seeds have different numbers, along the first axis."""
    return not all(torch.equal(row, rows[0]) for row in rows[1:])


def weights(state: dict[str, Any], learner: str) -> torch.Tensor:
    return state[learner]["networks"]["critic.hidden_0.weight"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_source_varies_or_draws_what_the_first_seed_draws(level: str) -> None:
    sources, ordinary = Sources(SEEDS, level), Streams(SEEDS)
    for source in SOURCES:
        drawn = sources.streams(source, "offline").normal("x", (4,))
        expected = ordinary.child("offline").normal("x", (4,))
        if source in LEVELS[level]:
            assert torch.equal(drawn, expected)
        else:
            assert torch.equal(drawn, expected[:1].expand(3, 4))


def test_where_nothing_varies_all_seeds_agree_bit_by_bit(tmp_path: Path, data: str) -> None:
    state = run(tmp_path / "none", "none", data)
    for name in ("guide_learner", "learner"):
        for key, value in state[name]["networks"].items():
            if not key.startswith("actor.observation"):
                assert not differs(value), (name, key)
        for averages in state[name]["optimiser"]["adam"]["state"].values():
            for tensors in averages.values():
                assert not any(differs(tensor) for tensor in tensors)
    assert not differs(state["runner"]["buffer"]["rows"])
    # And something was learnt and collected, by guide and exploration-policy.
    rows = state["runner"]["buffer"]["rows"]
    assert rows.shape[1] == 120 and rows.std(1).amax() > 0
    # The first seed's is an ordinary run of this seed.
    alone = run(tmp_path / "alone", "all", data, "seeds=[3]")
    assert torch.equal(alone["runner"]["buffer"]["rows"], rows[:1])
    assert torch.equal(weights(alone, "learner"), weights(state, "learner")[:1])


@pytest.mark.parametrize("level", ["minibatch_order", "initialisation", "environment", "all"])
def test_exactly_what_is_named_varies(tmp_path: Path, data: str, level: str) -> None:
    untrained = ("offline.updates=0", "online.steps=0", "curriculum=none")
    begun = run(tmp_path / "begun", level, data, *untrained, "start=warm")
    assert differs(weights(begun, "learner")) == (level in ("initialisation", "all"))
    offline = run(tmp_path / "offline", level, data, "online.steps=0", "curriculum=none")
    assert differs(weights(offline, "guide_learner")) == (level != "environment")
    online = run(tmp_path / "online", level, data, "offline.updates=0", "guide.sample=false")
    # Start states alone are seen at once; the others act through what was learnt.
    first = online["runner"]["buffer"]["rows"][:, 0, :4]
    assert differs(first) == (level in ("environment", "all"))
    assert differs(online["runner"]["buffer"]["rows"])


def test_a_run_that_is_resumed_keeps_its_level(tmp_path: Path, data: str) -> None:
    whole = run(tmp_path / "whole", "minibatch_order", data)
    run(tmp_path / "cut", "minibatch_order", data, "online.steps=60")
    resumed = run(tmp_path / "cut", "minibatch_order", data)
    assert torch.equal(weights(resumed, "learner"), weights(whole, "learner"))
    with pytest.raises(UserError, match="nondeterminism was minibatch_order, is all"):
        run(tmp_path / "cut", "all", data)


def test_mistakes_are_named(tmp_path: Path, data: str) -> None:
    with pytest.raises(UserError, match="nondeterminism='some' is unknown; choose one of none"):
        run(tmp_path / "run", "some", data)
    guide = ("guide=run", f"guide.path={tmp_path}", "guide.which=guide")
    with pytest.raises(
        UserError, match=r"takes another guide for each seed; name one by guide\.seed"
    ):
        run(tmp_path / "run", "environment", data, *guide)
    assert not (tmp_path / "run").exists()
