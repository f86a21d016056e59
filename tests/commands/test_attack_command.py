"""``jsrl attack`` on a tiny trained run and on a classifier: report, curves, and mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_runs import REACH, call, train_here, write_reach_data

from jsrl.core.errors import UserError
from jsrl.envs.make import describe_env
from jsrl.monitor.studies.attack_detection import WindowSettings
from jsrl.monitor.studies.attack_policy import EpisodeSettings, PolicyUnderAttack
from jsrl.monitor.studies.attacks import attacks
from jsrl.run.build import env_settings
from jsrl.run.saved import load_policy, run_configuration

QUICK = (
    *("reference=6", "episodes=3", "permutations=83", "num_envs=3", "interval=1"),
    *("attack.epsilons=[0.5,0]", "attack.steps=2"),
)

MODEL = """
import torch
from torch import nn


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(2, 4))
            self.linear.bias.zero_()

    def forward(self, x):
        return self.linear(x.flatten(1))


def nothing():
    return 3
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    data = f"dataset.path={write_reach_data(folder / 'data.hdf5')}"
    run = (*REACH, "dataset=d4rl", "guide=offline", "curriculum=jsrl", "seeds=[0,3]", data)
    short = ("online.steps=100", "env.max_episode_steps=8")
    train_here(folder / "run", *run, *short)
    return folder / "run"


def test_a_run_is_attacked_and_reported(trained, tmp_path, monkeypatch, capfd) -> None:
    arguments = ("attack", f"run={trained}", f"output={tmp_path}", *QUICK)
    frozen = ("attack.frozen=[2,'observation[3]']", "attack.goal=lowest_q")
    outcome = call(monkeypatch, capfd, *arguments, *frozen)
    assert outcome.status == 0, outcome.err
    found = json.loads((tmp_path / "attack.json").read_text())
    rows = {(row["seed"], row["attack"], row["epsilon"]): row for row in found["rows"]}
    kinds = [("none", 0.0), *((k, e) for k in ("pgd", "noise") for e in (0.5, 0.0))]
    assert set(rows) == {(seed, *kind) for seed in (0, 3) for kind in kinds}
    for seed in (0, 3):
        assert rows[seed, "none", 0.0]["change"] == 0
        assert rows[seed, "pgd", 0.0]["change"] == 0
        # The size is 0, so that both have seen the same episodes.
        for name in ("success", "return", "rejected"):
            assert rows[seed, "pgd", 0.0][name] == rows[seed, "noise", 0.0][name]
        assert rows[seed, "pgd", 0.5]["change"] > 0
        families = {"joint", "inputs", "margins", "layers", "outputs"}
        assert set(rows[seed, "pgd", 0.5]["rejected"]) == families
    transfer = found["transfer"]
    assert transfer["seeds"] == [0, 3]
    assert np.shape(transfer["matrix"]) == (2, 2)
    assert transfer["matrix"][0][0] == pytest.approx(rows[0, "pgd", 0.5]["change"])
    assert (tmp_path / "attack.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "attack.md").read_text()
    assert text.strip() in outcome.out
    assert "made on seed 3" in text
    # Alone a seed's are the same.
    assert call(monkeypatch, capfd, *arguments, *frozen, "seed=3").status == 0
    alone = json.loads((tmp_path / "attack.json").read_text())["rows"]
    assert alone == [row for row in found["rows"] if row["seed"] == 3]


@pytest.mark.parametrize(
    "chosen",
    [
        ("attack=universal", "attack.adaptive=true", "seed=3"),
        ("attack=fgsm", "smoothing=0.3", "smoothing_samples=4", "seed=0"),
        ("attack=noise", "attack.tied=[[0,1]]", "seed=0"),
    ],
)
def test_other_attackers_and_a_smoothed_policy(trained, tmp_path, chosen, monkeypatch, capfd):
    arguments = [*(given for given in QUICK if "steps" not in given), *chosen]
    outcome = call(monkeypatch, capfd, "attack", f"run={trained}", f"output={tmp_path}", *arguments)
    assert outcome.status == 0, outcome.err
    found = json.loads((tmp_path / "attack.json").read_text())
    assert found["transfer"] is None
    assert {row["attack"] for row in found["rows"]} == {"none", found["attack"]["kind"], "noise"}


def model_files(folder: Path) -> tuple[str, ...]:
    (folder / "models.py").write_text(MODEL)
    inputs = np.random.default_rng(0).normal(size=(60, 2, 2)).astype(np.float32)
    labels = inputs.reshape(60, 4)[:, :2].argmax(1)
    np.savez(folder / "data.npz", inputs=inputs, labels=labels)
    return (f"model={folder / 'models.py'}:Linear", f"data={folder / 'data.npz'}")


MODEL_QUICK = ("reference=20", "window=20", "permutations=99", "layers=inputs|linear|outputs")


def test_a_classifier_is_attacked(tmp_path, monkeypatch, capfd) -> None:
    arguments = ("attack", *model_files(tmp_path), f"output={tmp_path / 'out'}", *MODEL_QUICK)
    outcome = call(
        *(monkeypatch, capfd, *arguments),
        *("attack.units=own", "attack.epsilons=[0.4]", "attack.frozen=[3]"),
    )
    assert outcome.status == 0, outcome.err
    found = json.loads((tmp_path / "out" / "attack.json").read_text())
    rows = {row["attack"]: row for row in found["rows"]}
    assert rows["none"]["accuracy"] == 1
    # By hand: a sample falls where its first two numbers differ by less than 2ε.
    inputs = np.load(tmp_path / "data.npz")["inputs"].reshape(60, 4)[20:]
    ahead = np.abs(inputs[:, 0] - inputs[:, 1])
    assert rows["pgd"]["accuracy"] == pytest.approx((ahead > 0.8).mean())
    assert rows["noise"]["accuracy"] > rows["pgd"]["accuracy"]


@pytest.mark.parametrize(
    "mistake, said",
    [
        (("attack.frozen=[gaol]",), "attack.frozen has the column 'gaol', which is unknown"),
        (("attack.tied=[[0,9]]",), "attack.tied has the column 9"),
        (("attack.epsilons=[-0.1]",), "attack.epsilons=[-0.1] must be one number or more"),
        (("attack=fgsm", "attack.steps=3"), "attack.steps"),
        (("attack=laser",), "laser"),
        (("seed=9",), "has no seed 9"),
        (("smoothing=-1",), "smoothing=-1.0 must be at least 0"),
        (("episodes=2",), "episodes=2 must be at least window=3"),
        (("data=file.npz",), "data='file.npz' is for model=module:factory"),
        (("model=x:y",), "give one of them"),
    ],
)
def test_a_mistake_is_told_in_one_line(trained, mistake, said, monkeypatch, capfd) -> None:
    outcome = call(monkeypatch, capfd, "attack", f"run={trained}", "reference=6", *mistake)
    assert outcome.status == 2, outcome.out
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    "mistake, said",
    [
        ((), "needs data=FILE.npz"),
        (("data=nowhere.npz",), "data='nowhere.npz' does not exist"),
        (("data=DATA", "attack.goal=lowest_q"), "is for policies of a run"),
        (("data=DATA", "window=100"), "data has 60 samples"),
        (("data=DATA", "model=MODELS:nothing"), "gave int"),
        (("data=DATA", "smoothing=1"), "smoothing=1 is for run=DIR"),
    ],
)
def test_a_mistake_with_a_model_is_told(tmp_path, mistake, said, monkeypatch, capfd) -> None:
    model, data = model_files(tmp_path)
    replaced = [
        m.replace("DATA", data.partition("=")[2]).replace("MODELS", str(tmp_path / "models.py"))
        for m in mistake
    ]
    outcome = call(monkeypatch, capfd, "attack", model, *MODEL_QUICK, *replaced)
    assert outcome.status == 2, outcome.out
    assert said in outcome.err


def test_a_run_without_critics_has_no_lowest_value(trained) -> None:
    config = run_configuration(trained)
    env = env_settings(config.env)
    options = attacks["fgsm"].options("fgsm", goal="lowest_q")
    with pytest.raises(UserError, match="needs a learner with critics"):
        PolicyUnderAttack(
            *(load_policy(trained, 0), 0, None, env, describe_env(env), options),
            *(EpisodeSettings(3, 3, 1, "outputs"), WindowSettings()),
        )
