"""What an activation costs: a training step with it, compared with one with ReLU."""

from jsrl.benchmark.problem import Sizes, make_learner, make_replay, make_update, synthetic_data
from jsrl.benchmark.results import Measurement
from jsrl.benchmark.timing import interleaved, ratio
from jsrl.networks.activations import activation_label

SECTION = "IQL update to ReLU's"
COMPARED = ({"name": "smelu", "beta": 1.0}, "gelu", "silu", "softplus", "tanh")
MOST = {"smelu(beta=1)": 1.3}


def measure_activations(sizes: Sizes, seconds: float, *, compiled: bool) -> list[Measurement]:
    """How many times as long an update takes as one with ReLU, of one seed on one thread."""
    replay = make_replay(sizes, synthetic_data(sizes))
    found = []
    for mode in ("eager", "compiled") if compiled else ("eager",):
        updates = {
            activation_label(activation): make_update(
                make_learner(sizes, 1, compiled=mode == "compiled", activation=activation), replay
            )
            for activation in ("relu", *COMPARED)
        }
        times = interleaved(updates, seconds)
        found += [
            Measurement(
                *(SECTION, f"{label}, {mode}", ratio(times[label], times["relu"]), "×"),
                at_most=MOST.get(label),
            )
            for label in list(updates)[1:]
        ]
    return found
