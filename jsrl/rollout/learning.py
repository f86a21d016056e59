"""One update of a learner, with the minibatches that it asks for."""

from jsrl.core.protocols import Learner, Metrics, TrainsSome
from jsrl.core.streams import Streams
from jsrl.rollout.replay import Replay


def learn(learner: Learner, replay: Replay, minibatches: Streams, draws: Streams) -> Metrics:
    """An update from as many minibatches as the learner needs.

    Args:
        learner: with several minibatches an update, it says for each which networks it trains.
        replay: where minibatches come from.
        minibatches: their indices are drawn from it.
        draws: what the learner draws comes from it.

    Returns:
        The metrics, of the last minibatch that has each of them.
    """
    if not isinstance(learner, TrainsSome):
        return learner.update(replay.sample(minibatches), learner.draws(draws))
    metrics: Metrics = {}
    for networks in learner.needs.batches:
        batch = replay.sample(minibatches)
        metrics |= learner.train(networks, batch, learner.draws(draws))
    return metrics
