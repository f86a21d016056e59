"""Which sources of chance differ between the replicas of a run, and which are held equal.

Two runs that differ only in what should not matter come out differently. To tell what contributes
how much, replicas vary in one source at a time: a source that does not vary draws, for every
replica, what it draws for the first seed.
"""

from jsrl.core.streams import Key, Streams

SOURCES = ("initialisation", "minibatch_order", "environment", "learner")
"""Initial weights; the order of minibatches; start states and noise on actions, of evaluations too;
whatever else the learner draws, such as dropout masks."""

LEVELS: dict[str, tuple[str, ...]] = {
    "none": (),
    "minibatch_order": ("minibatch_order",),
    "initialisation": ("initialisation",),
    "environment": ("environment",),
    "all": SOURCES,
}
"""For each level of ``nondeterminism`` the sources that vary; ``all`` is an ordinary run."""


class Sources:
    """The streams of S replicas, source by source.

    Args:
        seeds: one for each replica.
        level: a key of ``LEVELS``.
    """

    def __init__(self, seeds: list[int], level: str) -> None:
        self._seeds = seeds
        self._varying = LEVELS[level]

    def streams(self, source: str, *key: Key) -> Streams:
        """Fresh streams under ``key``.

        Where the source varies, each replica has those of its own seed, the same as in any run
        with this seed; else all have those of the first.

        Args:
            source: one of ``SOURCES``.
            key: which streams of it.
        """
        assert source in SOURCES
        varies = source in self._varying
        return Streams(self._seeds if varies else self._seeds[:1] * len(self._seeds), key)
