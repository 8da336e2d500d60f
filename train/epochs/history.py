"""What every epoch came to, kept in `epochs.json`, so that a resumed run goes on judging by it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from app.errors import NotFoundError
from app.files import write_atomic
from train.epochs.job import BEFORE_TRAINING, ListenPlan, Sample, TextScore

HISTORY_FILE = "epochs.json"


class EpochRecord(msgspec.Struct, frozen=True):
    """One epoch; epoch 0 is the starting model. `sample` is None until it was listened to.

    Attributes:
        checkpoint: file name; empty for the starting model.
        seconds: of the steps, the evaluation and the saving together.
        texts: empty where nothing was scored.
        figures: the scores over all texts, by name.
    """

    epoch: int
    step: int
    checkpoint: str = ""
    train_losses: dict[str, float] = {}
    eval_losses: dict[str, float] = {}
    seconds: float = 0.0
    sample: Sample | None = None
    texts: tuple[TextScore, ...] = ()
    figures: dict[str, float] = {}


class History:
    """The records of a run, by epoch.

    Args:
        folder: the run's output folder.
        plan: what every epoch says; scores of another plan can't be compared and are dropped.
        is_new: True for a run from the start, which forgets an earlier one.
    """

    def __init__(self, folder: Path, plan: ListenPlan, *, is_new: bool) -> None:
        self._path = folder / HISTORY_FILE
        #: Of the folder with the run's curves; empty until it is given one.
        self.run_name = ""
        self._plan = plan
        self._records: dict[int, EpochRecord] = {}
        if not is_new:
            self._read()

    @property
    def base(self) -> EpochRecord | None:
        """The starting model's record."""
        return self._records.get(BEFORE_TRAINING)

    @property
    def epochs(self) -> tuple[EpochRecord, ...]:
        """The records of the epochs in order, without the starting model's."""
        return tuple(r for e, r in sorted(self._records.items()) if e != BEFORE_TRAINING)

    def find(self, epoch: int) -> EpochRecord | None:
        """Returns the record of an epoch, if there is one."""
        return self._records.get(epoch)

    def put(self, record: EpochRecord) -> None:
        """Adds or replaces a record, and writes all of them."""
        self._records[record.epoch] = record
        records = tuple(record for _, record in sorted(self._records.items()))
        content = _File(self.run_name, self._plan, records)
        write_atomic(self._path, msgspec.json.format(msgspec.json.encode(content), indent=1))

    def _read(self) -> None:
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except (OSError, msgspec.DecodeError):  # none yet, or of another version
            return
        self.run_name = content.run_name
        is_same = content.plan == self._plan
        for record in content.records:
            kept = record if is_same else msgspec.structs.replace(record, texts=(), figures={})
            self._records[record.epoch] = kept


class _File(msgspec.Struct, frozen=True):
    run_name: str
    plan: ListenPlan
    records: tuple[EpochRecord, ...]


def read_history(folder: Path) -> tuple[ListenPlan, tuple[EpochRecord, ...]]:
    """Returns what a run's epochs said, and came to.

    Raises:
        NotFoundError: there is no run in this folder, or its file is of another version.
    """
    try:
        content = msgspec.json.decode((folder / HISTORY_FILE).read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError) as error:
        raise NotFoundError(
            f"There is no training run in {folder} ({error}); run `python -m train fit`, or name "
            "the folder of one with --output.",
            param="TRAIN_OUTPUT_DIR",
        ) from error
    return content.plan, content.records
