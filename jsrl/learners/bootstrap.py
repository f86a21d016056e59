"""With which action a learner's targets are made: its own, or the one that a rule of who acts says.

Shapes: S seeds, B transitions of a minibatch, A action size.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from jsrl.core.arbitration import Critics, HasTarget, Successors, checked_share, mixed
from jsrl.core.errors import UserError
from jsrl.core.protocols import Draws
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch

DRAWS = "bootstrap"


class Bootstrap:
    """The action in the successor whose value a target takes.

    Args:
        batch_size: B.
        device: where the learner is.
    """

    def __init__(self, batch_size: int, device: torch.device) -> None:
        self._batch_size = batch_size
        self._device = device
        self._rule: HasTarget | None = None
        self._critics: Critics | None = None

    def follow(self, rule: HasTarget, critics: Critics) -> None:
        """Let a rule choose from now on between the guide's action and the learner's own."""
        self._rule, self._critics = rule, critics

    @property
    def is_own(self) -> bool:
        """Whether no rule has a say, so that ``choose`` changes nothing."""
        return self._rule is None

    def draws(self, streams: Streams) -> Draws:
        """What the rule may draw by, uniform ``[S, B]``; nothing without a rule."""
        if self._rule is None:
            return {}
        drawn = streams.uniform(DRAWS, (self._batch_size,))
        return {DRAWS: drawn.to(self._device, non_blocking=True)}

    @torch.no_grad()
    def choose(
        self, batch: TransitionBatch, own: Shaped[Tensor, "S B *A"], draws: Draws
    ) -> tuple[Shaped[Tensor, "S B *A"], Float[Tensor, "S B"] | None]:
        """The action, and the explorer's share in it; ``own`` and None without a rule.

        Args:
            batch: the minibatch.
            own: the action that the learner would take by itself.
            draws: of the update, among them those of ``draws``.

        Raises:
            UserError: if the minibatch does not say what the guide would do, or the rule answers no
                shares.
        """
        if self._rule is None or self._critics is None:
            return own, None
        guide = batch.next_guide
        if guide is None:
            raise UserError(
                "a rule of who acts chooses with what targets are made, and was given a minibatch "
                "without next_guide; make its stores with next_guide=True, and let the collector "
                "follow the rule with foresees=True"
            )
        moment = Successors(batch.next_observation, guide, own, self._critics, draws[DRAWS])
        share = checked_share(
            self._rule.target(moment),
            tuple(guide.shape[:2]),
            self._rule,
            "target",
            chooses=not own.is_floating_point(),
        )
        return mixed(own, guide, share), share


class BootstrapsByRule:
    """What a learner extends whose targets go through a ``Bootstrap``, which it makes."""

    bootstrap: Bootstrap

    def bootstrap_by(self, rule: HasTarget, critics: Critics) -> None:
        """See ``jsrl.core.protocols.BootstrapsFromActions``."""
        self.bootstrap.follow(rule, critics)
