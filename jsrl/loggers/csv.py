"""``logger=csv``: a table of all numbers, for spreadsheets and data frames."""

from jsrl.core.files import csv_text, write_whole
from jsrl.loggers.appended import AppendedFile, cannot_be_logged
from jsrl.loggers.jsonl import records_of
from jsrl.loggers.metrics import Record, Values, read_records
from jsrl.loggers.options import LoggerInputs, LoggerOptions, PartialLogger, loggers


class CsvLogger(PartialLogger):
    """Writes ``metrics.csv``: one number a line, under the header ``step,phase,seed,name,value``.

    The cell of the seed is empty for what belongs to no seed, and that of the value where it was
    NaN or infinite. Of a resumed run the table is written anew from ``metrics.jsonl``, which was
    cut back to the checkpoint: nothing appears twice, and what was recorded before this logger was
    chosen is there too.

    Args:
        inputs: see ``LoggerInputs``.

    Raises:
        UserError: if the file cannot be written, here or in any method.
    """

    def __init__(self, inputs: LoggerInputs) -> None:
        path = inputs.directory / "metrics.csv"
        resumed = inputs.resume_from is not None
        earlier = read_records(inputs.directory / "metrics.jsonl") if resumed else []
        self._seeds = tuple(inputs.seeds)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, csv_text([Record._fields, *earlier]).encode())
        except OSError as error:
            raise cannot_be_logged(path, error) from error
        self._file = AppendedFile(path)

    def log(self, step: int, phase: str, values: Values) -> None:
        """Write one line for each seed of a sequence ``[S]``, and one for a plain number."""
        self._file.append(
            csv_text(
                record
                for name, value in values.items()
                for record in records_of(step, phase, name, value, self._seeds)
            )
        )

    def flush(self) -> None:
        """Put everything on the disk."""
        self._file.offset()

    def close(self, finished: bool = False) -> None:
        """Close the file."""
        self._file.close()


@loggers.register("csv")
def make_csv_logger(options: LoggerOptions, inputs: LoggerInputs) -> CsvLogger:
    """The logger of a run."""
    return CsvLogger(inputs)
