"""The recorded steps beside the same steps as they are, and beside `GptDecoder`; for any device."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from app.engine.decoder import Decoder, GptDecoder, StepOutput
from app.engine.gpt_weights import GptSizes, GptWeights, LayerWeights
from app.engine.graph_decoder import GraphDecoder
from app.engine.linear import Linear, make_linear
from app.engine.step_graphs import StepGraphs

XTTS = GptSizes(
    num_layers=30,
    model_dim=1024,
    num_heads=16,
    num_text_tokens=6681,
    num_audio_tokens=1026,
    start_text_token=261,
    stop_text_token=0,
    start_audio_token=1024,
    stop_audio_token=1025,
    max_text_tokens=401,
    max_audio_tokens=602,
)


@dataclass(frozen=True)
class Compared:
    """What came out of `compare`: largest errors as parts of the largest value, and times."""

    replayed_apart: float
    """Between replayed steps and the same steps run as they are."""
    plain_apart: float
    """Between replayed steps and `GptDecoder`."""
    num_graphs: int
    distrusted: str
    replayed_s: float
    """Of the last steps, the median."""
    as_they_are_s: float
    plain_s: float


def random_weights(sizes: GptSizes, dtype: torch.dtype, device: str) -> GptWeights:
    """Returns weights of any sizes, the same for the same sizes, device and type."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        drawn = torch.randn(*shape, generator=generator, device=device) * shape[0] ** -0.5
        return drawn.to(dtype)

    def linear(num_in: int, num_out: int) -> Linear:
        return make_linear(draw(num_in, num_out), draw(num_out))

    def norm() -> tuple[torch.Tensor, torch.Tensor]:
        return 1 + draw(dim), draw(dim)

    dim = sizes.model_dim
    return GptWeights(
        sizes=sizes,
        text_embedding=draw(sizes.num_text_tokens, dim) * 50,
        text_positions=draw(sizes.max_text_tokens + 3, dim) * 10,
        audio_embedding=draw(sizes.num_audio_tokens, dim) * 30,
        audio_positions=draw(sizes.max_audio_tokens + 6, dim) * 10,
        layers=tuple(
            LayerWeights(
                attn_norm=norm(),
                qkv=linear(dim, 3 * dim),
                out=linear(dim, dim),
                mlp_norm=norm(),
                up=linear(dim, 4 * dim),
                down=linear(4 * dim, dim),
            )
            for _ in range(sizes.num_layers)
        ),
        last_norm=norm(),
        latent_norm=norm(),
        head=linear(dim, sizes.num_audio_tokens),
    )


def compare(
    sizes: GptSizes, dtype: torch.dtype, device: str, num_rows: int, num_steps: int
) -> Compared:
    """Runs rows of different lengths through all three, with the same tokens."""
    weights = random_weights(sizes, dtype, device)
    replayed, unrecorded = (GraphDecoder(weights, num_rows) for _ in range(2))
    unrecorded._graphs = None
    decoders: list[Decoder] = [replayed, unrecorded, GptDecoder(weights)]
    rows = [_start(decoder, sizes, num_rows) for decoder in decoders]
    times: list[list[float]] = [[], [], []]
    apart = [0.0, 0.0]
    for step in range(num_steps):
        tokens = [
            (step * 37 + index * 11) % (sizes.num_audio_tokens - 2) for index in range(num_rows)
        ]
        outputs: list[StepOutput] = []
        for decoder, own, spent in zip(decoders, rows, times, strict=True):
            began = time.perf_counter()
            outputs.append(decoder.step(own, tokens))
            outputs[-1].latents.cpu()
            spent.append(time.perf_counter() - began)
        apart = [max(a, distance(outputs[0], o)) for a, o in zip(apart, outputs[1:], strict=True)]
    medians = [sorted(spent[num_steps // 2 :])[num_steps // 4] for spent in times]
    return Compared(*apart, replayed.num_graphs, StepGraphs.distrusted, *medians)


def distance(ours: StepOutput, true: StepOutput) -> float:
    """Returns the largest error as a part of the largest value."""
    errors = [
        float((mine.cpu().float() - other.cpu().float()).abs().max() / other.abs().max().cpu())
        for mine, other in zip(ours, true, strict=True)
    ]
    return max(errors)


def _start(decoder: Decoder, sizes: GptSizes, num_rows: int) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    rows = []
    for index in range(num_rows):
        voice = torch.randn(1, 32, sizes.model_dim, generator=generator)
        ids = [5 + place % 20 for place in range(10 + 7 * (index % 12))]
        rows.append(decoder.prefill(ids, voice)[0])
    return rows
