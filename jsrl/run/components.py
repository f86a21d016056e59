"""The components of one run, put together from its configuration, and their state."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from jsrl.core.arbitration import DATA, TAKEOVER, HasTarget, observes_share
from jsrl.core.errors import UserError
from jsrl.core.foreign import has_memory
from jsrl.core.nondeterminism import Sources
from jsrl.core.observed_share import data_with_share, spec_with_share
from jsrl.core.protocols import (
    BootstrapsFromActions,
    FreezesSeeds,
    Guide,
    HasTwinValues,
    HearsOfEnds,
    Learner,
    Policy,
    StartsFromState,
    TakesOver,
)
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, describe_env, make_env
from jsrl.guides import NetworkGuide
from jsrl.guides.network import OfflineOptions
from jsrl.jumpstart.arbiters import build_arbiter
from jsrl.learners import learners
from jsrl.monitor.watch.training import TrainingMonitor
from jsrl.networks.deployment import spec_values
from jsrl.rollout.critics import LearnerCritics
from jsrl.rollout.evaluator import Evaluator
from jsrl.rollout.foresight import in_successors
from jsrl.rollout.offline_store import OfflineStore
from jsrl.rollout.replay import Replay
from jsrl.run.arbiter_checks import check_targets, learns_from_data, refuse_without_values
from jsrl.run.build import (
    build_dataset,
    build_guide,
    build_learner,
    env_settings,
    guide_environment,
    training_monitor_settings,
)
from jsrl.run.component_checks import (
    check_curriculum,
    check_start,
    check_time_limit,
    check_trust,
    require_same,
    usable_device,
)
from jsrl.run.guide_values import guide_values
from jsrl.run.kept_policies import kept, unsaved
from jsrl.run.runners import RunnerParts, make_runner
from jsrl.run.starting_networks import check_observed_share, networks_of_guides_run
from jsrl.run.stores import offline_store
from jsrl.settings.schema import TrainConfig


class Components:
    """Everything that acts, learns or remembers in a run of S seeds.

    Args:
        config: the configuration of the run.
        collected: the file for data that the run collects itself.

    Raises:
        UserError: if a component cannot be made.
    """

    def __init__(self, config: TrainConfig, collected: Path) -> None:
        self.config = config
        # Before anything takes time: a file that is not there is told at once.
        config.dataset.check_source()
        self.device = usable_device(config.device)
        self.settings = guide_environment(config.guide, env_settings(config.env))
        self.spec = describe_env(self.settings)
        check_time_limit(config.curriculum, self.spec)
        check_curriculum(config.curriculum, self.spec)
        self.arbiter = build_arbiter(config.arbiter)
        self.observes_share = observes_share(self.arbiter)
        self.explorer_spec = spec_with_share(self.spec) if self.observes_share else self.spec
        config.arbiter.check_environment(self.spec)
        config.learner.check_environment(self.spec)
        self.sources = Sources(config.seeds, config.nondeterminism)
        # Of evaluations: their start states, and the guide steps of their episodes.
        self.streams = self.sources.streams("environment")
        # Before data are collected, which takes a while: a mistake here is told at once.
        self.guide: Guide | None = build_guide(
            config.guide, config.env, self.spec, config.seeds, self.device
        )
        check_start(config.start, config.guide, self.spec)
        check_observed_share(config, self.observes_share)
        if TAKEOVER in self.arbiter.needs and isinstance(self.guide, TakesOver):
            self.guide.listen(config.arbiter.signals())
        check_targets(config, self.arbiter, learners[config.learner.kind].make, self.guide)
        self._guide_twin = self._copy_with_memory()
        self.dataset = build_dataset(config.dataset, config.env, self.spec, collected)
        check_trust(self.arbiter, self.dataset)
        self.guide_learner = (
            self._learner("guide", self.spec) if isinstance(config.guide, OfflineOptions) else None
        )
        self.learner = self._learner("exploration", self.explorer_spec)
        refuse_without_values(self.arbiter, config.arbiter, config.learner, type(self.learner))
        self.foresees = check_targets(config, self.arbiter, type(self.learner), self.guide)
        rule, learner = self.arbiter, self.learner
        if self.foresees and isinstance(rule, HasTarget):
            assert isinstance(learner, BootstrapsFromActions), "check_targets has seen to it"
            learner.bootstrap_by(rule, LearnerCritics(learner))
        self.offline = self._offline_store(self.explorer_spec)
        self.offline_streams = self.sources.streams("minibatch_order", "offline")
        self.offline_draws = self.sources.streams("learner", "offline")
        # Asked for rewards under other goals only, and never stepped.
        self._goals_env = None if config.replay.relabel is None else make_env(self.settings)
        self.runner = make_runner(
            RunnerParts(
                config,
                self.settings,
                self.spec,
                self.explorer_spec,
                self.sources,
                self.learner,
                self.offline,
                self.foresees,
                self._goals_env,
                self.device,
            )
        )
        own_values = guide_values(
            *(config, self.arbiter.needs, self.guide_learner, self.learner),
            *(self.spec, self.device),
        )
        self.runner.collector.follow(
            self.arbiter, LearnerCritics(self.learner), own_values, foresees=self.foresees
        )
        self.evaluator = Evaluator(
            Environments(self.settings, len(config.seeds) * config.evaluation.num_envs),
            self.spec,
            self.streams.child("evaluator"),
            self.device,
            observes_share=self.observes_share,
        )

    @property
    def guide_in_evaluation(self) -> Guide | None:
        """The guide for evaluations: a copy where it has a memory, which is the collector's."""
        return self._guide_twin or self.guide

    def make_monitor(self, folder: Path) -> TrainingMonitor | None:
        """Make the monitor that watches the exploration-policy from now on; None with monitor=off.

        Raises:
            UserError: if the policy has no such layers, or the folder cannot be written.
        """
        if not self.config.monitor.enabled:
            return None
        monitor = TrainingMonitor(
            training_monitor_settings(self.config.monitor),
            self.learner.policy(),
            self.config.seeds,
            (self.config.env.num_envs, self.config.evaluation.num_envs),
            Streams(self.config.seeds, ("monitor",)),
            folder,
            self.explorer_spec,
            self.learner.twin_values if isinstance(self.learner, HasTwinValues) else None,
        )
        self.runner.collector.observer = monitor.online
        self.evaluator.observer = monitor.evaluation
        return monitor

    def record_data(self, monitor: TrainingMonitor) -> None:
        """Show the monitor the first episodes of the dataset, if there is one."""
        if self.dataset is None:
            return
        starts = self.dataset.episode_starts
        shown = min(self.config.monitor.reference, len(starts))
        end = int(starts[shown]) if shown < len(starts) else len(self.dataset)
        episodes = np.searchsorted(starts, np.arange(end), side="right") - 1
        data = self.dataset.data.take(np.arange(end))
        seen = data_with_share(data) if self.observes_share else data
        monitor.record_data(seen, starts[episodes])

    def trust_data(self) -> None:
        """Show the rule of who acts the episodes of the dataset, if it begins with them."""
        if self.dataset is None or DATA not in self.arbiter.needs:
            return
        self.runner.collector.trust(self.dataset.observed_episodes())

    def offline_replay(self) -> Replay:
        """Make the replay of pre-training, whose minibatches are all offline."""
        size = self.config.learner.batch_size
        # The guide does not observe the explorer's share.
        store = self._offline_store(self.spec) if self.observes_share else self.offline
        return Replay(store, None, size, None, self.device)

    def freeze_guide(self) -> None:
        """The pre-trained learner's policy becomes the guide, as it is now."""
        options = self.config.guide
        if self.guide_learner is not None and isinstance(options, OfflineOptions):
            policy = self.guide_learner.policy()
            if isinstance(policy, nn.Module):
                # The guide of a seed that failed stands still; the other seeds' guides act.
                for parameter in policy.parameters():
                    torch.nan_to_num_(parameter.data, 0.0, 0.0, 0.0)
            self.guide = NetworkGuide.from_policy(
                policy,
                options.view(),
                self.spec,
                sample=options.sample,
            )

    def foresee_data(self) -> None:
        """Ask the guide what it would do in the data's successors, if targets are to go by that.

        It is the same on resuming, since a guide that draws draws from streams of its own here.
        """
        learns = learns_from_data(self.config) and self.foresees
        if self.dataset is None or self.offline is None or self.guide is None or not learns:
            return
        streams = self.sources.streams("environment", "guide in the data")
        self.offline.keep_guide_actions(
            in_successors(self.guide, self.dataset.data, self.spec, streams, self.device)
        )

    def start_exploration(self) -> None:
        """Give the learner the networks that ``start`` names.

        They are those that were drawn (cold), the guide's (warm), or the guide's actor beside a
        random critic (naive).
        """
        start, seeds = self.config.start, self.config.seeds
        if start == "cold":
            return
        if self.guide_learner is not None:
            state, rows = self.guide_learner.state_dict(), list(range(len(seeds)))
        else:
            state, rows = networks_of_guides_run(self.config, self.learner.policy())
        if not isinstance(self.learner, StartsFromState):
            raise UserError(
                f"start={start} needs a learner with start_from(state, rows, only_actor); "
                f"{type(self.learner).__name__} has none: use start=cold"
            )
        self.learner.start_from(state, rows, only_actor=start == "naive")

    def non_finite(self) -> list[bool]:
        """Say for each seed whether its loss or its actions ever were not finite."""
        strayed = torch.from_numpy(self.runner.collector.non_finite)
        for learner in (self.learner, self.guide_learner):
            if isinstance(learner, FreezesSeeds):
                strayed = strayed | ~learner.alive.cpu()
        return [bool(value) for value in strayed]

    def policies(self, *, exploration_began: bool) -> dict[str, Any]:
        """Describe the policies, with their weights, so that they need no configuration."""
        networks = self._networks()
        if not exploration_began:
            del networks["exploration"]
        return kept(networks, observes_share=self.observes_share)

    def unsaved_policies(self) -> dict[str, str]:
        """Give the reasons why policies cannot be kept by a checkpoint, by the policies' names."""
        return unsaved(self._networks(), observes_share=self.observes_share)

    def state_dict(self) -> dict[str, Any]:
        return {
            "seeds": list(self.config.seeds),
            "environment": spec_values(self.spec),
            "unsaved_policies": self.unsaved_policies(),
            "dataset": None if self.dataset is None else self.dataset.fingerprint,
            "guide": None if self.guide is None else self.guide.fingerprint,
            "guide_state": self.guide.state_dict() if isinstance(self.guide, HearsOfEnds) else None,
            "guide_learner": None
            if self.guide_learner is None
            else self.guide_learner.state_dict(),
            "learner": self.learner.state_dict(),
            "offline_streams": self.offline_streams.state_dict(),
            "offline_draws": self.offline_draws.state_dict(),
            "runner": self.runner.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], *, guide_frozen: bool) -> list[int]:
        """Continue where ``state_dict`` was taken.

        Returns:
            The environments that did not replay their unfinished episodes.

        Raises:
            UserError: if the dataset or the guide is no longer what it was.
        """
        require_same("dataset", state["dataset"], self.dataset)
        if self.guide_learner is not None:
            self.guide_learner.load_state_dict(state["guide_learner"])
            if guide_frozen:
                self.freeze_guide()
        require_same("guide", state["guide"], self.guide)
        if isinstance(self.guide, HearsOfEnds):
            self.guide.load_state_dict(state["guide_state"])
        if guide_frozen:
            self.foresee_data()
        self.learner.load_state_dict(state["learner"])
        self.offline_streams.load_state_dict(state["offline_streams"])
        # Checkpoints of earlier versions keep both in one.
        draws = state.get("offline_draws", state["offline_streams"])
        self.offline_draws.load_state_dict(draws)
        return self.runner.load_state_dict(state["runner"], self.guide)

    def close(self) -> None:
        """Close all environments."""
        if self._goals_env is not None:
            self._goals_env.close()
        self.runner.collector.close()
        self.evaluator.close()

    def _networks(self) -> dict[str, Policy]:
        """Find the policies that are learnt here, or come from another run, by their names."""
        found = {"exploration": self.learner.policy()}
        if isinstance(self.guide, NetworkGuide):
            found["guide"] = self.guide.policy
        elif self.guide_learner is not None:
            found["guide"] = self.guide_learner.policy()
        return found

    def _learner(self, name: str, spec: EnvSpec) -> Learner:
        return build_learner(
            self.config.learner,
            self.config.activation,
            self.sources.streams("initialisation", name),
            spec,
            self.dataset,
            self.device,
        )

    def _offline_store(self, spec: EnvSpec) -> OfflineStore | None:
        """The offline transitions, for a learner that observes what ``spec`` says."""
        needs = self.learner.needs
        return offline_store(self.config, spec, self.dataset, needs, self.device)

    def _copy_with_memory(self) -> Guide | None:
        if not has_memory(self.guide):
            return None
        try:
            return copy.deepcopy(self.guide)
        # What a user's own object may raise here is anything.
        except Exception as error:
            raise UserError(
                f"guide={self.config.guide.kind} has a memory, so evaluation needs a "
                f"copy of its own, but it cannot be copied by copy.deepcopy: {error}"
            ) from error
