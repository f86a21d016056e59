"""Independent requests to a deployed network: no episodes, batches of any size."""

import copy
import pickle
import threading

import pytest
import torch
from monitor.episodes import COLUMNS, network
from scipy.stats import binomtest

from jsrl.core.errors import UserError
from jsrl.monitor import Monitor, Recording


def wrap(policy=None, **changes):
    """At each of 10 tests 0.01, which 30 and 10 requests reach."""
    few = {"reference": 30, "window": 10, "level": 0.1, "horizon": 100, "permutations": 500}
    few |= {"layers": "inputs|1|outputs"}
    return Monitor.wrap(policy or network(), samples="requests", **(few | changes))


def requests(count, seed=0):
    return torch.randn(count, COLUMNS, generator=torch.Generator().manual_seed(seed))


def test_batches_of_any_sizes_are_answered_and_tested_at_each_stride():
    policy, bare = network(), network()
    monitor, sent = wrap(policy, stride=5), 0
    for size in (1, 7, 3, 19, 1, 1, 30):
        rows = requests(size, seed=size)
        assert torch.equal(monitor(rows), bare(rows))
        sent += size
        assert len(monitor.checks) == max(0, sent - 30) // 5
    single = requests(1)[0]
    assert torch.equal(monitor(single), bare(single))
    assert monitor.status.state == "watching" and monitor.status.faults == {}
    # Requests are numbered from 0, and each is tested by itself.
    assert [check.episode for check in monitor.checks] == [34, 39, 44, 49, 54, 59]


def test_batches_and_single_requests_are_tested_alike():
    # What the network says is rounded differently in batches: the tests are of what it is told.
    together, alone = wrap(layers="inputs"), wrap(layers="inputs")
    rows = requests(60)
    for batch in rows.split(13):
        together(batch)
    for row in rows:
        alone(row)
    p = [check.p_value for check in together.checks]
    assert len(p) == 3 and p == [check.p_value for check in alone.checks]


def test_fewer_requests_than_the_reference_are_only_collected():
    monitor = wrap()
    monitor(requests(29))
    status = monitor.status
    assert (status.state, status.reference, status.tests) == ("collecting", 29, 0)
    assert not monitor.ready and not monitor.alarm and list(monitor.checks) == []
    monitor(requests(1))
    assert monitor.ready and list(monitor.checks) == []


def test_false_alarms_keep_the_promised_level():
    # Any alarm in 20 requests at 0.3: of 16 streams, 5 expected at most.
    streams, alarms = 16, 0
    for seed in range(streams):
        monitor = wrap(reference=20, level=0.3, horizon=20, layers="inputs", seed=seed)
        monitor(requests(40, seed=seed))
        assert len(monitor.checks) == 2
        alarms += monitor.alarm
    assert binomtest(alarms, streams, 0.3, alternative="greater").pvalue > 0.01


def test_a_shifted_stream_raises_an_alarm():
    monitor = wrap()
    monitor(requests(60))
    assert not monitor.alarm
    monitor(requests(10, seed=1) + 2)
    assert monitor.alarm and monitor.checks[-1].alarm


def test_a_share_of_the_requests_is_watched():
    monitor, again = wrap(share=0.25, reference=5000), wrap(share=0.25, reference=5000)
    for seed in range(20):
        for one in (monitor, again):
            one(requests(20, seed=seed))
        for one in (monitor, again):
            one(requests(1, seed=seed)[0])
    count = monitor.status.reference
    assert count == again.status.reference
    assert binomtest(count, 420, 0.25).pvalue > 0.001


def test_what_is_not_finite_alarms_at_once():
    monitor = wrap()
    monitor(requests(30))
    monitor(torch.full((COLUMNS,), torch.nan))
    assert monitor.alarm and monitor.checks[-1].method == "finite"


def test_memory_is_bounded():
    monitor = wrap(layers="inputs")
    sizes = []
    for seed in range(4):
        monitor(requests(40, seed=seed))
        # The latest tests are kept, up to a number that is not reached here.
        monitor.checks.clear()
        sizes.append(len(pickle.dumps(monitor)))
    assert max(sizes[2:]) < 1.1 * sizes[1]


def test_threads_are_answered_while_another_tests(monkeypatch):
    from jsrl.monitor.watch import episode_watch

    began, go_on, compare = threading.Event(), threading.Event(), episode_watch.compare

    def slow(*arguments):
        began.set()
        assert go_on.wait(20)
        return compare(*arguments)

    monkeypatch.setattr("jsrl.monitor.watch.episode_watch.compare", slow)
    monitor, bare = wrap(layers="inputs"), network()
    monitor(requests(30))
    tester = threading.Thread(target=monitor, args=(requests(10),))
    tester.start()
    assert began.wait(20)
    row = requests(1, seed=9)
    assert torch.equal(monitor(row), bare(row)) and list(monitor.checks) == []
    # More than ten windows may not wait.
    with pytest.warns(RuntimeWarning, match="smaller share="):
        monitor(requests(150, seed=2))
    go_on.set()
    tester.join(20)
    assert len(monitor.checks) == 11


def test_copies_and_recordings(tmp_path):
    monitor = wrap(record=tmp_path / "seen")
    monitor(requests(30))
    copied = copy.deepcopy(monitor)
    with monitor:
        monitor(requests(10, seed=1))
    copied(requests(10, seed=1))
    assert [c.p_value for c in copied.checks] == [c.p_value for c in monitor.checks]
    assert len(Recording(tmp_path / "seen").episodes()) == 40
    monitor.save_reference(tmp_path / "reference")
    other = wrap()
    other.load_reference(tmp_path / "reference")
    assert other.ready


def test_half_precision_and_inference_mode_of_whoever_calls_reach_no_test():
    monitor, plain = wrap(layers="inputs"), wrap(layers="inputs")
    with torch.inference_mode(), torch.autocast("cpu"):
        monitor(requests(40))
    plain(requests(40))
    assert monitor.status.faults == {}
    assert len(monitor.checks) == len(plain.checks) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"share": 0.0}, "share=0.0 must be above 0"),
        ({"share": 1.5}, "share=1.5 must be above 0 and at most 1"),
        ({"interval": 2}, "interval=2 is of episodes"),
        ({"stride": 11}, "monitor.stride"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes, told):
    with pytest.raises(UserError, match=told):
        wrap(**changes)


def test_what_belongs_to_other_samples_is_refused():
    with pytest.raises(UserError, match=r"share=0\.5 is of requests"):
        Monitor.wrap(network(), share=0.5)
    with pytest.raises(UserError, match="samples"):
        Monitor.wrap(network(), samples="rows")
    with pytest.raises(UserError, match="leave out end_episode"):
        wrap().end_episode()


def test_a_network_whose_answers_change_their_size_is_answered_and_that_is_counted():
    monitor = Monitor.wrap(torch.nn.Identity(), samples="requests")
    monitor(torch.zeros(2, 3))
    with pytest.warns(RuntimeWarning, match="numbers for each request have changed"):
        assert monitor(torch.zeros(2, 4)).shape == (2, 4)
    assert monitor.status.faults == {"look": 1} and monitor.status.reference == 2
