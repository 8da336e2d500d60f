"""A checkpoint speaks, through the service's own synthesizer.

The bundle is the one that training starts from, with the checkpoint's weights in the place of its
own; the voice is that of a reference clip, heard by the checkpoint itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from app.audio.clip import Clip
from app.audio.pcm import from_s16
from app.devices.routes import FftRoute
from app.engine.dft import spectrum_by_route
from app.engine.formats import uniform_formats
from app.errors import AudioVoiceError, InputError
from app.messages import Audio, Done, Failed, Speak
from app.models.bundles import Bundle, find_bundle
from app.models.loading import LoadedModel, load_model
from app.settings import Settings
from app.synthesis.memory import naming_faults
from app.synthesis.opening import describe
from app.synthesis.synthesizer import Synthesizer
from app.voices.latents import VoiceLatents
from app.voices.store import VoiceStore
from train.data.audio_facts import read_recording
from train.data.levelling import levelled, levelling_of
from train.epochs.job import ListenJob, ListenPlan

REFERENCE_VOICE = "reference"
SAMPLE = "sample"


@dataclass(frozen=True)
class Place:
    """Where a checkpoint speaks: in the training process, or on the CPU of another."""

    device: torch.device
    dtype: torch.dtype
    fft_route: FftRoute
    reason: str


@dataclass(frozen=True, eq=False)
class Speech:
    """What came of one text.

    Attributes:
        samples: float32 [S]; None where the synthesizer refused its own output.
        notes: what its checks saw; `retries` tries with another seed were needed.
        seconds: from asking to the last sample; texts are spoken side by side.
    """

    samples: npt.NDArray[np.float32] | None
    sample_rate: int
    retries: int
    notes: tuple[str, ...]
    seconds: float


def find_checkpoint(plan: ListenPlan, weights: str) -> Bundle:
    """Returns the starting model's bundle with other weights; its own where `weights` is empty.

    Raises:
        AudioVoiceError: there is no such model.
    """
    bundle = find_bundle(plan.base_model, Settings(models_dir=Path(plan.models_dir)))
    return replace(bundle, weights=Path(weights), kind="checkpoint") if weights else bundle


def read_reference(path: str) -> Clip:
    """Reads a clip of the data set.

    Raises:
        InputError: it is gone, or no audio any more.
    """
    try:
        return read_recording(Path(path).read_bytes())
    except OSError as error:
        raise InputError(
            f"The reference clip {path} can't be read any more ({error.strerror}).", param="DATA"
        ) from error


def speak_texts(
    job: ListenJob, place: Place, alive: Callable[[str], None] = lambda _what: None
) -> dict[str, Speech]:
    """Loads a checkpoint and lets it speak the sample and the scored texts, side by side.

    Args:
        job: whose weights, which texts.
        place: where.
        alive: told what is being done, at least once a decode step.

    Returns:
        Speech by name: `sample`, and the names of the scored texts.

    Raises:
        AudioVoiceError: the checkpoint can't be loaded, or the reference can't be read.
        DeviceError: the device failed; its code says how.
    """
    plan = job.plan
    bundle = find_checkpoint(plan, job.weights)
    clip = levelled(read_reference(plan.reference), levelling_of(bundle))
    alive("loading")
    with naming_faults(place.device):
        model = load_model(
            bundle,
            place.device,
            formats=lambda _: uniform_formats(place.dtype),
            power=spectrum_by_route(place.fft_route),
        )
        voice = model.conditioner.encode(clip.samples, clip.sample_rate)
    model = replace(
        model, voices={REFERENCE_VOICE: voice}, voice_entries={}, default_voice=REFERENCE_VOICE
    )
    wanted = [(SAMPLE, plan.text, plan.language)]
    wanted += [(text.name, text.text, text.language) for text in plan.scored]
    with naming_faults(place.device):
        return _speak_all(_open(model, plan, place), wanted, plan.seed, alive)


def _open(model: LoadedModel, plan: ListenPlan, place: Place) -> Synthesizer:
    settings = Settings(output_retries=plan.retries)
    nowhere = Path(plan.models_dir) / ".no-voices"  # the one voice is the model's
    latents = VoiceLatents(model, VoiceStore(nowhere, 1), nowhere)
    info = describe(model, settings, str(place.device), place.reason)
    return Synthesizer(model, latents, settings, info)


def _speak_all(
    synthesizer: Synthesizer,
    wanted: Sequence[tuple[str, str, str]],
    seed: int,
    alive: Callable[[str], None],
) -> dict[str, Speech]:
    rate = synthesizer.info.sample_rate
    speeches: dict[str, Speech] = {}
    started = time.monotonic()
    for number, (name, text, language) in enumerate(wanted):
        parts: list[bytes] = []

        def keep(
            message: Audio | Done | Failed, name: str = name, parts: list[bytes] = parts
        ) -> None:
            if isinstance(message, Audio):
                parts.append(message.pcm)
                return
            seconds = time.monotonic() - started
            if isinstance(message, Failed):
                fault = AudioVoiceError.from_dict(message.error).message
                speeches[name] = Speech(None, rate, 0, (fault,), seconds)
                return
            verdict = message.verdict
            retries, notes = (verdict.retries, tuple(verdict.notes)) if verdict else (0, ())
            speeches[name] = Speech(from_s16(b"".join(parts)), rate, retries, notes, seconds)

        request = Speak(
            id=f"{number}", text=text, voice=REFERENCE_VOICE, language=language, seed=seed
        )
        try:
            synthesizer.submit(request, keep)
        except InputError as error:  # a text that this model can't say
            speeches[name] = Speech(None, rate, 0, (error.message,), 0.0)
    while len(speeches) < len(wanted):
        synthesizer.step()
        alive(f"speaking, {len(speeches)} of {len(wanted)} texts")
    return speeches
