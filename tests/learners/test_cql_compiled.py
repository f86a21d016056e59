"""Compiled updates of CQL, Cal-QL and of SAC in parts: what eager ones do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPILED = """
import functools, json, sys, torch
torch.compile = functools.partial(torch.compile, backend=sys.argv[1])
from dataclasses import replace
from jsrl.core.protocols import Phase
from jsrl.core.streams import Streams
from learners.test_cql import KINDS, batch, make
torch.set_num_threads(1)
options = KINDS[sys.argv[2]]
if sys.argv[3] == "parts":
    options = replace(options, critic_updates=2, split_batch=True)
learners = [make([0, 1], replace(options, compile=compile)) for compile in (False, True)]
graphs = []
for learner in learners:
    streams = Streams([0, 1]).child("batches")
    learner.start_phase(Phase.OFFLINE, 60)
    for update in range(60):
        learner.update(batch(streams, sys.argv[2] == "calibrated"), learner.draws(streams))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
pairs = zip(*((*l.networks.state_dict().values(), l.log_multiplier) for l in learners))
print(json.dumps({
    "difference": max(float((a - b).abs().max()) for a, b in pairs),
    "compiled": graphs[60],
    "recompiled": graphs[-1] - graphs[60],
}))
"""


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("backend", "kind", "parts"),
    [
        ("aot_eager", "calibrated", "parts"),
        pytest.param("aot_eager", "lagrange", "whole", marks=SLOW),
        pytest.param("inductor", "calibrated", "parts", marks=SLOW),
    ],
)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_updates_agree_with_eager_ones_and_compile_once(backend, kind, parts):
    # In a process of its own: there the shape checks of the tests are not compiled along.
    folder = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, backend, kind, parts],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["difference"] < 1e-5
    assert result["compiled"] > 0
    assert result["recompiled"] == 0
