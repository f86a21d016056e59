"""A rule of your own on who acts, in ten lines: guide and explorer take turns.

Use it with ``arbiter=custom arbiter.target=scripts/examples/arbiter_alternate.py:Alternate``, and
set ``arbiter.arguments.turn=N``. A rule is asked at every step for the explorer's share in the
action of each environment ``[S, E]``: 0, the guide alone; 1, the explorer alone; between, both.
``jsrl.core.arbitration`` says what it may ask for, and how it may remember something.
"""

from jsrl.jumpstart.arbiters import Rule


class Alternate(Rule):
    """The guide acts for ``turn`` steps, then the explorer for as many, and so on."""

    def __init__(self, turn: int = 10) -> None:
        self.turn = turn

    def decide(self, moment, state, streams):
        """The explorer's share, and the state, which stays as it is."""
        return (moment.times // self.turn % 2).float(), state
