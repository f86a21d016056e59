"""The parts of one run, put together from its configuration, and their state."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jsrl.build import (
    build_curriculum,
    build_dataset,
    build_guide,
    build_learner,
    env_settings,
    guide_view,
    training_monitor_settings,
)
from jsrl.checkpoint import load_checkpoint, newest_checkpoint
from jsrl.checks import offline_fraction
from jsrl.collector import Collector
from jsrl.config import TrainConfig
from jsrl.curricula import curriculum_state, restore_curriculum
from jsrl.envs.make import Environments, describe_env
from jsrl.errors import UserError
from jsrl.evaluate import Evaluator
from jsrl.guides import NetworkGuide
from jsrl.monitor.training import TrainingMonitor
from jsrl.networks import GaussianPolicy
from jsrl.nondeterminism import Sources
from jsrl.online import OnlineRunner
from jsrl.replay import OfflineBuffer, OnlineBuffer, Replay, pack
from jsrl.seeding import Streams
from jsrl.types import Guide, Learner, Policy, TransitionLayout, resolve_device


class Parts:
    """Everything that acts, learns or remembers in a run of S seeds.

    Args:
        config: of the run.
        collected: where data are kept that the run collects itself.

    Raises:
        UserError: if a part cannot be made.
    """

    def __init__(self, config: TrainConfig, collected: Path) -> None:
        self.config = config
        self.device = self._usable_device()
        self.settings = env_settings(config.env)
        self.spec = describe_env(self.settings)
        self._check_time_limit()
        self._check_curriculum()
        self.layout = TransitionLayout(self.spec.observation_size, self.spec.action_size)
        self.sources = Sources(config.seeds, config.nondeterminism)
        # Of evaluations: their start states, and the guide steps of their episodes.
        self.streams = self.sources.streams("environment")
        # Before data are collected, which takes a while: a mistake here is told at once.
        self.guide: Guide | None = build_guide(
            config.guide, config.env, self.spec, config.seeds, self.device
        )
        self._guide_twin = self._copy_with_memory()
        self.dataset = build_dataset(config.dataset, config.env, self.spec, collected)
        self.offline = None
        if self.dataset is not None:
            rows = pack(self.dataset.data, self.layout, config.learner.data_action_clip)
            self.offline = OfflineBuffer(rows, self.device)
        self.guide_learner = self._learner("guide") if config.guide.kind == "offline" else None
        self.learner = self._learner("exploration")
        self.offline_streams = self.sources.streams("minibatch_order", "offline")
        self.offline_draws = self.sources.streams("learner", "offline")
        self.runner = self._runner()
        self.evaluator = Evaluator(
            Environments(self.settings, len(config.seeds) * config.evaluation.num_envs),
            self.spec,
            self.streams.child("evaluator"),
            self.device,
        )

    @property
    def guide_in_evaluation(self) -> Guide | None:
        """The guide, or of one with memory a copy: what the other remembers is the collector's."""
        return self._guide_twin or self.guide

    def make_monitor(self, folder: Path) -> TrainingMonitor | None:
        """The monitor of the exploration-policy, looking on from now on; None with monitor=off.

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
            (self.spec.observation_size, self.spec.action_size),
            getattr(self.learner, "twin_values", None),
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
        monitor.record_data(self.dataset.data.take(np.arange(end)), starts[episodes])

    def offline_replay(self) -> Replay:
        """Minibatches for pre-training: all of them offline."""
        size = self.config.learner.batch_size
        return Replay(self.layout, self.offline, None, size, None, self.device)

    def freeze_guide(self) -> None:
        """The pre-trained learner's policy becomes the guide, as it is now."""
        if self.guide_learner is not None:
            policy = self.guide_learner.policy()
            if isinstance(policy, GaussianPolicy):
                # The guide of a seed that failed stands still; the other seeds' guides act.
                for parameter in policy.parameters():
                    torch.nan_to_num_(parameter.data, 0.0, 0.0, 0.0)
            self.guide = NetworkGuide.from_policy(
                policy,
                guide_view(self.config.guide),
                self.spec,
                sample=self.config.guide.sample,
            )

    def start_exploration(self) -> None:
        """Cold: as drawn. Warm: the guide's networks. Naive: its actor, and a random critic."""
        start, seeds = self.config.start, self.config.seeds
        if start == "cold":
            return
        if self.guide_learner is not None:
            state, rows = self.guide_learner.state_dict(), list(range(len(seeds)))
        else:
            state, rows = self._other_learner()
        begin = getattr(self.learner, "start_from", None)
        if begin is None:
            raise UserError(
                f"start={start} needs a learner with start_from(state, rows, only_actor); "
                f"{type(self.learner).__name__} has none: use start=cold"
            )
        begin(state, rows, only_actor=start == "naive")

    def non_finite(self) -> list[bool]:
        """For each seed, whether its loss or its actions ever were not finite."""
        strayed = torch.from_numpy(self.runner.collector.non_finite)
        for learner in (self.learner, self.guide_learner):
            alive = getattr(learner, "alive", None)
            if alive is not None:
                strayed = strayed | ~alive.cpu()
        return [bool(value) for value in strayed]

    def policies(self, *, exploration_began: bool) -> dict[str, Any]:
        """What is needed to rebuild the policies without any configuration."""
        found: dict[str, Policy] = {}
        if exploration_began:
            found["exploration"] = self.learner.policy()
        if isinstance(self.guide, NetworkGuide):
            found["guide"] = self.guide.policy
        elif self.guide_learner is not None:
            found["guide"] = self.guide_learner.policy()
        return {
            name: {"description": policy.describe(), "state": policy.state_dict()}
            for name, policy in found.items()
            if isinstance(policy, GaussianPolicy)
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "seeds": list(self.config.seeds),
            "environment": {
                "id": self.spec.id,
                "observation_size": self.spec.observation_size,
                "action_size": self.spec.action_size,
                "layout": [list(part) for part in self.spec.layout],
                "action_low": list(self.spec.action_low),
                "action_high": list(self.spec.action_high),
            },
            "dataset": None if self.dataset is None else self.dataset.fingerprint,
            "guide": None if self.guide is None else self.guide.fingerprint,
            "guide_learner": None
            if self.guide_learner is None
            else self.guide_learner.state_dict(),
            "learner": self.learner.state_dict(),
            "offline_streams": self.offline_streams.state_dict(),
            "offline_draws": self.offline_draws.state_dict(),
            "runner": self.runner.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], *, guide_frozen: bool) -> list[int]:
        """Continue where ``state_dict`` was taken; the environments that did not replay.

        Raises:
            UserError: if dataset or guide are no longer what they were.
        """
        self._require_same("dataset", state["dataset"], self.dataset)
        if self.guide_learner is not None:
            self.guide_learner.load_state_dict(state["guide_learner"])
            if guide_frozen:
                self.freeze_guide()
        self._require_same("guide", state["guide"], self.guide)
        self.learner.load_state_dict(state["learner"])
        self.offline_streams.load_state_dict(state["offline_streams"])
        # Checkpoints of earlier versions keep both in one.
        draws = state.get("offline_draws", state["offline_streams"])
        self.offline_draws.load_state_dict(draws)
        return self.runner.load_state_dict(state["runner"], self.guide)

    def close(self) -> None:
        """Close all environments."""
        self.runner.collector.close()
        self.evaluator.close()

    def _learner(self, name: str) -> Learner:
        return build_learner(
            self.config.learner,
            self.config.activation,
            self.sources.streams("initialisation", name),
            self.spec,
            self.dataset,
            self.device,
        )

    def _runner(self) -> OnlineRunner:
        config, seeds = self.config, len(self.config.seeds)
        capacity = max(1, min(config.online.buffer_size, self._steps_to_store()))
        buffer = OnlineBuffer(seeds, capacity, self.layout, self.device)
        fraction = offline_fraction(config.online.offline_fraction)
        offline = None if fraction == 0 else self.offline
        size = config.learner.batch_size
        return OnlineRunner(
            Collector(
                Environments(self.settings, seeds * config.env.num_envs),
                self.spec,
                config.env.num_envs,
                self.sources.streams("environment", "collector"),
                self.device,
            ),
            buffer,
            Replay(self.layout, offline, buffer, size, fraction, self.device),
            self.learner,
            self.sources.streams("minibatch_order", "online"),
            self.sources.streams("learner", "online"),
            config.env.num_envs,
            config.online.updates_per_step,
            config.online.learning_starts,
        )

    def _steps_to_store(self) -> int:
        """Transitions of a seed in all: no use in room for more, up to one step's surplus."""
        online = self.config.online
        return online.steps + online.critic_warmup_steps + 2 * self.config.env.num_envs

    def _copy_with_memory(self) -> Guide | None:
        if not getattr(self.guide, "stateful", False):
            return None
        try:
            return copy.deepcopy(self.guide)
        # What a user's own object may raise here is anything.
        except Exception as error:
            raise UserError(
                f"guide.target={self.config.guide.target!r} has a memory, so evaluation needs a "
                f"copy of its own, but it cannot be copied by copy.deepcopy: {error}"
            ) from error

    def _other_learner(self) -> tuple[dict[str, Any], list[int]]:
        """The learner's state in the run that the guide comes from, and the rows of our seeds."""
        guide = self.config.guide
        assert guide.path is not None
        state = load_checkpoint(newest_checkpoint(Path(guide.path)))
        rows = [
            state["seeds"].index(seed if guide.seed is None else guide.seed)
            for seed in self.config.seeds
        ]
        wanted = state["guide_learner"] if guide.which == "guide" else state["learner"]
        return wanted, rows

    def _check_time_limit(self) -> None:
        steps, limit = self.config.curriculum.initial_guide_steps, self.spec.max_episode_steps
        if steps is not None and not 0 <= steps <= limit:
            raise UserError(
                f"curriculum.initial_guide_steps={steps} must lie between 0 and the time limit "
                f"of {self.spec.id}, {limit} steps"
            )

    def _check_curriculum(self) -> None:
        """Make one and put it through a checkpoint, before it is needed."""
        config = self.config.curriculum
        curriculum = build_curriculum(config, self.spec.max_episode_steps, 0.0)
        try:
            restore_curriculum(curriculum, curriculum_state(curriculum))
        except TypeError as error:
            raise UserError(
                f"curriculum.target={config.target!r} must make a dataclass of plain values, which "
                f"a checkpoint can keep: {error}"
            ) from error

    def _usable_device(self) -> torch.device:
        try:
            device = resolve_device(self.config.device)
            torch.zeros(1, device=device)
        # PyTorch asserts that it was built for the device.
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f"device={self.config.device!r} cannot be used: {str(error).splitlines()[0]}; "
                "use device=cpu"
            ) from error
        return device

    def _require_same(self, name: str, fingerprint: str | None, part: Any) -> None:
        now = None if part is None else part.fingerprint
        if fingerprint != now:
            raise UserError(
                f"{name} has changed since the checkpoint was written (its hash was "
                f"{fingerprint}, is {now}); restore what it was, or choose another run_dir"
            )
