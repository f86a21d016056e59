"""Learning algorithms, one a file, each behind ``types.Learner``."""
