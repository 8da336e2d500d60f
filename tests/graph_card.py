"""Recorded runs beside the same runs as they are, and beside `GptDecoder`; for any device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from app.engine.decoder import Decoder, GptDecoder, StepOutput
from app.engine.gpt_weights import GptSizes, GptWeights, LayerWeights
from app.engine.graph_decoder import GraphDecoder
from app.engine.linear import Linear, make_linear
from app.engine.run_graphs import RunGraphs

T = TypeVar("T")

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
    """What a comparison gave: largest errors as parts of the largest value, and times."""

    replayed_apart: float
    """Between replayed runs and the same runs done as they are."""
    plain_apart: float
    """Between replayed runs and `GptDecoder`."""
    num_graphs: int
    distrusted: dict[str, str]
    replayed_s: float
    """Of the last steps or prefills, the median."""
    as_they_are_s: float
    plain_s: float


def random_weights(sizes: GptSizes, dtype: torch.dtype, device: str) -> GptWeights:
    """Returns weights of any sizes, the same for the same sizes, device and type."""
    is_real = device != "meta"  # where there are no numbers to draw
    generator = torch.Generator(device).manual_seed(0) if is_real else None

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


class _Beside:
    """A decoder that replays, one that records nothing, and the plain one, doing the same."""

    def __init__(self, sizes: GptSizes, dtype: torch.dtype, device: str, num_rows: int) -> None:
        weights = random_weights(sizes, dtype, device)
        self._replayed, unrecorded = (GraphDecoder(weights, num_rows) for _ in range(2))
        unrecorded._graphs = None
        self._decoders: list[Decoder] = [self._replayed, unrecorded, GptDecoder(weights)]
        self._is_on_card = weights.device.type == "cuda"
        self._times: list[list[float]] = [[], [], []]
        self._apart = [0.0, 0.0]

    def do(self, call: Callable[[Decoder, int], T]) -> list[T]:
        """Returns what each gave; `call` takes a decoder and its index."""
        given = []
        for index, decoder in enumerate(self._decoders):
            began = time.perf_counter()
            given.append(call(decoder, index))
            if self._is_on_card:
                torch.cuda.synchronize()
            self._times[index].append(time.perf_counter() - began)
        return given

    def hold(self, outputs: Sequence[StepOutput]) -> None:
        """Compares the three."""
        errors = [distance(outputs[0], other) for other in outputs[1:]]
        self._apart = [max(pair) for pair in zip(self._apart, errors, strict=True)]

    def found(self, times: slice = slice(None)) -> Compared:
        """Returns the largest errors and the median of these times."""
        medians = [statistics.median(spent[times]) for spent in self._times]
        return Compared(*self._apart, self._replayed.num_graphs, RunGraphs.distrusted, *medians)


def compare(
    sizes: GptSizes, dtype: torch.dtype, device: str, num_rows: int, num_steps: int
) -> Compared:
    """Runs rows of different lengths through all three, with the same tokens."""
    beside = _Beside(sizes, dtype, device, num_rows)
    rows = beside.do(lambda decoder, _: _start(decoder, sizes, num_rows))
    for step in range(num_steps):
        tokens = [
            (step * 37 + index * 11) % (sizes.num_audio_tokens - 2) for index in range(num_rows)
        ]
        beside.hold(beside.do(lambda decoder, own, drawn=tokens: decoder.step(rows[own], drawn)))
    return beside.found(slice(1 + num_steps // 2, None))


def compare_prefills(
    sizes: GptSizes, dtype: torch.dtype, device: str, num_text: int, num_rounds: int
) -> Compared:
    """Starts rows of `num_text` tokens in all three, and compares a step of each as well.

    That step reads the keys and values which the prefill left. The times are the prefills'.
    """
    beside = _Beside(sizes, dtype, device, 1)
    generator = torch.Generator().manual_seed(1)
    for index in range(num_rounds):
        voice = torch.randn(1, 32, sizes.model_dim, generator=generator)
        ids = [5 + (place + index) % 20 for place in range(num_text)]
        began = beside.do(lambda decoder, _, v=voice, i=ids: decoder.prefill(i, v))
        beside.hold([output for _, output in began])
        beside.hold(beside.do(lambda decoder, own, b=began: decoder.step([b[own][0]], [7])))
    return beside.found(slice(num_rounds // 2 * 2, None, 2))


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
