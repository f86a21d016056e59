"""Jump-Start Reinforcement Learning."""

__version__ = "0.1.0"
