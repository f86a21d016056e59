"""Compiled updates of TD3, TD3+BC and AWAC do what eager ones do, each from its few graphs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPILED = """
import functools, importlib, json, sys, torch
torch.compile = functools.partial(torch.compile, backend=sys.argv[1])
from dataclasses import replace
from jsrl.core.protocols import Phase
from jsrl.core.streams import Streams
torch.set_num_threads(1)
found = {}
for name in sys.argv[2:]:
    kind = importlib.import_module(f"learners.test_{name}")
    options = replace(kind.BASE, learning_rate=1e-3)
    learners = [kind.make([0, 1], replace(options, compile=compile)) for compile in (False, True)]
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for learner in learners:
        streams = Streams([0, 1]).child("batches")
        for phase in (Phase.OFFLINE, Phase.ONLINE):
            learner.start_phase(phase, 50)
            kind.train(learner, streams, 50)
    pairs = zip(*(learner.networks.state_dict().values() for learner in learners))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
    found[name] = [max(float((a - b).abs().max()) for a, b in pairs), graphs]
print(json.dumps(found))
"""


# With a turn of the actor and without one; AWAC's actor has one every time.
GRAPHS = {"td3": 2, "td3_bc": 2, "awac": 1}


@pytest.mark.parametrize(
    ("backend", "kinds"),
    [
        # TD3+BC is TD3 but for the actor's loss.
        ("aot_eager", ("td3_bc", "awac")),
        pytest.param("inductor", tuple(GRAPHS), marks=pytest.mark.slow),
    ],
)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_hundred_compiled_updates_agree_with_eager_ones(backend, kinds):
    """``aot_eager`` traces and splits as ``inductor`` does, but makes no programs of it."""
    # In a process of its own: there the shape checks of the tests are not compiled along.
    folder = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, backend, *kinds],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert max(difference for difference, _ in found.values()) < 1e-5
    assert {kind: graphs for kind, (_, graphs) in found.items()} == {k: GRAPHS[k] for k in kinds}
