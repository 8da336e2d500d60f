"""The child process in which a checkpoint speaks on the CPU, beside the training.

`python -m train.epochs.child JOB RESULT`: reads the job, writes the result, and tells on stdout
that it is alive. Whatever becomes of it costs one epoch's sample and scores.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from app.errors import AudioVoiceError
from app.files import write_atomic
from app.isolation import die_with_parent

#: Training goes first wherever both want the same processor.
NICENESS = 10
#: Of the child: the error is written in the result's place.
EXIT_REFUSED = 3


def main() -> int:
    """Runs one job."""
    die_with_parent()
    with suppress(OSError):
        os.nice(NICENESS)
    _tell("importing")
    # Imported here, so that the parent's deadline sees the import of torch as what it is.
    import torch

    from train.epochs.job import ListenJob
    from train.epochs.listen import listen
    from train.epochs.speaking import Place

    job_path, result_path = (Path(argument) for argument in sys.argv[1:])
    job = msgspec.json.decode(job_path.read_bytes(), type=ListenJob)
    torch.set_num_threads(job.threads)
    place = Place(torch.device("cpu"), torch.float32, "device", "a process beside the training")
    try:
        result = msgspec.json.encode(listen(job, place, _tell))
    except AudioVoiceError as error:
        write_atomic(result_path, msgspec.json.encode(error.to_dict()))
        return EXIT_REFUSED
    write_atomic(result_path, result)
    return 0


def _tell(what: str) -> None:
    sys.stdout.write(what + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
