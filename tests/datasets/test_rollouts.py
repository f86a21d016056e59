"""``jsrl dataset rollouts``: what any guide does, in a file."""

import h5py
import numpy as np
from small_runs import REACH, call, listing, toward_goal

from jsrl.datasets import load_hdf5

GUIDED = ("guide=python", "guide.target=small_runs:toward_goal")
COLLECT = ("dataset", "rollouts", *REACH[:2], "path=data.hdf5", "transitions=70")


def test_the_file_holds_what_the_guide_did(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    outcome = call(monkeypatch, capfd, *COLLECT, *GUIDED)
    assert outcome.status == 0 and "70 transitions" in outcome.out
    data = load_hdf5("data.hdf5").data
    assert len(data) == 70
    np.testing.assert_allclose(data.actions, toward_goal(data.observations), rtol=0, atol=1e-6)
    assert data.terminals.any() and (data.terminals | data.timeouts)[-1]
    with h5py.File("data.hdf5") as file:
        assert file.attrs["guide"] == "python" and len(file.attrs["guide_sha256"]) == 64
        assert file.attrs["env_id"] == "jsrl-tests/Reach-v0"
    assert "data_report/report.md" in listing(tmp_path)


def test_the_seed_decides_and_a_file_is_never_replaced(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        command = (*COLLECT, *GUIDED, f"path={name}.hdf5", f"seed={seed}")
        assert call(monkeypatch, capfd, *command).status == 0
    first, again, other = (
        load_hdf5(f"{name}.hdf5").fingerprint for name in ("first", "again", "other")
    )
    assert first == again != other
    outcome = call(monkeypatch, capfd, *COLLECT, *GUIDED, "path=first.hdf5")
    assert outcome.status == 2 and "path=first.hdf5 exists already" in outcome.err


def test_who_cannot_act_is_refused_in_one_line(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    for guide in ("none", "offline"):
        outcome = call(monkeypatch, capfd, *COLLECT, f"guide={guide}")
        assert outcome.status == 2
        assert f"guide={guide} cannot act; jsrl dataset rollouts needs" in outcome.err
        assert outcome.err.strip().count("\n") == 0
    assert not listing(tmp_path)
