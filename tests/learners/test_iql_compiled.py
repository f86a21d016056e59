"""IQL's compiled updates: what eager ones do, from one compilation, with images too."""

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
from jsrl.core.observations import zeros_of
from jsrl.core.protocols import Phase
from jsrl.core.streams import Streams
from jsrl.monitor.capture.layers import LayerCapture
from learners.iql_cases import BASE, OBSERVATION, SEEN, make, train
from minibatches import small_encoder
torch.set_num_threads(1)
settings = replace(BASE, hidden=[8], dropout=0.1, value_first=False)
spec = OBSERVATION
if sys.argv[2] != "vector":
    spec = SEEN
    # Adam divides a gradient by its own size. From DrQ's kernels, most of which begin as zeros,
    # many are so small that rounding decides over their sign: there two eager runs, with and
    # without Adam's fused kernel, are 0.04 apart after as many updates. From PyTorch's: 2e-7.
    settings = replace(settings, encoder=small_encoder(shared=sys.argv[2] == "shared"))
learners = [
    make([0, 1], replace(settings, compile=compile), observation=spec) for compile in (False, True)
]
for learner in learners:
    learner.start_phase(Phase.OFFLINE, 200)
    train(learner, Streams([0, 1]).child("batches"), 3, spec)
graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
for learner in learners:
    streams = Streams([0, 1]).child("more")
    train(learner, streams, 48, spec)
    # A monitor looks on while the policy acts, and is gone again.
    policy, seen = learner.policy(), {}
    with LayerCapture(policy, ".*").recorder(seen):
        policy.act(zeros_of(spec, 2, 1), None)
    assert "mlp.activation_0" in seen
    train(learner, streams, 49, spec)
pairs = zip(*(learner.networks.state_dict().values() for learner in learners))
print(json.dumps({
    "difference": max(float((a - b).abs().max()) for a, b in pairs),
    "compiled": graphs,
    "recompiled": torch._dynamo.utils.counters["stats"]["unique_graphs"] - graphs,
}))
"""


LARGEST_DIFFERENCE = {"vector": 1e-5, "shared": 1e-4, "apart": 1e-4}
"""Of any weight after a hundred updates, in which Adam may move it by 0.3.

Convolutions have fifty million inputs of ReLUs in so many updates, and rounding decides for some of
them on which side of 0 they lie. Eager runs, too, whose first weights differ by 1e-7 of themselves
are up to 2e-5 apart in the end.
"""

SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("backend", "what"),
    [
        # The others are traced as a part of being compiled by inductor.
        ("aot_eager", "apart"),
        pytest.param("inductor", "vector", marks=SLOW),
        pytest.param("inductor", "shared", marks=SLOW),
    ],
)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_hundred_compiled_updates_agree_with_eager_ones_and_compile_once(backend, what):
    """``aot_eager`` traces and splits as ``inductor`` does, but makes no programs of it."""
    # In a process of its own: there the shape checks of the tests are not compiled along.
    folder = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, backend, what],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["difference"] < LARGEST_DIFFERENCE[what]
    assert result["compiled"] > 0
    assert result["recompiled"] == 0
