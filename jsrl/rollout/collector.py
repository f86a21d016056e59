"""The online collector: guide and exploration-policy, every transition labelled with who acted.

Each environment of each seed is in an episode of its own, whose number of guide steps h is drawn
when it begins and kept to its end.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.arbitration import Arbiter, ArbiterInForce, Critics, GuideValues
from jsrl.core.episodes import Episode
from jsrl.core.observations import Observation
from jsrl.core.protocols import Curriculum, Guide, Policy
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.core.transitions import Moment
from jsrl.envs.make import Environments, Step
from jsrl.rollout.resume import remind, replay
from jsrl.rollout.stepper import Stepper, Watched

__all__ = ["Collector", "Episode"]

FIRST_HISTORY = 1_000
"""Steps of an episode for which there is room from the start; it grows as episodes do."""


class Collector(Watched):
    """Steps S·E environments with guide and exploration-policy.

    Args:
        environments: S·E of them, those of seed 0 first.
        spec: what they are.
        num_envs: E.
        streams: the seeds; resets, guide steps and action noise are drawn from them.
        device: where the policies are.
        observes_share: whether the exploration-policy observes its share.
    """

    def __init__(
        self,
        environments: Environments,
        spec: EnvSpec,
        num_envs: int,
        streams: Streams,
        device: torch.device,
        *,
        observes_share: bool = False,
    ) -> None:
        count, seeds = environments.count, len(streams)
        assert count == seeds * num_envs
        self._stepper = Stepper(environments, spec, seeds, device, observes_share=observes_share)
        self._streams = streams
        steps = min(spec.max_episode_steps, FIRST_HISTORY)
        self._history = self._stepper.idle_actions(count, steps)
        self._asked = np.zeros((count, steps), bool)
        self._numbers = np.full(count, -1, np.int64)
        self._everywhere = np.arange(count)
        self._places = self._everywhere % num_envs
        self._latest: Moment | None = None

    @property
    def guide_steps(self) -> NDArray[np.int64]:
        """h of the episodes under way, ``[S, E]``."""
        return self._stepper.guide_steps.reshape(self._stepper.shape)

    @property
    def explorer_share(self) -> Float[NDArray[np.float64], " S"]:
        """The explorer's share in what was done in the last step, for each seed; 1 before any."""
        if self._latest is None:
            return np.ones(self._stepper.shape[0])
        _, share = self.shares_of_last_step
        return share.reshape(self._stepper.shape).mean(1, dtype=np.float64)

    @property
    def shares_of_last_step(
        self,
    ) -> tuple[Int[NDArray[np.int64], " N"], Shaped[NDArray[Any], " N"]]:
        """Of each environment: how many steps of its episode were before, the explorer's share.

        Both arrays are the last step's own, and stay as they are.
        """
        assert self._latest is not None, "there is a last step once there was one"
        share = self._latest.share
        return self._latest.times, ~self._latest.by_guide if share is None else share

    @property
    def guide_alone(self) -> bool:
        """Whether h alone says who acts for now, whatever the rule is."""
        return self._stepper.guide_alone

    @guide_alone.setter
    def guide_alone(self, alone: bool) -> None:
        self._stepper.guide_alone = alone

    def follow(
        self,
        rule: Arbiter,
        critics: Critics | None = None,
        guide_values: GuideValues | None = None,
        *,
        foresees: bool = False,
    ) -> None:
        """Let a rule settle who acts; JSRL's handover does without one. Before the first step.

        Args:
            rule: the rule.
            critics: of the learner, where the rule needs values.
            guide_values: of the guide, where the rule needs them.
            foresees: whether moments say what the guide would do in the successors.
        """
        in_force = ArbiterInForce(rule, critics, guide_values=guide_values)
        self._stepper.follow(in_force, learns=True, foresees=foresees)

    def trust(self, episodes: Sequence[Float[Tensor, "_ O"]]) -> None:
        """Show the rule of who acts the dataset's episodes, if it begins with them."""
        if self._stepper.arbitration is not None:
            self._stepper.arbitration.trust(episodes)

    def arbiter_in_force(self) -> ArbiterInForce | None:
        """The rule with what it has learnt so far; None where the clock alone decides."""
        rule = self._stepper.arbitration
        return None if rule is None else rule.in_force()

    @property
    def non_finite(self) -> Bool[NDArray[np.bool_], " S"]:
        """The seeds whose policies ever gave an action that was not finite."""
        return self._stepper.non_finite

    def step(
        self, exploration: Policy, guide: Guide | None, curricula: Sequence[Curriculum]
    ) -> tuple[Moment, Step, list[Episode]]:
        """One step of every environment.

        Args:
            exploration: acts where the guide does not; asked at every step, so that its draws do
                not depend on what other seeds' guides do.
            guide: acts where the rule says so: with JSRL's handover in the first h steps of an
                episode, so that it is not called where h is 0.
            curricula: one for each seed.

        Returns:
            What was done and what came of it, as the exploration-policy observes both, and the
            episodes that ended.
        """
        stepper = self._stepper
        if stepper.some_ended:
            self._begin_episodes(guide, curricula)
        moment, step = stepper.step(exploration, guide, self._streams, explores=True)
        self._make_room(int(stepper.clock.max()))
        self._history[self._everywhere, moment.times] = moment.actions
        if stepper.remembers:
            self._asked[self._everywhere, moment.times] = stepper.asked
        stepper.tell_of_ends(guide)
        self._latest = moment
        return moment, step, self._finished() if stepper.some_ended else []

    def close(self) -> None:
        self._stepper.environments.close()

    def state_dict(self) -> dict[str, Any]:
        """Clocks, and the actions of every unfinished episode, from which it can be replayed."""
        stepper = self._stepper
        under_way = stepper.clock * ~stepper.ended
        times = np.arange(under_way.max(initial=0))
        # Actions of earlier episodes are left out: the same run has the same checkpoint.
        since_reset = times < under_way[:, None]
        history = self._history[:, : len(times)]
        wide = since_reset.reshape(*since_reset.shape, *[1] * (history.ndim - 2))
        return {
            "observations": stepper.observation.vector.clone(),
            "images": {name: image.clone() for name, image in stepper.observation.images.items()},
            "history": torch.from_numpy(np.where(wide, history, history.dtype.type(0))),
            "started": torch.from_numpy(~stepper.ended),
            "episode": torch.from_numpy(self._numbers.copy()),
            "clock": torch.from_numpy(stepper.clock.copy()),
            "guide_steps": torch.from_numpy(stepper.guide_steps.copy()),
            "stage": torch.from_numpy(stepper.stages.copy()),
            "return": torch.from_numpy(stepper.returns.copy()),
            "success": torch.from_numpy(stepper.successes.copy()),
            "non_finite": torch.from_numpy(stepper.non_finite.copy()),
            "streams": self._streams.state_dict(),
            **self._state_of_rule(len(times), since_reset),
        }

    def load_state_dict(self, state: dict[str, Any], guide: Guide | None) -> list[int]:
        """Continue where ``state_dict`` was taken, by replaying each unfinished episode.

        Returns:
            The environments that did not replay; new episodes begin there.
        """
        stepper = self._stepper
        # Those of earlier versions have no images.
        images = {name: image.clone() for name, image in state.get("images", {}).items()}
        stepper.observation = Observation(state["observations"].clone(), images)
        self._make_room(state["history"].shape[1])
        self._history[:, : state["history"].shape[1]] = state["history"].numpy()
        self._numbers = state["episode"].numpy().copy()
        stepper.episodes = self._episodes()
        stepper.clock = state["clock"].numpy().copy()
        stepper.guide_steps = state["guide_steps"].numpy().copy()
        stepper.stages = state["stage"].numpy().copy()
        stepper.returns = state["return"].numpy().copy()
        # In checkpoints of earlier versions NaN until a step says so.
        so_far = stepper.environments.success_so_far
        stepper.successes = np.fmax(state["success"].numpy(), so_far)
        stepper.non_finite = state["non_finite"].numpy().copy()
        started = state["started"].numpy().copy()
        seeds = self._reset_seeds(self._numbers >= 0)
        asked = self._load_rule(state)
        strayed = replay(stepper, started, seeds, self._history, guide, asked)
        stepper.meet(guide)
        stepper.ended = ~started | strayed
        # Of an episode that strayed there is no end to learn from.
        stepper.finished = ~started & (self._numbers >= 0)
        stepper.some_ended = bool(stepper.ended.any())
        if guide is not None:
            self._load_foresight(state, guide)
        self._streams.load_state_dict(state["streams"])
        return [int(i) for i in np.flatnonzero(strayed)]

    def _state_of_rule(
        self, steps: int, since_reset: Bool[NDArray[np.bool_], "N T"]
    ) -> dict[str, Any]:
        """What the rule remembers, and where a guide with memory was asked; nothing for a clock."""
        rule = self._stepper.arbitration
        if rule is None:
            return {}
        asked = torch.from_numpy(self._asked[:, :steps] & since_reset)
        found = {"arbiter": rule.state_dict(), "asked": asked}
        foresight = self._stepper.foresight
        return found if foresight is None else found | {"foresight": foresight.state_dict()}

    def _load_foresight(self, state: dict[str, Any], guide: Guide) -> None:
        """Restore what the guide has answered to what is observed now, and remind it of that."""
        stepper = self._stepper
        if stepper.foresight is None:
            return
        stepper.foresight.load_state_dict(state["foresight"])
        # Where an episode has strayed, another one begins.
        stepper.foresight.known &= ~stepper.by_seed(stepper.ended)
        if stepper.remembers and stepper.foresight.known.any():
            remind(guide, stepper.seen(), stepper.foresight.known)

    def _load_rule(self, state: dict[str, Any]) -> Bool[NDArray[np.bool_], "N T"] | None:
        """Where the guide was asked in the episodes under way; None if that follows from h."""
        rule = self._stepper.arbitration
        if rule is None:
            return None
        rule.load_state_dict(state["arbiter"])
        asked = state["asked"].numpy()
        self._asked[:, : asked.shape[1]] = asked
        return self._asked

    def _finished(self) -> list[Episode]:
        """The episodes that the last step ended."""
        stepper = self._stepper
        guided = stepper.guided_steps()
        return [
            Episode(
                seed_index=int(i) // stepper.shape[1],
                episode_return=float(stepper.returns[i]),
                success=None if np.isnan(stepper.successes[i]) else float(stepper.successes[i]),
                length=int(stepper.clock[i]),
                guide_steps=int(guided[i]),
                planned_steps=int(stepper.guide_steps[i]),
            )
            for i in np.flatnonzero(stepper.ended)
        ]

    def _make_room(self, steps: int) -> None:
        """Let the history hold so many steps: a time limit may be longer than any episode is."""
        count, room = self._history.shape[:2]
        if steps > room:
            added = self._stepper.idle_actions(count, max(steps, 2 * room) - room)
            self._history = np.concatenate([self._history, added], axis=1)
            nobody = np.zeros(added.shape[:2], bool)
            self._asked = np.concatenate([self._asked, nobody], axis=1)

    def _begin_episodes(self, guide: Guide | None, curricula: Sequence[Curriculum]) -> None:
        """Reset every environment without an episode; draw its guide steps."""
        stepper, mask = self._stepper, self._stepper.ended
        self._numbers[mask] += 1
        for index in np.flatnonzero(mask):
            seed, env = divmod(int(index), stepper.shape[1])
            streams = self._streams.select(seed).child("episode", env, int(self._numbers[index]))
            steps = 0 if guide is None else curricula[seed].guide_steps(streams)
            stepper.guide_steps[index] = steps
            stepper.stages[index] = curricula[seed].stage
        stepper.episodes = self._episodes()
        stepper.begin(mask, self._reset_seeds(mask), guide, self._streams)

    def _episodes(self) -> NDArray[np.int64]:
        """Numbers of the episodes, which are unique within a seed."""
        return self._numbers * self._stepper.shape[1] + self._places

    def _reset_seeds(self, mask: NDArray[np.bool_]) -> list[int]:
        """A reset seed that follows from (seed, environment, episode); 0 outside the mask."""
        seeds = [0] * len(mask)
        for index in np.flatnonzero(mask):
            seed, env = divmod(int(index), self._stepper.shape[1])
            streams = self._streams.select(seed)
            seeds[index] = streams.integer("reset", env, int(self._numbers[index]))[0]
        return seeds
