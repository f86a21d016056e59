"""What the guide would do in the states that were just reached: asked once, stored, and then done.

A rule of who acts that has a target needs it with every transition, and the guide is asked in the
same state in the next step anyway. In offline data it is asked once, before anything is learnt.

Shapes: S seeds, E environments of a seed, N transitions of a dataset, A action size.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from jsrl.core.protocols import Guide
from jsrl.core.specs import ActionSpec, BoxActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionData

ROWS_AT_A_TIME = 4_096
"""Transitions of a dataset in whose successors the guide is asked at once."""

Ask = Callable[[Bool[Tensor, "S E"]], Shaped[Tensor, "S E *A"]]
"""Asks the guide in some rows."""


class Foresight:
    """The guide's answers to what is observed now.

    Args:
        actions: of the environment.
        shape: S and E.
        device: where the policies are.
    """

    def __init__(self, actions: ActionSpec, shape: tuple[int, int], device: torch.device) -> None:
        kind = torch.float32 if isinstance(actions, BoxActions) else torch.int64
        self._answers = torch.zeros(*shape, *actions.chosen_shape, dtype=kind, device=device)
        self.known = torch.zeros(shape, dtype=torch.bool)
        """Where the answers are to what is observed now."""

    def complete(self, mask: Bool[Tensor, "S E"], ask: Ask) -> Shaped[Tensor, "S E *A"]:
        """The answers, once those that are missing in ``mask`` have been asked for."""
        missing = mask & ~self.known
        if missing.any():
            self._answers = torch.where(self._wide(missing), ask(missing), self._answers)
            self.known = self.known | missing
        return self._answers

    def look(
        self, mask: Bool[Tensor, "S E"], goes_on: Bool[Tensor, "S E"], ask: Ask
    ) -> Shaped[Tensor, "S E *A"]:
        """The answers to what was reached where ``mask``, and 0 elsewhere.

        Args:
            mask: where the guide is asked.
            goes_on: where the episode does, so that the next step goes by the same answer.
            ask: asks it.
        """
        self._answers = ask(mask) if mask.any() else torch.zeros_like(self._answers)
        self.known = mask & goes_on
        return self._answers

    def state_dict(self) -> dict[str, Tensor]:
        """The answers, and where they count: a guide that draws would not give them again."""
        return {"answers": self._answers.cpu().clone(), "known": self.known.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self._answers = state["answers"].to(self._answers.device)
        self.known = state["known"].clone()

    def _wide(self, mask: Bool[Tensor, "S E"]) -> Bool[Tensor, "S E *ones"]:
        mask = mask.to(self._answers.device)
        return mask if self._answers.dim() == mask.dim() else mask.unsqueeze(-1)


def in_successors(
    guide: Guide, data: TransitionData, spec: EnvSpec, streams: Streams, device: torch.device
) -> Shaped[Tensor, "S N *A"]:
    """What the guide of each seed would do in the true successor of each of N transitions.

    It is 0 where the task has ended. The guide must have no memory: a transition is shown to it
    without those before.

    Args:
        guide: is asked in every successor once, in the order of the data.
        data: the transitions.
        spec: of the environment.
        streams: of the S seeds, for guides that draw.
        device: where the policies are; the answers are on the CPU.
    """
    found = []
    for start in range(0, len(data), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        goes_on = torch.from_numpy(~data.terminals[rows]).expand(len(streams), -1)
        if not goes_on.any():
            shape = (*goes_on.shape, *spec.actions.chosen_shape)
            found.append(torch.zeros(shape))
            continue
        seen = data.observed_after(rows).to(device)
        each = seen.for_each(lambda tensor: tensor.expand(len(streams), *tensor.shape))
        found.append(guide.act(each, streams, goes_on).cpu())
    return torch.cat(found, 1)
