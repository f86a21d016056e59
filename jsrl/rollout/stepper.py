"""The one place that steps environments with a guide and an exploration-policy.

Collector, evaluator, collection of data sets and resuming are made of it. It holds the clocks: each
environment counts the steps of its episode. Who acts is settled by a rule, see
``jsrl.core.arbitration``; without another one the guide acts in the first h steps.

Shapes: S seeds, E environments of a seed, N = S·E, those of seed 0 first, A action size.
"""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.arbitration import (
    GUIDE,
    TAKEOVER,
    ArbiterInForce,
    Beginning,
    DecidesByClock,
    Decision,
    mixed,
)
from jsrl.core.foreign import has_memory
from jsrl.core.observations import Observation, zeros_of
from jsrl.core.observed_share import with_share
from jsrl.core.protocols import Guide, HearsOfEnds, Policy, StepObserver
from jsrl.core.specs import BoxActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.core.transitions import Moment
from jsrl.envs.make import Environments, Step
from jsrl.jumpstart.arbiters import Handover
from jsrl.rollout.arbitration import Arbitration
from jsrl.rollout.foresight import Foresight
from jsrl.rollout.guide_calls import GuideCalls


class Stepper:
    """N environments, the episodes that they are in, and who acts in them.

    Args:
        environments: N of them.
        spec: what they are.
        num_seeds: S.
        device: where the policies are.
        observes_share: whether the explorer observes its share, see ``jsrl.core.observed_share``.
    """

    def __init__(
        self,
        environments: Environments,
        spec: EnvSpec,
        num_seeds: int,
        device: torch.device,
        *,
        observes_share: bool = False,
    ) -> None:
        count = environments.count
        self.environments = environments
        self.spec = spec
        self.device = device
        self.shape = (num_seeds, count // num_seeds)
        self._observes_share = observes_share
        self.observer: StepObserver | None = None
        self.observation: Observation = zeros_of(spec.observation, count)
        self.episodes = np.full(count, -1, np.int64)
        """The number of each environment's episode; -1 where it only keeps others company."""
        self.clock = np.zeros(count, np.int64)
        self._nowhere = np.zeros(count, bool)
        self.guide_steps = np.zeros(count, np.int64)
        """h of each episode."""
        self.stages = np.full(count, -1, np.int64)
        self.returns = np.zeros(count, np.float64)
        self.successes = np.full(count, environments.success_so_far)
        self.some_ended = True
        self.ended = np.ones(count, bool)
        """Where there is no episode to go on with."""
        self.non_finite = np.zeros(num_seeds, bool)
        """The seeds of which an action ever was not finite."""
        self.finished = np.zeros(count, bool)
        """Where the episode before has come to its end, of those that are begun next."""
        self.arbitration: Arbitration | None = None
        """The rule of who acts; None where the clock alone says so."""
        self.guide_alone = False
        """Whether h alone counts for now, whatever the rule is."""
        self.remembers = False
        """Whether the guide has a memory, which a rule of who acts may lead anywhere."""
        self.asked: NDArray[np.bool_] = self._nowhere
        """Where the guide was asked in the last step, if it has a memory and a rule led it."""
        self._clock_rule: DecidesByClock = Handover()
        self._calls = GuideCalls(environments, self.shape)

    def follow(
        self, arbiter: ArbiterInForce | None, *, learns: bool, foresees: bool = False
    ) -> None:
        """Let a rule settle who acts in the episodes that begin from now on.

        Args:
            arbiter: the rule; None for JSRL's handover after h steps.
            learns: whether the rule hears how episodes ended.
            foresees: whether the guide is asked after every step what it would do next.
        """
        rule = Handover() if arbiter is None else arbiter.rule
        self.arbitration = None
        actions = self.spec.actions
        self._calls.foresight = Foresight(actions, self.shape, self.device) if foresees else None
        if isinstance(rule, DecidesByClock) and not foresees:
            self._clock_rule = rule
        elif arbiter is not None:
            self.arbitration = Arbitration(arbiter, self.shape, learns=learns)

    def begin(
        self,
        mask: Bool[NDArray[np.bool_], " N"],
        seeds: list[int],
        guide: Guide | None,
        streams: Streams | None = None,
    ) -> None:
        """Begin episodes where ``mask``; their numbers and h are set before.

        Args:
            mask: which environments.
            seeds: of the resets, N; those outside of the mask are not looked at.
            guide: told that episodes begin.
            streams: of S seeds, for a rule that draws; None where the clock decides.
        """
        if self.arbitration is not None and streams is not None:
            self._begin_rule(self.arbitration, mask, streams)
        self.clock = np.where(mask, 0, self.clock)
        self.returns[mask] = 0
        self.successes[mask] = self.environments.success_so_far
        self.observation = self.environments.reset(mask, seeds)
        self.ended = self.ended & ~mask
        self.some_ended = bool(self.ended.any())
        if guide is not None:
            self.begin_guide(guide, mask, seeds)
        self.meet(guide)

    def begin_guide(
        self, guide: Guide, mask: Bool[NDArray[np.bool_], " N"], seeds: list[int]
    ) -> None:
        """Tell a guide that episodes begin where ``mask``, with these seeds of their resets."""
        self._calls.begin(guide, mask, self.episodes, seeds)

    def meet(self, guide: Guide | None) -> None:
        """Note what this guide needs and says in the episodes under way."""
        self._calls.meet(guide)
        self.remembers = self.arbitration is not None and has_memory(guide)

    def tell_of_ends(self, guide: Guide | None) -> None:
        """Tell a guide that wants to know how the episodes have ended that it acted in."""
        if self.some_ended and isinstance(guide, HearsOfEnds):
            rule = self.arbitration
            led = self.guide_steps > 0 if rule is None else rule.guided > 0
            began = self.ended & led & (self.episodes >= 0)
            self._calls.ended(guide, began, self.returns, self.successes)

    @property
    def foresight(self) -> Foresight | None:
        """What the guide would do in what is observed now; None where it is not asked before."""
        return self._calls.foresight

    def guide_acts(self) -> Bool[NDArray[np.bool_], " N"]:
        """Where the guide acts in the step to come, by the clock."""
        return (self.episodes >= 0) & self.acts_by_clock(self.clock)

    def acts_by_clock(self, times: Int[NDArray[np.int64], " N"]) -> Bool[NDArray[np.bool_], " N"]:
        """Where the guide acts that many steps after the beginning, by the clock."""
        return self._clock_rule.guide_acts(times, self.guide_steps)

    def guided_steps(self) -> Int[NDArray[np.int64], " N"]:
        """In how many steps of each episode so far the guide took part."""
        if self.arbitration is not None:
            return self.arbitration.guided
        return np.minimum(self.guide_steps, self.clock)

    def step(
        self, explorer: Policy | None, guide: Guide | None, streams: Streams, *, explores: bool
    ) -> tuple[Moment, Step]:
        """One step of every environment.

        Args:
            explorer: acts where the guide does not; None where the guide acts throughout.
            guide: acts where the rule says so; not called where it acts nowhere, unless the rule
                compares.
            streams: the guide's draws come from them, and the explorer's if it explores.
            explores: whether the explorer samples. It is asked at every step then, so that its
                draws do not depend on what other seeds' guides do. Otherwise it acts by its mode,
                and is asked only where a row needs it.

        Returns:
            What was done, valid until episodes begin, and what came of it, both as the explorer
            observes it. Rows whose actions were not finite stood still.
        """
        rule, share = self.arbitration, None
        watched = None if self.observer is None else self.observer.begin_step()
        observation = self._as_explorer_sees(self.observation, explorer, guide)
        if rule is None or guide is None or explorer is None or self.guide_alone:
            by_guide = self._nowhere if guide is None else self.guide_acts()
            with watched or nullcontext():
                actions = self._act(explorer, guide, streams, by_guide, explores, observation)
            self.asked = by_guide if self.foresight is None else self.episodes >= 0
            if rule is not None:
                rule.took_part(by_guide)
                rule.left_out()
        else:
            seen = self._where_policies_are(observation)
            with watched or nullcontext():
                own = explorer.act(seen, streams if explores else None)
            actions, share = self._arbitrated(rule, own, guide, streams, explores, seen)
            by_guide = share == 0
        members = self._calls.members
        moment = Moment(
            observation,
            actions,
            self.episodes,
            self.clock,
            by_guide,
            self.stages,
            self.episodes >= 0,
            None if members is None else np.where(by_guide, members, -1),
            share,
        )
        if watched is not None and self.observer is not None:
            # Episodes and stages are changed in place when the next ones begin.
            episodes, stages = self.episodes.copy(), self.stages.copy()
            self.observer.acted(replace(moment, episodes=episodes, stages=stages))
        step = self.take(actions)
        if guide is not None:
            moment.next_guide = self._foresee(guide, streams, step)
        if self._observes_share:
            step = replace(
                step, observation=self._as_explorer_sees(step.observation, explorer, guide)
            )
        return moment, step

    def take(self, actions: Shaped[NDArray[Any], "N *A"]) -> Step:
        """Step every environment with actions that are known, and move the clocks on."""
        step = self.environments.step(actions)
        self.observation = step.observation
        # A new array, since the moment before holds this one.
        self.clock = self.clock + 1
        self.returns += step.rewards
        self.successes = np.fmax(self.successes, step.successes)
        self.ended = step.terminated | step.truncated
        self.finished = self.ended
        self.some_ended = bool(self.ended.any())
        return step

    def idle_actions(self, *leading: int) -> NDArray[Any]:
        """Actions of environments in which nobody acts: zeros, or the first choice."""
        actions = self.spec.actions
        kind = np.float32 if isinstance(actions, BoxActions) else np.int64
        return np.zeros((*leading, *actions.chosen_shape), kind)

    def by_seed(self, values: Shaped[NDArray[Any], " N"]) -> Shaped[Tensor, "S E"]:
        """A mask or a number of each environment, ``[S, E]``."""
        return torch.from_numpy(values).view(*self.shape)

    def seen(self) -> Observation:
        """What the environments observe now, ``[S, E]``, where the policies are."""
        return self._where_policies_are(self.observation)

    def _where_policies_are(self, observation: Observation) -> Observation:
        """An observation of N environments, ``[S, E]``, where the policies are."""
        return observation.arranged(*self.shape).to(self.device)

    def _as_explorer_sees(
        self, observation: Observation, explorer: Policy | None, guide: Guide | None
    ) -> Observation:
        """What is observed now, with the explorer's share in the step to come if it observes it."""
        if not self._observes_share:
            return observation
        rule, counts = self.arbitration, self.by_seed(self.episodes >= 0)
        if rule is None or guide is None or explorer is None or self.guide_alone:
            by_guide = self._nowhere if guide is None else self.guide_acts()
            share = (~self.by_seed(by_guide)).float()
        else:
            share = rule.share_to_come(self.by_seed(self.clock), counts)
        return with_share(observation, share.reshape(-1))

    def _act(
        self,
        explorer: Policy | None,
        guide: Guide | None,
        streams: Streams,
        by_guide: Bool[NDArray[np.bool_], " N"],
        explores: bool,
        observation: Observation,
    ) -> Shaped[NDArray[Any], "N *A"]:
        chosen = None
        explorer_is_needed = explores or bool(((self.episodes >= 0) & ~by_guide).any())
        if explorer is not None and explorer_is_needed:
            seen = self._where_policies_are(observation)
            chosen = explorer.act(seen, streams if explores else None)
        asked = by_guide if self.foresight is None else self.episodes >= 0
        if guide is not None and asked.any():
            mask = self.by_seed(by_guide)
            guided = self._calls.act(guide, self.seen(), streams, self.by_seed(asked))
            if chosen is None:
                chosen = guided
            else:
                mask = mask.to(chosen.device)
                wide = mask if chosen.dim() == mask.dim() else mask.unsqueeze(-1)
                chosen = torch.where(wide, guided, chosen)
        if chosen is None:
            return self.idle_actions(len(by_guide))
        actions: NDArray[Any] = chosen.cpu().numpy().reshape(len(by_guide), *chosen.shape[2:])
        return self._standing_still(actions)

    def _arbitrated(
        self,
        rule: Arbitration,
        own: Shaped[Tensor, "S E *A"],
        guide: Guide,
        streams: Streams,
        explores: bool,
        by_explorer: Observation,
    ) -> tuple[Shaped[NDArray[Any], "N *A"], Float[NDArray[np.float32], " N"]]:
        """What is done as the rule says, and the explorer's share in it.

        The explorer has seen ``by_explorer``, and done ``own``.
        """
        seen, counts = self.seen(), self.by_seed(self.episodes >= 0)
        asks = explores and TAKEOVER in rule.rule.needs
        takeover = self._calls.takeover(guide, self.by_seed(rule.acting)) if asks else None
        compares = GUIDE in rule.rule.needs or self.foresight is not None
        compares = compares and bool(counts.any())
        guided = self._calls.act(guide, seen, streams, counts) if compares else None
        moment = Decision(
            observation=by_explorer,
            times=self.by_seed(self.clock),
            guide_steps=self.by_seed(self.guide_steps),
            counts=counts,
            step=rule.step,
            explores=explores,
            guide=guided,
            explorer=own,
            critics=rule.critics,
            guide_values=rule.guide_values,
            takeover=takeover,
        )
        share = rule.decide(moment, streams)
        mask = share < 1
        if guided is None and mask.any():
            guided = self._calls.act(guide, seen, streams, mask, shown=takeover is not None)
        rule.took_part(mask.numpy().reshape(-1))
        if rule.learns:
            rule.step += self.shape[1]
        self.asked = (counts if compares else mask).numpy().reshape(-1)
        done = own if guided is None else mixed(own, guided, share)
        actions: NDArray[Any] = done.cpu().numpy().reshape(len(self.asked), *done.shape[2:])
        return self._standing_still(actions), share.numpy().reshape(-1)

    def _foresee(self, guide: Guide, streams: Streams, step: Step) -> NDArray[Any] | None:
        """What the guide would do in what the step has led to, unless that is the task's end."""
        if self.foresight is None:
            return None
        mask = self.by_seed((self.episodes >= 0) & ~step.terminated)
        goes_on = self.by_seed(~self.ended)
        return self._calls.look_ahead(self.foresight, guide, self.seen(), streams, mask, goes_on)

    def _begin_rule(
        self, rule: Arbitration, mask: Bool[NDArray[np.bool_], " N"], streams: Streams
    ) -> None:
        """Tell the rule which episodes begin, before what is known of those before is lost.

        Of an episode in which it was not asked at every step it learns nothing.
        """
        settled = self.finished & (rule.unasked == 0)
        finished = mask & settled if rule.learns else self._nowhere
        ends = (finished, self.returns, self.successes, self.clock)
        rule.begin(Beginning(*map(self.by_seed, (mask, self.guide_steps, *ends))), streams)

    def _standing_still(self, actions: Shaped[NDArray[Any], "N *A"]) -> NDArray[Any]:
        """The actions, but zeros in rows that are not finite, as those of a seed that failed."""
        if actions.dtype.kind == "i" or np.isfinite(actions).all():
            return actions
        broken = np.logical_not(np.isfinite(actions).all(-1))
        self.non_finite |= broken.reshape(self.shape).any(-1)
        return np.where(broken[:, None], np.float32(0), actions)


class Watched:
    """What steps environments by a stepper of its own, and may be watched."""

    _stepper: Stepper

    @property
    def observer(self) -> StepObserver | None:
        """What watches the policies act."""
        return self._stepper.observer

    @observer.setter
    def observer(self, observer: StepObserver | None) -> None:
        self._stepper.observer = observer
