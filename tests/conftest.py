"""What every test runs under: one thread, and shapes checked at run time."""
# ruff: noqa: E402  the variable and the hook come before the imports that they are for

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import type_checker

# Shapes are the same on every processor: where only that differs they need no second check.
if not os.environ.get("JSRL_UNCHECKED_SHAPES"):
    type_checker.install()

import hypothesis
import torch

torch.set_num_threads(1)
# No time limit for an example, since the cores may be shared; the same examples in every run.
hypothesis.settings.register_profile(
    "jsrl", deadline=None, derandomize=True, database=None, max_examples=30
)
hypothesis.settings.load_profile("jsrl")

import fakes

fakes.register()


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes tens of seconds; deselect by -m 'not slow'")


def pytest_collection_finish():
    # What is there now stays to the end: the garbage collector need not look at it again and again.
    gc.freeze()
