"""The data stage: texts and recordings become a `Corpus`.

Knows where speech comes from (folders of recordings, flite), how it is trimmed and levelled, and
which prompts are held out. Runs on all cores; the order, and so the corpus, does not depend on
their number.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch

from app.errors import SettingsError
from app.text.phonemes import phonemize, split_symbols
from train.data.levelling import Levelling
from train.mels import MEL_RATE, code_mel, resample, style_mel
from train.pretrain.alignment import flite_times, warp_times
from train.pretrain.corpus import AUDIO_RATE, FRAME_S, Utterance, write_corpus
from train.pretrain.flite import check_flite_or_raise, speak
from train.pretrain.recipe import DataPart, FliteSpeaker, FolderSpeaker, Recipe
from train.pretrain.texts import make_phrases, read_sentences, read_words

#: What every recording goes through; the bundle says so, for those that are learnt from later.
LEVELLING = Levelling()
_CHUNK = 16


@dataclass(frozen=True)
class Task:
    """One sentence to prepare: to be spoken by flite, or recorded at `path`."""

    name: str
    speaker: str
    text: str
    held_out: bool
    voice: str = ""
    path: Path | None = None
    #: flite voice whose reading of the same text gives a recording its symbol times
    guide_voice: str = ""
    #: other speeds at which the recording is prepared too
    speeds: tuple[float, ...] = ()


def prepare(recipe: Recipe, data_dir: Path, folder: Path, workers: int) -> int:
    """Makes the corpus in `folder` and returns its number of clips.

    Raises:
        SettingsError: recordings, texts or flite are missing.
    """
    tasks = list_tasks(recipe.data, data_dir, recipe.seed)
    make = partial(
        make_utterances,
        language=recipe.data.language,
        max_s=recipe.data.max_s,
        frames_per_code=recipe.frames_per_code,
    )
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        made = pool.map(make, tasks, chunksize=_CHUNK)
        return write_corpus(folder, chain.from_iterable(made))


def list_tasks(part: DataPart, data_dir: Path, seed: int) -> list[Task]:
    """Returns every sentence of the recipe, the same for the same seed.

    Raises:
        SettingsError: recordings, texts or flite are missing.
    """
    flite = next((s for s in part.speakers if isinstance(s, FliteSpeaker)), None)
    if flite is not None:
        check_flite_or_raise()
    recorded: list[tuple[str, Task]] = []
    for speaker in part.speakers:
        if isinstance(speaker, FolderSpeaker):
            found = _recorded(speaker, data_dir / speaker.path, flite.voice if flite else "")
            recorded.extend(found)
    prompts = {prompt: task.text for prompt, task in recorded}
    rng = random.Random(seed)  # noqa: S311 - no secret
    held_out = set(rng.sample(sorted(prompts), min(part.held_out, len(prompts))))
    tasks = [
        replace(t, held_out=True, speeds=()) if prompt in held_out else t for prompt, t in recorded
    ]
    for speaker in part.speakers:
        if isinstance(speaker, FliteSpeaker):
            tasks += _synthetic(speaker, part, prompts, held_out, seed)
    return tasks


def _recorded(speaker: FolderSpeaker, folder: Path, guide: str) -> list[tuple[str, Task]]:
    table = folder / "metadata.csv"
    if not table.is_file():
        raise SettingsError(
            f"{table} is missing; speaker {speaker.name!r} needs a folder in LJSpeech form "
            "under the data folder (--data-dir)."
        )
    found = []
    with table.open(encoding="utf-8", newline="") as stream:
        for row in csv.reader(stream, delimiter="|", quoting=csv.QUOTE_NONE):
            match = re.search(speaker.prompt_pattern, row[0]) if speaker.prompt_pattern else None
            prompt = match.group(1) if match else row[1]
            path = next(iter(sorted((folder / "wavs").glob(f"{row[0]}.*"))), None)
            if path is None:
                raise SettingsError(
                    f"{folder / 'wavs' / row[0]} has no audio file; remove its row."
                )
            task = Task(
                name=row[0],
                speaker=speaker.name,
                text=row[1],
                held_out=False,
                path=path,
                guide_voice=guide,
                speeds=tuple(speaker.speeds),
            )
            found.append((prompt, task))
    return found


def _synthetic(
    speaker: FliteSpeaker,
    part: DataPart,
    prompts: dict[str, str],
    held_out: set[str],
    seed: int,
) -> Iterator[Task]:
    rng = random.Random(f"{seed} {speaker.name}")  # noqa: S311 - no secret
    for prompt, text in sorted(prompts.items()):
        name = f"{speaker.name}_{prompt}"
        yield Task(name, speaker.name, text, prompt in held_out, voice=speaker.voice)
    banned = {prompts[prompt] for prompt in held_out}
    found = read_sentences(part.text_globs, min_chars=part.min_chars, max_chars=part.max_chars)
    sentences = [text for text in found if text not in banned]
    texts = rng.sample(sentences, min(speaker.texts, len(sentences)))
    if speaker.phrases:
        texts += make_phrases(read_words(part.word_list), speaker.phrases, rng)
    for i, text in enumerate(texts):
        yield Task(f"{speaker.name}_{i:05d}", speaker.name, text, False, voice=speaker.voice)


def make_utterances(
    task: Task, *, language: str, max_s: float, frames_per_code: int
) -> list[Utterance]:
    """Prepares one sentence at all its speeds; nothing where it is too long or has no speech."""
    torch.set_num_threads(1)
    phonemes = phonemize(task.text, language)
    symbols = split_symbols(phonemes)
    segments: list[tuple[str, float]] = []
    if task.path is not None:
        samples, rate = soundfile.read(task.path, dtype="float32")
    else:
        samples, rate, segments = speak(task.text, task.voice)
    samples, start_s = LEVELLING.cut(samples, rate)
    if not symbols or not 0.3 < len(samples) / rate < max_s:
        return []
    audio, code, style = _features(samples, rate, frames_per_code)
    times: tuple[float, ...] = ()
    if segments:
        times = _shift(flite_times(symbols, segments), start_s)
    elif task.guide_voice:
        times = _times_by_guide(symbols, task, code, frames_per_code)
    plain = Utterance(
        name=task.name,
        speaker=task.speaker,
        text=task.text,
        phonemes=phonemes,
        held_out=task.held_out,
        audio=audio,
        code_mel=code,
        style_mel=style,
        times=times,
    )
    faster = (_at_speed(plain, samples, rate, speed, frames_per_code) for speed in task.speeds)
    return [plain, *faster]


def _at_speed(
    plain: Utterance,
    samples: npt.NDArray[np.float32],
    rate: int,
    speed: float,
    frames_per_code: int,
) -> Utterance:
    """Returns a recording as if it had been played at another speed, as a tape is."""
    audio, code, style = _features(samples, round(rate * speed), frames_per_code)
    return replace(
        plain,
        name=f"{plain.name}_x{speed:g}",
        audio=audio,
        code_mel=code,
        style_mel=style,
        times=tuple(round(time / speed, 3) for time in plain.times),
        speed=speed,
    )


def _times_by_guide(
    symbols: list[str], task: Task, target: npt.NDArray[np.float16], frames_per_code: int
) -> tuple[float, ...]:
    samples, rate, segments = speak(task.text, task.guide_voice)
    samples, start_s = LEVELLING.cut(samples, rate)
    _, guide, _ = _features(samples, rate, frames_per_code)
    times = np.array(_shift(flite_times(symbols, segments), start_s), dtype=np.float32)
    warped = warp_times(times, guide.astype(np.float32), target.astype(np.float32), FRAME_S)
    return tuple(round(float(time), 3) for time in warped)


def _shift(times: npt.NDArray[np.float32], start_s: float) -> tuple[float, ...]:
    return tuple(round(max(0.0, float(time - start_s)), 3) for time in times)


def _features(
    samples: npt.NDArray[np.float32], rate: int, frames_per_code: int
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    """Returns 24 kHz audio and both log-mels [frames, 80], whole codes long."""
    levelled = torch.from_numpy(LEVELLING.level(samples))
    audio = resample(levelled, rate, AUDIO_RATE)
    low = resample(levelled, rate, MEL_RATE)
    code, style = code_mel(low), style_mel(low)
    frames = code.shape[1] // frames_per_code * frames_per_code
    pcm = (audio.clamp(-1, 1) * 32767).round().to(torch.int16).numpy()
    return (
        pcm,
        code[:, :frames].T.contiguous().to(torch.float16).numpy(),
        style[:, :frames].T.contiguous().to(torch.float16).numpy(),
    )
