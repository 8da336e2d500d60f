"""GPT latents of recordings, computed once for the decoder stage.

Each clip has two variants: latents of its own codes, and of codes part of which the GPT drew
itself, so that the decoder learns to live with the GPT's slips. Latents are kept as float16.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from app.files import write_atomic
from train.decoder.drawn import mix_drawn
from train.pretrain.corpus import Clip
from train.pretrain.decoder import Features
from train.pretrain.gpt_batch import Row, RowSource
from train.pretrain.gpt_model import PackedGpt

_STYLE_FRAMES = 345
_ROW_TOKENS = 4000
_INDEX, _DATA = "latents.json", "latents.f16"


@torch.no_grad()
def write_latents(
    folder: Path, module: PackedGpt, source: RowSource, rows: list[Row], gpt_step: int
) -> None:
    """Computes both variants of all rows with the GPT of a step."""
    folder.mkdir(parents=True, exist_ok=True)
    module.eval()
    rng = np.random.default_rng((17, len(rows)))
    ordered = sorted(rows, key=lambda row: row.length)
    places: dict[str, int] = {}
    written = 0
    (folder / _INDEX).unlink(missing_ok=True)
    with (folder / _DATA).open("wb") as stream:
        for batch in _batches(ordered):
            prompt = module.prompt(source.style_mels(rng, _STYLE_FRAMES))
            for row, variants in zip(
                batch, _variants(module, source, batch, prompt, rng), strict=True
            ):
                places[row.clip.name] = written
                stream.write(variants.to(torch.float16).numpy().tobytes())
                written += variants.shape[0] * variants.shape[1]
    content = {"width": module.gpt.model_dim, "gpt_step": gpt_step, "places": places}
    write_atomic(folder / _INDEX, json.dumps(content).encode())


def _batches(rows: list[Row]) -> list[list[Row]]:
    batches: list[list[Row]] = [[]]
    for row in rows:
        if batches[-1] and row.length * (len(batches[-1]) + 1) > _ROW_TOKENS:
            batches.append([])
        batches[-1].append(row)
    return batches


def _variants(
    module: PackedGpt,
    source: RowSource,
    rows: list[Row],
    prompt: Tensor,
    rng: np.random.Generator,
) -> list[Tensor]:
    """Returns [2, codes + 1, D] for each row."""
    batch = source.pack(rows, None, 0.0)
    clean, _ = module(batch, prompt)
    clean = clean.float()
    logits = module.gpt.mel_head(clean).float()[..., : module.gpt.start_audio_token].numpy()
    swapped = []
    for i, row in enumerate(rows):
        start = len(row.text)
        codes = mix_drawn(row.codes, logits[i, start : start + len(row.codes)], rng)
        swapped.append(Row(row.clip, row.speaker, row.text, codes, row.aligned))
    noisy, _ = module(source.pack(swapped, None, 0.0), prompt)
    noisy = noisy.float()
    spans = [(len(row.text), row.length) for row in rows]
    return [
        torch.stack((clean[i, start:end], noisy[i, start:end]))
        for i, (start, end) in enumerate(spans)
    ]


def latents_step(folder: Path) -> int | None:
    """Returns the GPT's step that the latents here are of; None where there are none."""
    path = folder / _INDEX
    if not path.is_file():
        return None
    return int(json.loads(path.read_text(encoding="utf-8"))["gpt_step"])


@dataclass(frozen=True)
class StoredLatents:
    """What `write_latents` wrote, as the decoder's features."""

    places: dict[str, int]
    data: npt.NDArray[np.float16]
    frames_per_code: int
    delay: int = 1

    @staticmethod
    def open(folder: Path, frames_per_code: int) -> StoredLatents:
        """Maps the arrays of a folder."""
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        data = np.memmap(folder / _DATA, np.float16, "r").reshape(-1, index["width"])
        return StoredLatents(index["places"], data, frames_per_code)

    def features(self, clip: Clip, rng: np.random.Generator) -> Features:
        """Returns the latents of a clip, [codes + 1, D], of one of the variants."""
        count = clip.num_frames // self.frames_per_code + 1
        start = self.places[clip.name] + int(rng.integers(2)) * count
        return self.data[start : start + count].astype(np.float32)
