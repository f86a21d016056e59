"""Threads in one network: each recorder sees its own thread's passes and leaves nothing behind."""

import copy
import io
import pickle
import sys
import threading

import pytest
import torch
from monitor.episodes import COLUMNS, network
from torch import nn

from jsrl.monitor import Monitor
from jsrl.monitor.capture.layers import LayerCapture


@pytest.fixture
def hasty():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def hooked():
    """A network that has hooks of its own, so that PyTorch's are used on one layer."""
    module = network()
    module[2].register_forward_hook(lambda _, __, output: output + 1)
    return module


def fused():
    """Layers that work part by part only where a part has a hook."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(-1, (1, COLUMNS)),
        nn.TransformerEncoderLayer(COLUMNS, 2, 8, dropout=0.0, batch_first=True),
        nn.Flatten(-2),
    ).eval()


KINDS = {
    network: ".*",
    hooked: ".*",
    fused: r"inputs|1\.linear\d|outputs",
}


def left_on(module):
    """What is attached to parts of a network, except the hook that ``hooked`` has."""
    return [
        name
        for name, part in module.named_modules()
        if "forward" in vars(part) or part._forward_pre_hooks or len(part._forward_hooks) > 1
    ]


def in_threads(*jobs):
    """Run all at a time; what they raised."""
    raised = []

    def run(job):
        try:
            job()
        except BaseException as error:
            raised.append(repr(error))

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert not any(thread.is_alive() for thread in threads)
    return raised


def numbers(seed, count, shape=(1, COLUMNS)):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("make", KINDS)
def test_a_recorder_sees_the_passes_of_its_own_thread_alone(make, hasty):
    module, alone = make(), make()
    bare = LayerCapture(alone, KINDS[make])
    mixed = []

    def watch(seed):
        capture = LayerCapture(module, KINDS[make])
        for x in numbers(seed, 60):
            seen = {}
            with torch.no_grad(), capture.recorder(seen):
                answer = module(x)
            expected = bare_of[seed].forward(x)
            mixed.extend(n for n in expected if not torch.equal(seen[n], expected[n]))
            if not torch.equal(seen["outputs"], answer):
                mixed.append("answer")

    def act_unwatched():
        for x in numbers(9, 150):
            with torch.no_grad():
                module(x)

    # A network of its own for what each thread should see.
    bare_of = {seed: LayerCapture(copy.deepcopy(bare.module), KINDS[make]) for seed in range(3)}
    raised = in_threads(*[lambda seed=seed: watch(seed) for seed in range(3)], act_unwatched)
    assert raised == []
    assert mixed == []
    assert left_on(module) == []


@pytest.mark.parametrize("make", [network, hooked])
def test_a_network_is_copied_and_pickled_while_another_thread_records(make, hasty):
    module, x = make(), numbers(1, 1)[0]
    original = {name: p.clone() for name, p in module.named_parameters()}
    looking, done = threading.Event(), threading.Event()

    def record():
        with LayerCapture(module, ".*").recorder({}):
            looking.set()
            done.wait(300)

    thread = threading.Thread(target=record)
    thread.start()
    assert looking.wait(300)
    copies = [copy.deepcopy(module)]
    if make is network:
        copies.append(pickle.loads(pickle.dumps(module)))
    done.set()
    thread.join(300)
    expected = module(x)
    for copied in copies:
        assert torch.equal(copied(x), expected)
        # It passes by its own weights, and can be copied and looked at again.
        with torch.no_grad():
            for parameter in copied.parameters():
                parameter.zero_()
        again = copy.deepcopy(copied)
        assert torch.equal(copied(x), again(x)) and not torch.equal(copied(x), expected)
        assert torch.equal(LayerCapture(again, "outputs").forward(x)["outputs"], again(x))
    assert left_on(module) == []
    assert all(torch.equal(p, original[name]) for name, p in module.named_parameters())


def test_recorders_within_recorders_each_see_the_pass():
    module, (x, y) = network(), numbers(1, 2)
    outer, inner = {}, {}
    with LayerCapture(module, ".*").recorder(outer):
        module(x)
        with LayerCapture(module, "0|outputs").recorder(inner):
            module(y)
        assert left_on(module) != []
        before = dict(inner)
        module(x)
    assert left_on(module) == []
    assert torch.equal(inner["outputs"], module(y)) and set(inner) == {"0", "outputs"}
    assert torch.equal(outer["outputs"], module(x))
    assert all(inner[name] is before[name] for name in before)


def test_a_pass_that_raises_leaves_nothing_behind_in_any_thread(hasty):
    module, wrong = network(), torch.zeros(1, COLUMNS + 1)

    def act(inputs, raises):
        monitor = Monitor.wrap(module, reference=1000)
        for x in inputs:
            if raises:
                with pytest.raises(RuntimeError, match="mat1 and mat2"):
                    monitor(x)
            else:
                monitor(x)

    raised = in_threads(lambda: act([wrong] * 100, True), lambda: act(numbers(0, 100), False))
    assert raised == []
    assert left_on(module) == []


class Spreads(nn.Module):
    """Works in a thread that it starts itself."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(COLUMNS, 2)

    def forward(self, x):
        found = []
        thread = threading.Thread(target=lambda: found.append(self.layer(x)))
        thread.start()
        thread.join(300)
        return found[0]


def test_a_network_that_starts_threads_is_not_held_up():
    module, x = Spreads(), numbers(0, 1)[0]
    seen = {}
    with LayerCapture(module, "inputs|outputs").recorder(seen):
        answer = module(x)
    assert torch.equal(seen["outputs"], answer)
    monitor = Monitor.wrap(module)
    # What another thread said is not this one's to tell: the layer is not looked at.
    with pytest.warns(RuntimeWarning, match="not observed: layer said nothing"):
        assert torch.equal(monitor(x), answer)
    assert monitor.status.faults == {"layer": 1}


def test_a_capture_is_copied_with_its_network():
    capture, x = LayerCapture(network(), "0|outputs"), numbers(0, 1)[0]
    stored = io.BytesIO()
    torch.save(capture, stored)
    stored.seek(0)
    for copied in (copy.deepcopy(capture), torch.load(stored, weights_only=False)):
        assert copied.module is not capture.module
        found, expected = copied.forward(x), capture.forward(x)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_a_compiled_network_is_not_compiled_at_every_pass():
    compiled, passes = torch.compile(network(), backend="eager"), []
    monitor = Monitor.wrap(compiled, reference=1000)
    torch._dynamo.utils.counters.clear()
    for x in numbers(0, 6):
        monitor(x)
        passes.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert passes[2] == passes[-1]
    assert monitor.status.faults == {}
