"""``logger=plain``: ``metrics.jsonl`` alone."""

from jsrl.loggers.options import LoggerInputs, LoggerOptions, PartialLogger, loggers


@loggers.register("plain")
def make_plain_logger(options: LoggerOptions, inputs: LoggerInputs) -> PartialLogger:
    """A logger that adds nothing to ``metrics.jsonl``, which is cut back when a run resumes."""
    return PartialLogger()
