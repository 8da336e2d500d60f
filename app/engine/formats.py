"""Which number formats a model is kept and computed in, and why.

GPT, vocoder and caches each have their own: the GPT of a large model is bound by reading its
weights, the vocoder by arithmetic. Asks the processor what it can do; knows no settings and no
files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from app.engine.int8_linear import has_exact_int8

GptFormat = Literal["float32", "bfloat16", "float16", "int8"]

#: int8 saves the reading of weights from memory; those below this size stay in the processor's
#: caches, where there is little to save. A judgement, between the built-in voice's 19 MB and
#: XTTS-v2's 1.5 GB: no model of a size between was measured.
INT8_PAYS_FROM_BYTES = 100_000_000


@dataclass(frozen=True)
class Formats:
    """The formats of one model; `reason` says why these."""

    gpt: GptFormat
    vocoder: torch.dtype
    cache: torch.dtype
    reason: str

    @property
    def gpt_dtype(self) -> torch.dtype:
        """The type of what passes between the GPT's layers."""
        return torch.float32 if self.gpt == "int8" else _dtype(self.gpt)

    def __str__(self) -> str:
        """Names the GPT's format, and the others where they differ from it."""
        names = {part: str(kind).removeprefix("torch.") for part, kind in self._others().items()}
        others = ", ".join(f"{part} {name}" for part, name in names.items() if name != self.gpt)
        return f"{self.gpt} ({others})" if others else self.gpt

    def _others(self) -> dict[str, torch.dtype]:
        return {"vocoder": self.vocoder, "cache": self.cache}


def uniform_formats(dtype: torch.dtype, reason: str = "") -> Formats:
    """Returns one format for all parts: what GPUs use, and the reference on the CPU."""
    name = str(dtype).removeprefix("torch.")
    assert name in ("float32", "bfloat16", "float16"), f"{name} is no format of a GPT"
    return Formats(name, dtype, dtype, reason)  # type: ignore[arg-type]


def choose_cpu_formats(wanted: str, gpt_bytes: int) -> Formats:
    """Returns the formats for a CPU.

    Args:
        wanted: `auto`, `int8`, or the name of a float format, which is then taken for all parts.
        gpt_bytes: the size of the GPT's matrices in float32.
    """
    half = torch.bfloat16 if has_bfloat16_units() else torch.float32
    vocoder_reason = "bfloat16 where the processor has it"
    if wanted not in ("auto", "int8"):
        return uniform_formats(_dtype(wanted), f"PRECISION={wanted}")
    if not has_exact_int8():
        reason = "float32, because this processor does not multiply 8-bit numbers exactly"
        return Formats("float32", half, torch.float32, reason)
    if wanted == "int8":
        return Formats("int8", half, half, f"PRECISION=int8; vocoder and cache {vocoder_reason}")
    if gpt_bytes < INT8_PAYS_FROM_BYTES:
        reason = f"a GPT of {gpt_bytes / 1e6:.0f} MB is fast as it is; vocoder {vocoder_reason}"
        return Formats("float32", half, torch.float32, reason)
    reason = f"reading {gpt_bytes / 1e6:.0f} MB for each token is what takes time"
    return Formats("int8", half, half, f"{reason}; vocoder and cache {vocoder_reason}")


def has_bfloat16_units() -> bool:
    """Says whether the CPU multiplies bfloat16 itself (AVX-512 BF16 or AMX)."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    asked = [getattr(torch.cpu, name, None) or getattr(torch._C._cpu, name, None) for name in names]  # noqa: SLF001
    return any(bool(ask()) for ask in asked if ask is not None)


def _dtype(name: str) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name)
    return dtype
