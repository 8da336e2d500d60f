"""Which operations the probe runs, on which sizes, and how near the results must come.

Shared by the child that runs them and the parent that judges; knows no torch. The sizes are those
of XTTS: its speaker encoder, the mel that the DVAE codes and the mel of the conditioning
(coqui-tts 0.28: TTS/encoder/models/base_encoder.py, TTS/tts/layers/xtts/trainer/gpt_trainer.py,
TTS/tts/models/xtts.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.devices.report import DtypeName

WindowName = Literal["hamming", "hann"]


@dataclass(frozen=True)
class StftShape:
    """One short-time Fourier transform of the path; lengths in samples, the rate in Hz."""

    n_fft: int
    win_length: int
    hop_length: int
    window: WindowName
    sample_rate: int

    @property
    def name(self) -> str:
        """How the shape is called in evidence, such as `stft 512/400/160 hamming`."""
        return f"stft {self.n_fft}/{self.win_length}/{self.hop_length} {self.window}"


STFT_SHAPES = (
    StftShape(512, 400, 160, "hamming", 16_000),
    StftShape(1024, 1024, 256, "hann", 22_050),
    StftShape(2048, 1024, 256, "hann", 22_050),
)
#: The shortest clip XTTS takes, its usual conditioning length, its longest training clip.
CLIP_LENGTHS_S = (0.33, 6.0, 11.6)
BATCHES = (1, 8)
#: A plan made by the first call and kept can be wrong in the second (pytorch#58724).
NUM_CALLS = 2

#: Stages in the order they run. The formats come first, so that a crash in an FFT, the likeliest
#: fault, leaves nothing else unknown; float32 is the one that everything else stands on.
START, CONTEXT, DFT, FFT = "start", "context", "dft", "fft"
DTYPE_STAGES: tuple[DtypeName, ...] = ("float32", "bfloat16", "float16")
WORK_STAGES: tuple[str, ...] = (*DTYPE_STAGES, DFT, FFT)

#: Largest error allowed, as a part of the largest true value. A wrong FFT is off by far more and
#: float32 rounding gives 1e-6.
FFT_LIMIT = 1e-3
#: float32 leaves room for TF32 in convolutions (10 bits of mantissa), the other two for some
#: roundings in a row of their 8 and 11 bits.
DTYPE_LIMITS: dict[DtypeName, float] = {"float32": 5e-3, "bfloat16": 6e-2, "float16": 1e-2}
#: Spectra by matrix product have to be as good as those of an FFT to stand in for them; rounding
#: to TF32 would give 1e-3.
DFT_LIMIT = 1e-4
#: Size of the trial of spectra by matrix product; one length and batch tell it all.
DFT_LENGTH_S, DFT_BATCH = 6.0, 2
