"""One epoch's listening: the checkpoint speaks, the sample is saved, the texts are scored.

The same steps wherever they are made: in the training process or in a child of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from app.audio.encode import encode_whole
from app.audio.pcm import to_s16
from app.errors import ModelFileError
from app.files import atomic_path, write_atomic
from train.epochs.hearing import score_texts
from train.epochs.job import Listened, ListenJob, Sample
from train.epochs.speaking import SAMPLE, Place, Speech, speak_texts

_log = logging.getLogger(__name__)


def listen(job: ListenJob, place: Place, alive: Callable[[str], None]) -> Listened:
    """Does all of a job; speech that was left in a folder is not made again.

    Raises:
        AudioVoiceError: the checkpoint can't be loaded, or the device failed.
    """
    speeches = read_speeches(Path(job.spoken)) if job.spoken else speak_texts(job, place, alive)
    sample = save_sample(job, speeches[SAMPLE])
    if not job.plan.scored:
        return Listened(job.epoch, sample, notes=("no scores: SCORE_SENTENCES=0",))
    texts, recogniser, notes = score_texts(job.plan, speeches, alive)
    return Listened(job.epoch, sample, texts, notes, recogniser)


def sample_path(folder: Path, epoch: int) -> Path:
    """Returns where an epoch's sample lies; it is not there when none passed its checks."""
    return folder / f"epoch_{epoch}_output.wav"


def save_sample(job: ListenJob, speech: Speech) -> Sample:
    """Writes the sample as 16-bit WAV, if it passed its checks."""
    path = sample_path(Path(job.folder), job.epoch)
    if speech.samples is None:
        path.unlink(missing_ok=True)  # of an earlier run
        return Sample("failed", speech.notes, seconds=round(speech.seconds, 3))
    write_atomic(path, encode_whole("wav", speech.sample_rate, to_s16(speech.samples)))
    return Sample(
        verdict="retried" if speech.retries else "ok",
        notes=speech.notes,
        duration_s=round(len(speech.samples) / speech.sample_rate, 3),
        seconds=round(speech.seconds, 3),
    )


def write_speeches(path: Path, speeches: dict[str, Speech]) -> None:
    """Leaves speech for another process, whole or not at all."""
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
    for number, (name, speech) in enumerate(speeches.items()):
        about = (name, str(speech.sample_rate), str(speech.retries), str(speech.seconds))
        arrays[f"about{number}"] = np.array([*about, *speech.notes])
        if speech.samples is not None:
            arrays[f"samples{number}"] = speech.samples
    with atomic_path(path) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def read_speeches(path: Path) -> dict[str, Speech]:
    """Reads what `write_speeches` left.

    Raises:
        ModelFileError: it is gone or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            speeches = {}
            for key in (key for key in arrays.files if key.startswith("about")):
                name, rate, retries, seconds, *notes = (str(part) for part in arrays[key])
                samples = key.replace("about", "samples")
                speeches[name] = Speech(
                    arrays[samples] if samples in arrays.files else None,
                    int(rate),
                    int(retries),
                    tuple(notes),
                    float(seconds),
                )
            return speeches
    except (OSError, ValueError, BadZipFile) as error:
        raise ModelFileError(f"{path} can't be read ({error}); the epoch has no scores.") from error
