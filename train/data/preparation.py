"""Computes what is not in the cache yet, and lists what a run will read.

Worker processes read and resample; this process makes spectra and codes on the device and writes
shards. It may be ended at any moment and goes on where the last shard was written.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.errors import SettingsError
from train.data.base_model import BaseModel
from train.data.cache import ClipCache
from train.data.checks import CheckedClip
from train.data.dvae import CodeMaker
from train.data.features import (
    EXTRACTOR_VERSION,
    NO_SAMPLES,
    FeatureMaker,
    Recording,
    load_recording,
)
from train.data.levelling import Levelling
from train.data.prepared import PreparedClip, PreparedClips, PreparedFor, Side
from train.data.processes import map_in_processes, num_processes
from train.data.shards import Shard
from train.data.split import Split
from train.mels import HOP, MEL_RATE, NUM_MELS
from train.options import TrainingOptions

#: Two mels of 80 float16 a frame; codes are next to nothing.
_BYTES_PER_S = 2 * NUM_MELS * 2 * MEL_RATE / HOP
_SPARE_BYTES = 100_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preparation:
    """The clips of a run, and how they came about; `lost` are those that changed on the way."""

    clips: PreparedClips
    num_computed: int
    num_reused: int
    lost: tuple[str, ...]


def prepare_clips(
    split: Split,
    options: TrainingOptions,
    base: BaseModel,
    codes: CodeMaker,
    features: FeatureMaker,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Preparation:
    """Makes everything that training reads of the split's clips.

    Args:
        split: usable clips by their side; those left out are not prepared.
        options: where the cache lies, how many processes read.
        base: the model that will be trained.
        codes: its DVAE; decides with the extractor's version which cache is used.
        features: computes a clip's arrays.
        progress: told (done, total) of the clips that are not in the cache yet.

    Raises:
        SettingsError: the disk has no room, or the cache can't be written to.
    """
    root = options.train_cache_dir.absolute() / "clips"
    cache = _open_cache(root, codes, base, features.levelling)
    sides: list[tuple[Side, CheckedClip]] = [
        *(("train", clip) for clip in split.train),
        *(("eval", clip) for clip in split.eval),
    ]
    found = {clip.facts.sha256: cache.find(clip.facts.sha256) for _, clip in sides}
    missing = [clip for _, clip in sides if found[clip.facts.sha256] is None]
    _check_space_or_raise(cache.folder, missing)
    lost = _compute(missing, cache, features, num_processes(options.data_workers), progress)
    for clip in missing:
        found[clip.facts.sha256] = cache.find(clip.facts.sha256)
    made_for = PreparedFor(
        base.name, base.vocab_sha256, codes.identity, base.stride, base.num_codes
    )
    rows = [_row(side, clip, shard) for side, clip in sides if (shard := found[clip.facts.sha256])]
    prepared = PreparedClips.write(cache.folder, made_for, rows)
    num_computed = len(missing) - len(lost)
    return Preparation(prepared, num_computed, len(rows) - num_computed, tuple(lost))


def _open_cache(
    root: Path, codes: CodeMaker, base: BaseModel, levelling: Levelling | None
) -> ClipCache:
    decides = {
        "extractor": EXTRACTOR_VERSION,
        "rate": MEL_RATE,
        "hop": HOP,
        "stride": base.stride,
        "codes": codes.identity,
    }
    if levelling is not None:
        decides["levelling"] = str(levelling)
    try:
        return ClipCache(root, decides)
    except OSError as error:
        raise SettingsError(
            f"TRAIN_CACHE_DIR: {root} can't be written to ({error.strerror}); check its rights or "
            "name another folder.",
            param="TRAIN_CACHE_DIR",
        ) from error


def _compute(
    missing: list[CheckedClip],
    cache: ClipCache,
    features: FeatureMaker,
    workers: int,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Fills the cache; returns the names of clips whose files are not what was checked."""
    recordings = map_in_processes(
        load_recording,
        [clip.sample.audio for clip in missing],
        workers=workers,
        on_crash=lambda path: Recording("", NO_SAMPLES, f"reading {path} ended the process"),
    )
    lost: list[str] = []
    progress(0, len(missing))
    try:
        for number, (clip, recording) in enumerate(zip(missing, recordings, strict=True), start=1):
            fault = recording.fault
            if not fault and recording.sha256 != clip.facts.sha256:
                fault = "the file changed while it was worked on"
            if fault:
                _log.warning("%s is left out: %s.", clip.sample.name, fault.rstrip("."))
                lost.append(clip.sample.name)
            else:
                cache.add(recording.sha256, features(recording.samples))
            progress(number, len(missing))
    finally:
        cache.flush()  # what is done is kept, whatever ended the work
    return lost


def _row(side: Side, clip: CheckedClip, shard: Shard) -> PreparedClip:
    arrays = shard.read(clip.facts.sha256)
    return PreparedClip(
        name=clip.sample.name,
        side=side,
        speaker=clip.sample.speaker,
        language=clip.language,
        text=clip.sample.text,
        spoken=clip.spoken,
        token_ids=clip.token_ids,
        num_samples=arrays.num_samples,
        num_codes=len(arrays.codes),
        num_frames=len(arrays.style_mel),
        key=clip.facts.sha256,
        shard=shard.path.name,
        audio=str(clip.sample.audio.absolute()),
    )


def _check_space_or_raise(folder: Path, clips: list[CheckedClip]) -> None:
    wanted = int(sum(clip.facts.duration_s for clip in clips) * _BYTES_PER_S)
    free = shutil.disk_usage(folder).free
    if wanted and free < wanted + _SPARE_BYTES:
        raise SettingsError(
            f"TRAIN_CACHE_DIR: {folder} needs {wanted / 1e6:.0f} MB for these clips and has "
            f"{free / 1e6:.0f} MB free: make room or name another folder.",
            param="TRAIN_CACHE_DIR",
        )
