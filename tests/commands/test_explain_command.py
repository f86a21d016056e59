"""``jsrl explain`` on a tiny trained run: report, numbers, picture, and mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import REACH, call, train_here, write_reach_data

import jsrl

QUICK = ("episodes=3", "interval=2", "num_envs=3", "explain.controls=2")
GOAL = "explain.relevant=[2,'observation[3]']"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    data = f"dataset.path={write_reach_data(folder / 'data.hdf5')}"
    run = (*REACH, "dataset=d4rl", "guide=offline", "curriculum=jsrl", "seeds=[0,3]", data)
    train_here(folder / "run", *run, "online.steps=100", "env.max_episode_steps=8")
    return folder / "run"


def test_a_run_is_explained_and_reported(trained, tmp_path, monkeypatch, capfd) -> None:
    arguments = ("explain", f"run={trained}", f"output={tmp_path}", *QUICK, GOAL)
    outcome = call(monkeypatch, capfd, *arguments)
    assert outcome.status == 0, outcome.err
    found = json.loads((tmp_path / "explain.json").read_text())
    assert [one["name"] for one in found["columns"]] == [f"observation[{i}]" for i in range(4)]
    assert [one["declared"] for one in found["columns"]] == [False, False, True, True]
    assert [one["seed"] for one in found["seeds"]] == [0, 3]
    for one in found["seeds"]:
        contributions = np.array(one["steps"]["contributions"])
        assert set(one["steps"]["episode"]) == {0, 1, 2}
        sizes = np.abs(contributions).sum(1)
        inside = sizes[:, 2:].sum(1) / sizes.sum(1)
        np.testing.assert_allclose(np.array(one["steps"]["inside"], float), inside)
        known = inside[np.isfinite(inside)]
        assert one["policy"]["inside"] == pytest.approx(known.mean())
        assert one["policy"]["half_inside"] == pytest.approx((known >= 0.5).mean())
        assert one["policy"]["residual"] < 1e-5
        assert sum(one["policy"]["categories"].values()) == pytest.approx(1)
        assert len(one["controls"]) == 2
        mean = np.mean([control["inside"] for control in one["controls"]])
        assert one["random weights"]["inside"] == pytest.approx(mean)
    text = (tmp_path / "explain.md").read_text()
    assert text.strip() in outcome.out
    assert "human aligned" in text
    assert (tmp_path / "explain.png").read_bytes().startswith(b"\x89PNG")
    # Alone a seed's numbers are the same.
    assert call(monkeypatch, capfd, *arguments, "seed=3").status == 0
    alone = json.loads((tmp_path / "explain.json").read_text())["seeds"]
    assert alone == found["seeds"][1:]


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_x_input", "occlusion"])
def test_other_methods_without_declared_columns(trained, method, monkeypatch, capfd) -> None:
    chosen = (f"method={method}", "seed=0", "explain.baseline=zero")
    outcome = call(monkeypatch, capfd, "explain", f"run={trained}", *QUICK, *chosen)
    assert outcome.status == 0, outcome.err
    found = json.loads((trained / "explain" / "explain.json").read_text())["seeds"][0]
    assert found["policy"]["inside"] is None
    assert (found["policy"]["residual"] is not None) == (method == "integrated_gradients")
    assert "Shared" not in outcome.out


def test_explain_is_among_the_package_s_names(trained) -> None:
    policy = jsrl.load_policy(trained, 3)
    rows = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    found = jsrl.explain(policy, rows)
    action, _ = policy.predict(rows.numpy())
    np.testing.assert_allclose(found.outputs, action, atol=1e-5)
    assert found.residual.abs().max() < 1e-5


@pytest.mark.parametrize(
    "mistake, said",
    [
        (("explain.relevant=[gaol]",), "explain.relevant has the column 'gaol', which is unknown"),
        (("explain.relevant=[9]",), "explain.relevant has the column 9"),
        (("explain.relevant=[observation]", "episodes=0"), "episodes=0 must be at least 1"),
        (("method=deeplift",), "method=deeplift is not offered"),
        (("method=saliency",), "saliency"),
        (("method.steps=3",), "method.steps"),
        (("explain.baseline=median",), "explain.baseline='median'"),
        (("explain.mass=0",), "explain.mass=0.0 must lie above 0"),
        (("explain.controls=-1",), "explain.controls=-1 must be at least 0"),
        (("seed=9",), "has no seed 9"),
        (("run=nowhere",), "nowhere"),
    ],
)
def test_a_mistake_is_told_in_one_line(trained, mistake, said, monkeypatch, capfd) -> None:
    run = () if mistake[0].startswith("run=") else (f"run={trained}",)
    outcome = call(monkeypatch, capfd, "explain", *run, *QUICK, *mistake)
    assert outcome.status == 2, outcome.out
    assert said in outcome.err
    assert "Traceback" not in outcome.err
