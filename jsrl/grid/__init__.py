"""A grid of experiments: planned, run over processes, resumed, and reported."""
