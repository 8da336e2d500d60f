"""Real clips for tests of the data rooms, and folders made of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from app.files import sha256_of_file
from train.data.base_model import BaseModel

HERE = Path(__file__).resolve().parent
CLIPS = HERE / "data" / "clips"
#: Twelve clips of one speaker in LJSpeech's layout.
KATHLEEN = HERE / "recipe" / "data" / "kathleen"
VOCAB = HERE / "data" / "xtts-vocab.json"

LONG_CLIP = CLIPS / "arctic_a0026_1592747944.flac"
LONG_TEXT = "It occurred to me that there would have to be an accounting."
OTHER_CLIP = CLIPS / "arctic_b0047_1592700327.flac"
OTHER_TEXT = "Suppose you saw me at work through the window."

FloatArray = npt.NDArray[np.float32]


def base_model(max_text_tokens: int = 401, max_codes: int = 600) -> BaseModel:
    """Returns a model of XTTS-v2's sizes with a real vocabulary."""
    return BaseModel(
        name="xtts",
        vocab=VOCAB,
        front_end="letters",
        languages=("en", "de", "fr", "ru"),
        max_text_tokens=max_text_tokens,
        max_codes=max_codes,
        stride=1024,
        num_codes=1024,
        vocab_sha256=sha256_of_file(VOCAB),
    )


def samples_of(path: Path) -> tuple[FloatArray, int]:
    """Returns a clip's samples and rate."""
    samples, rate = soundfile.read(path, dtype="float32")
    return samples, rate


def written(path: Path, samples: npt.NDArray[np.floating], rate: int, subtype: str = "") -> Path:
    """Writes samples in the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype or None)
    return path


def wav_bytes(samples: FloatArray, rate: int) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV")
    return stream.getvalue()
