"""Several guides, one of which acts in each episode.

Which one is chosen by weights, in turns, or by the success of the episodes that each began so far:
Thompson sampling for Bernoulli bandits (Thompson 1933; Chapelle and Li 2011, algorithm 2).
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import NDArray
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.foreign import has_memory
from jsrl.core.observations import Observation
from jsrl.core.protocols import BeginsEpisodes, Guide, WatchesFrames
from jsrl.core.ranges import one_of
from jsrl.core.registry import nearest, option_names
from jsrl.core.specs import ActionSpec, BoxActions
from jsrl.core.streams import Streams
from jsrl.guides.base import combine
from jsrl.guides.keys import keys_moved
from jsrl.guides.options import GuideInputs, GuideOptions, guides
from jsrl.guides.view import guide_lines

CHOOSE = ("weights", "round_robin", "success")
SUM_TOLERANCE = 1e-6
"""By so much the sum of the weights may miss 1."""


class Outcomes:
    """How the training episodes ended that each of M members began, for each of S seeds.

    Args:
        num_seeds: S.
        members: M.
    """

    def __init__(self, num_seeds: int, members: int) -> None:
        self.successes = np.zeros((num_seeds, members), np.float64)
        self.episodes = np.zeros((num_seeds, members), np.int64)

    def thompson(self, seed_index: int, generator: np.random.Generator) -> int:
        """The member whose draw from its Beta(1 + successes, 1 + failures) is the largest.

        A member of which nothing is known draws evenly from [0, 1]. Of equal draws the first wins.
        """
        solved, count = self.successes[seed_index], self.episodes[seed_index]
        return int(generator.beta(1.0 + solved, 1.0 + (count - solved)).argmax())


class SeveralGuide:
    """M guides, of which one is in charge of each episode, in all of the steps that a guide has.

    What is drawn for an episode follows from its key, see ``BeginsEpisodes``, and, where ``choose``
    is ``success``, from the outcomes of its seed's episodes until it began.

    Args:
        members: M guides for the same S seeds.
        kinds: what each is, for messages.
        actions: of the environment.
        num_seeds: S.
        choose: ``weights``; ``round_robin``, in turns by the episodes' numbers, those in which no
            guide acts included; or ``success``, see ``Outcomes.thompson``.
        weights: the probability of each member; they sum to 1. None for equal ones.
    """

    stateful = True

    def __init__(
        self,
        members: Sequence[Guide],
        kinds: Sequence[str],
        actions: ActionSpec,
        num_seeds: int,
        *,
        choose: str = "weights",
        weights: Sequence[float] | None = None,
    ) -> None:
        self._members, self._kinds = list(members), list(kinds)
        self._actions = actions
        self._choose = choose
        self._weights = np.full(len(self._members), 1 / len(self._members))
        if weights is not None:
            self._weights = np.array(weights, np.float64) / np.sum(weights)
        self._outcomes = Outcomes(num_seeds, len(self._members))
        self.fingerprint = combine(
            choose, self._weights.tolist(), [member.fingerprint for member in self._members]
        )
        self.needs_frames = any(_watcher(member) is not None for member in self._members)
        self._member = np.zeros((num_seeds, 0), np.int64)
        self._keys = np.zeros((num_seeds, 0, 2), np.int64)
        # Of episodes that were under way in a checkpoint, by seed, environment and key.
        self._restored: dict[tuple[int, ...], int] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "SeveralGuide":
        """A twin for evaluations: its memory is its own, the outcomes are the same ones.

        It is never told of ends, and what was heard in training counts in evaluations too.
        """
        twin = copy.copy(self)
        twin._members = [
            copy.deepcopy(member, memo) if has_memory(member) else member
            for member in self._members
        ]
        twin._member, twin._keys, twin._restored = self._member.copy(), self._keys.copy(), {}
        return twin

    def lines(self) -> list[str]:
        """How one is chosen, and what is to be told of each."""
        how = {
            "weights": f"drawn by the weights {_shown(self._weights)}",
            "round_robin": "in turns",
            "success": "drawn by its success so far (Thompson sampling)",
        }[self._choose]
        named = ", ".join(f"{index} {kind}" for index, kind in enumerate(self._kinds))
        own = [line for member in self._members for line in guide_lines(member)]
        return [f"guide=several: {named}; one of them acts in each episode, {how}", *own]

    def begin(
        self,
        mask: Bool[Tensor, "S E"],
        episodes: Int[NDArray[np.int64], "S E"],
        seeds: Int[NDArray[np.int64], "S E"],
    ) -> None:
        """Choose a member for each episode that begins; see ``BeginsEpisodes``."""
        self._make_room(tuple(mask.shape))
        for seed_index, place in np.argwhere(mask.cpu().numpy()):
            where = int(seed_index), int(place)
            key = int(episodes[where]), int(seeds[where])
            restored = self._restored.pop((*where, *key), None)
            self._member[where] = self._draw(where[0], *key) if restored is None else restored
            self._keys[where] = key
        for index, member in enumerate(self._members):
            own = mask & self._of(index, mask)
            if not own.any():
                continue
            if isinstance(member, BeginsEpisodes):
                member.begin(own, episodes, seeds)
            else:
                member.reset(own)

    def reset(self, mask: Bool[Tensor, "S E"]) -> None:
        """New episodes begin, with the members that there were before, at first the first."""
        self._make_room(tuple(mask.shape))
        for index, member in enumerate(self._members):
            own = mask & self._of(index, mask)
            if own.any():
                member.reset(own)

    def acting(self) -> Int[NDArray[np.int64], "S E"]:
        """The member in charge of each episode; see ``HasMembers``."""
        return self._member.copy()

    def act(
        self, obs: Observation, streams: Streams | None, mask: Bool[Tensor, "S E"]
    ) -> Shaped[Tensor, "S E *A"]:
        """Actions of the members in charge; see ``Guide.act``."""
        chooses = not isinstance(self._actions, BoxActions)
        kind = torch.int64 if chooses else torch.float32
        shape = (*obs.leading, *self._actions.chosen_shape)
        actions = torch.zeros(shape, dtype=kind, device=obs.device)
        mask = mask.to(obs.device)
        for index, member in enumerate(self._members):
            own = mask & self._of(index, mask)
            if own.any():
                with _of_member(index):
                    answers = member.act(obs, streams, own)
                wide = own if chooses else own.unsqueeze(-1)
                actions = torch.where(wide, answers, actions)
        return actions

    def see_again(self, obs: Observation, mask: Bool[Tensor, "S E"]) -> None:
        """Remind the members with a memory, and ask no other, a person say; see ``SeesAgain``."""
        for index, member in enumerate(self._members):
            own = (mask & self._of(index, mask)).to(obs.device)
            if has_memory(member) and own.any():
                member.act(obs, None, own)

    def show(self, frames: Sequence[Any]) -> None:
        """Pictures of the environments, for the members that look at them."""
        for index, member in enumerate(self._members):
            watcher = _watcher(member)
            if watcher is not None and (self._member == index).any():
                watcher.show(frames)

    def ended(
        self,
        mask: Bool[Tensor, "S E"],
        returns: Float[NDArray[np.float64], "S E"],
        successes: Float[NDArray[np.float64], "S E"],
    ) -> None:
        """Count the episodes that each member began; see ``HearsOfEnds``."""
        for seed_index, place in np.argwhere(mask.cpu().numpy()):
            where = int(seed_index), int(self._member[seed_index, place])
            self._outcomes.episodes[where] += 1
            self._outcomes.successes[where] += np.nan_to_num(successes[seed_index, place])

    def state_dict(self) -> dict[str, Any]:
        """The outcomes, and who is in charge of which episodes."""
        return {
            "successes": torch.from_numpy(self._outcomes.successes.copy()),
            "episodes": torch.from_numpy(self._outcomes.episodes.copy()),
            "member": torch.from_numpy(self._member.copy()),
            "keys": torch.from_numpy(self._keys.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken; see ``HearsOfEnds``."""
        # In place, since a twin has the same outcomes.
        self._outcomes.successes[...] = state["successes"].numpy()
        self._outcomes.episodes[...] = state["episodes"].numpy()
        members, keys = state["member"].numpy(), state["keys"].numpy()
        self._restored = {
            (int(s), int(e), *map(int, keys[s, e])): int(members[s, e])
            for s, e in np.ndindex(*members.shape)
        }

    def _draw(self, seed_index: int, episode: int, reset_seed: int) -> int:
        if self._choose == "round_robin":
            return episode % len(self._members)
        generator = Streams([reset_seed]).numpy("guide member")[0]
        if self._choose == "success":
            return self._outcomes.thompson(seed_index, generator)
        return int(generator.choice(len(self._weights), p=self._weights))

    def _of(self, index: int, like: Tensor) -> Bool[Tensor, "S E"]:
        return torch.from_numpy(self._member == index).to(like.device)

    def _make_room(self, shape: tuple[int, ...]) -> None:
        if self._member.shape != shape:
            self._member = np.zeros(shape, np.int64)
            self._keys = np.full((*shape, 2), -1, np.int64)


def _watcher(guide: Guide) -> WatchesFrames | None:
    return guide if isinstance(guide, WatchesFrames) and guide.needs_frames else None


def _shown(weights: Sequence[float] | NDArray[np.float64]) -> str:
    return f"[{', '.join(f'{weight:.4g}' for weight in weights)}]"


def _of_member(index: int) -> AbstractContextManager[None]:
    """While open, mistakes are told as those of the member at this index."""
    options = {o for name in guides.names() for o in option_names(guides[name].options)}
    return keys_moved("guide", f"guide.members[{index}]", {name: name for name in options})


@dataclass
class SeveralOptions(GuideOptions):
    """Of ``guide=several``."""

    # The guides, each {kind: NAME, OPTION: VALUE, ...} with the options that it has alone.
    members: list[Any] = field(default_factory=list)
    # By what one is chosen for each episode: weights, round_robin or success. Success draws by
    # Thompson sampling from Beta(1 + successes, 1 + failures) of the training episodes that each
    # began; a member of which nothing is known is drawn evenly. The guide alone is measured before
    # exploration begins, when nothing is known of any.
    choose: str = "weights"
    # Of choose=weights: the probability of each, which sum to 1; null: equal ones.
    weights: list[float] | None = None

    is_several = True
    advice = 'each guide has its own options: "guide.members=[{kind: NAME, OPTION: VALUE}, ...]"'

    def parts(self) -> Sequence[GuideOptions]:
        return [_member_options(entry, index) for index, entry in enumerate(self.members)]

    def asks_person(self) -> bool:
        return any(part.asks_person() for part in self.parts())

    def is_measured(self) -> bool:
        return all(part.is_measured() for part in self.parts())

    def check(self) -> None:
        super().check()
        one_of("guide.choose", self.choose, CHOOSE)
        if not self.members:
            raise UserError(
                "guide.members is empty; guide=several needs its guides there, such as "
                '"guide.members=[{kind: npz, path: FILE}, {kind: random}]"'
            )
        for index, part in enumerate(self.parts()):
            with _of_member(index):
                part.check()
        if self.weights is not None:
            self._check_weights(self.weights)

    def _check_weights(self, weights: list[float]) -> None:
        shown = f"guide.weights={_shown(weights)}"
        if self.choose != "weights":
            raise UserError(
                f"{shown} is not used with guide.choose={self.choose}; leave it out, or use "
                "guide.choose=weights"
            )
        if len(weights) != len(self.members):
            raise UserError(
                f"{shown} has {len(weights)} weights, and guide.members has {len(self.members)} "
                "guides; give one weight for each"
            )
        if not all(0 <= weight < float("inf") for weight in weights):
            raise UserError(f"{shown} must be numbers of 0 or more that sum to 1")
        total = sum(weights)
        if abs(total - 1) > SUM_TOLERANCE:
            mended = [weight / total for weight in weights] if total else [1 / len(weights)]
            mended = mended if total else mended * len(weights)
            raise UserError(
                f"{shown} sums to {total:.6g}, and probabilities sum to 1; in these proportions "
                f"they are guide.weights=[{','.join(f'{weight:.8f}' for weight in mended)}]"
            )


def _member_options(entry: Any, index: int) -> GuideOptions:
    """The options of one member, as its kind has them.

    Raises:
        UserError: for anything else; it names the key.
    """
    key = f"guide.members[{index}]"
    if not isinstance(entry, Mapping) or not isinstance(entry.get("kind"), str):
        raise UserError(
            f"{key}={entry!r} says no kind of guide; expected {{kind: NAME, OPTION: VALUE}}, such "
            "as {kind: npz, path: FILE}"
        )
    kind = entry["kind"]
    fit = [n for n in guides.names() if n != "none" and not _is_unfit(guides[n].options)]
    if kind not in fit:
        known = "cannot be one of several" if kind in guides.names() else "is unknown"
        raise UserError(
            f"{key}.kind={kind!r} {known}{nearest(kind, fit) if known == 'is unknown' else ''}; "
            f"choose one of {', '.join(fit)}"
        )
    options = guides[kind].options
    own = option_names(options)
    for name in entry:
        if name not in own:
            has = ", ".join(option for option in own if option != "kind") or "nothing to set"
            raise UserError(
                f"{key}.{name} is no option of guide={kind}{nearest(str(name), own)}; it has {has}"
            )
    try:
        made: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(options), dict(entry)))
    except OmegaConfBaseException as error:
        named = f"{key}.{error.key}={entry.get(error.key)!r}" if error.key in entry else key
        raise UserError(f"{named} does not fit: {str(error).splitlines()[0]}") from error
    assert isinstance(made, GuideOptions)
    return made


def _is_unfit(options: type[GuideOptions]) -> bool:
    """Whether it is several itself, or only made in the course of the run."""
    return options.is_several or options.pretrained


@guides.register("several", SeveralOptions)
def make_several(options: SeveralOptions, inputs: GuideInputs) -> SeveralGuide:
    """All of the members, each as its kind makes it."""
    options.check()
    if options.choose == "success" and inputs.env.success_key is None:
        raise UserError(
            "guide.choose=success goes by the success of episodes, but env.success_key is null; "
            "name the entry of info that says so, or use guide.choose=weights"
        )
    made = []
    for index, part in enumerate(options.parts()):
        with _of_member(index):
            made.append(guides.build(part, inputs))
    kinds = [part.kind for part in options.parts()]
    return SeveralGuide(
        *(made, kinds, inputs.spec.actions, len(inputs.seeds)),
        choose=options.choose,
        weights=options.weights,
    )
