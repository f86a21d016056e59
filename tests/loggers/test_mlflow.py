"""MLflow's folder of files, read as files: a line of a metric is its time, value and step."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from jsrl.core.errors import UserError
from jsrl.loggers import LoggerInputs, loggers
from jsrl.loggers.mlflow import MlflowOptions

pytest.importorskip("mlflow")


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No word to anybody, and nothing of this machine's settings."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def opened(folder, seeds=(4, 9), resume_from=None, **options):
    settings = MlflowOptions("mlflow", **options)
    return loggers["mlflow"].make(settings, LoggerInputs(folder, seeds, 10, resume_from))


def run_folder(folder):
    (found,) = folder.glob("mlflow/*/*/metrics")
    return found.parent


def points(folder, name):
    lines = (run_folder(folder) / "metrics" / name).read_text().splitlines()
    return [(int(step), float(value)) for _, value, step in (line.split() for line in lines)]


def meta(folder):
    lines = (run_folder(folder) / "meta.yaml").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def png():
    file = io.BytesIO()
    Image.new("RGB", (5, 4)).save(file, "PNG")
    return file.getvalue()


def test_values_settings_and_pictures_are_in_the_files_of_the_run(tmp_path):
    logger = opened(tmp_path / "maze")
    many = {f"key_{i}": i for i in range(150)}
    logger.configuration("learner:\n  kind: iql", {"learner": {"kind": "iql"}, **many})
    logger.log(3, "offline", {"loss/value": [1.0, 3.0], "throughput/x": 2.0})
    logger.log(7, "online", {"loss/value": [math.nan, 5.0], "odd[0]": 1.0})
    logger.histogram("actions", np.zeros(3), 7)
    logger.image("monitor/picture", png(), 7)
    logger.flush()
    logger.close(finished=True)
    run = run_folder(tmp_path / "maze")
    assert points(tmp_path / "maze", "loss/value/seed_4") == [(-7, 1.0)]
    assert points(tmp_path / "maze", "loss/value/seed_9") == [(-7, 3.0), (7, 5.0)]
    assert points(tmp_path / "maze", "loss/value/mean") == [(-7, 2.0), (7, 5.0)]
    assert points(tmp_path / "maze", "throughput/x") == [(-7, 2.0)]
    assert points(tmp_path / "maze", "odd_0_") == [(7, 1.0)]
    assert (run / "params" / "learner.kind").read_text() == "iql"
    assert (run / "params" / "key_149").read_text() == "149"
    assert (run / "artifacts" / "config.yaml").read_text() == "learner:\n  kind: iql"
    assert [Image.open(p).size for p in run.glob("artifacts/images/*.png")] == [(5, 4)]
    assert meta(tmp_path / "maze")["run_name"] == "maze"
    assert meta(tmp_path / "maze")["status"] == "3"  # finished


def test_a_resumed_run_goes_on_under_its_id_and_a_new_one_has_another(tmp_path):
    first = opened(tmp_path)
    first.configuration("steps: 1", {"steps": 1})
    first.log(1, "online", {"loss/value": [1.0, 2.0]})
    first.close()
    assert meta(tmp_path)["status"] == "5"  # killed
    second = opened(tmp_path, resume_from=(1, "online"))
    second.configuration("steps: 2", {"steps": 2})
    assert meta(tmp_path)["status"] == "1"  # running
    second.log(2, "online", {"loss/value": [3.0, 4.0]})
    second.close(finished=True)
    assert points(tmp_path, "loss/value/seed_4") == [(1, 1.0), (2, 3.0)]
    assert (run_folder(tmp_path) / "params" / "steps").read_text() == "1"
    assert (run_folder(tmp_path) / "artifacts" / "config.yaml").read_text() == "steps: 2"
    before = (tmp_path / "mlflow_run_id").read_text()
    opened(tmp_path).close()
    assert (tmp_path / "mlflow_run_id").read_text() != before


def test_what_mlflow_refuses_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"logger=mlflow: .*logger\.tracking_uri") as raised:
        opened(tmp_path, tracking_uri="nonsense://nowhere")
    assert "\n" not in str(raised.value)
    logger = opened(tmp_path)
    logger.close()
    (tmp_path / "mlflow_run_id").write_text("0" * 32)
    with pytest.raises(UserError, match="logger=mlflow: "):
        opened(tmp_path, resume_from=(1, "online"))


def test_the_permission_for_files_is_given_to_this_store_alone(tmp_path):
    opened(tmp_path).close()
    import mlflow

    with pytest.raises(mlflow.MlflowException, match="MLFLOW_ALLOW_FILE_STORE"):
        mlflow.MlflowClient((tmp_path / "another").as_uri())
