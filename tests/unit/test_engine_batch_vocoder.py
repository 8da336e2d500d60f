"""Windows of several rows in one batch against each row's whole: any pieces, speed and company."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
import toy
from torch.utils._python_dispatch import TorchDispatchMode
from vocoder_shapes import SHAPES, make_latents, make_weights

from app.engine import batch_vocoder, scheduler
from app.engine.batch_vocoder import WINDOW_STEP, BatchVocoder
from app.engine.pieces import Piece
from app.engine.reference import vocode_whole
from app.engine.types import AudioChunk, DecodeOptions, SegmentJob
from app.engine.vocoder import Vocoder
from app.engine.vocoder_weights import VocoderWeights


@dataclass
class Row:
    """One row to be sounded: its speaker, its pace, and how its latents come."""

    voice: int
    num: int
    sizes: Sequence[int]
    speed: float = 1.0
    samples: list[torch.Tensor] = field(default_factory=list)

    def pieces(self, vocoder: BatchVocoder) -> list[Piece]:
        stream = vocoder.begin(toy.voice(self.voice).speaker_embedding, self.speed)
        latents, pieces, place = make_latents(self.num), [], 0
        while place < self.num:
            size = self.sizes[min(len(pieces), len(self.sizes) - 1)]
            pieces.append(Piece(stream, latents[place : place + size], place + size >= self.num))
            place += size
        return pieces

    def whole(self, weights: VocoderWeights) -> torch.Tensor:
        embedding = toy.voice(self.voice).speaker_embedding
        return vocode_whole(weights, make_latents(self.num), embedding, self.speed)


def sound(vocoder: BatchVocoder, rows: Sequence[Row]) -> None:
    """Sounds the rows' pieces turn by turn, all rows that have one left at a time."""
    queues = [row.pieces(vocoder) for row in rows]
    while any(queues):
        turn = [(row, queue.pop(0)) for row, queue in zip(rows, queues, strict=True) if queue]
        made = vocoder.push([piece for _, piece in turn])
        for (row, _), samples in zip(turn, made, strict=True):
            row.samples.append(samples)


def assert_whole(weights: VocoderWeights, rows: Sequence[Row]) -> None:
    for row in rows:
        whole, joined = row.whole(weights), torch.cat(row.samples)
        assert whole.abs().max() > 0.1
        assert joined.shape == whole.shape
        assert (joined - whole).abs().max() < 1e-5


def mixed_rows() -> list[Row]:
    return [
        Row(0, 61, [8, 16, 32, 40]),
        Row(1, 61, [8, 16, 32, 40]),
        Row(2, 61, [8, 16, 32, 40]),
        Row(3, 5, [8]),
        Row(4, 75, [1]),
        Row(0, 44, [2, 1, 5], speed=1.37),
        Row(1, 90, [30, 1, 59], speed=0.5),
        Row(2, 130, [130]),
        Row(3, 40, [10], speed=2),
    ]


@pytest.mark.parametrize("shape", list(SHAPES))
def test_rows_in_company_are_each_the_whole(shape: str) -> None:
    weights, rows = make_weights(shape), mixed_rows()
    sound(BatchVocoder(weights), rows)
    assert_whole(weights, rows)


def test_the_margin_is_what_the_layers_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """With half of it the samples are others, so it is not far from what is needed."""
    weights = make_weights("one block, stock's rates")
    vocoder = BatchVocoder(weights)
    vocoder.margin //= 2
    monkeypatch.setattr(batch_vocoder, "WINDOW_STEP", 1)
    row = Row(0, 90, [10])
    sound(vocoder, [row])
    assert (torch.cat(row.samples) - row.whole(weights)).abs().max() > 1e-4


@pytest.mark.parametrize("num", [1, 2, 3])
def test_few_latents_give_stocks_length(num: int) -> None:
    row = Row(0, num, [1])
    sound(BatchVocoder(make_weights("toy")), [row])
    assert len(torch.cat(row.samples)) == 256 * int(4 * num * (24000 / 22050))


def test_nothing_in_gives_nothing_out() -> None:
    vocoder = BatchVocoder(make_weights("toy"))
    stream = vocoder.begin(toy.voice(0).speaker_embedding)
    (made,) = vocoder.push([Piece(stream, make_latents(2)[:0], is_last=True)])
    assert made.shape == (0,)
    assert vocoder.push([]) == []


def test_samples_come_as_early_as_from_a_stream() -> None:
    """But for what the margin is rounded up by."""
    weights = make_weights("toy")
    vocoder, plain = BatchVocoder(weights), Vocoder(weights)
    embedding = toy.voice(0).speaker_embedding
    ours, theirs = vocoder.begin(embedding), plain.stream(embedding)
    (made,) = vocoder.push([Piece(ours, make_latents(8), is_last=False)])
    assert len(made) > len(theirs.push(make_latents(8))) - 3 * 256


class Work(TorchDispatchMode):
    """Counts operations, convolutions and the frames that are run through the first of them."""

    def __init__(self) -> None:
        super().__init__()
        self.num = self.num_convolutions = self.frames = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num += 1
        if func is torch.ops.aten.convolution.default:
            self.num_convolutions += 1
            if args[0].shape[1] == 64:
                self.frames += args[0].shape[0] * args[0].shape[2]
        return func(*args, **(kwargs or {}))


def test_rows_of_one_length_share_each_convolution() -> None:
    weights = make_weights("toy")
    counts = []
    for num_rows in (1, 16):
        vocoder = BatchVocoder(weights)
        queues = [Row(index % 5, 80, [20]).pieces(vocoder) for index in range(num_rows)]
        vocoder.push([queue[0] for queue in queues])
        with Work() as work:
            vocoder.push([queue[1] for queue in queues])
        counts.append((work.num_convolutions, work.num / num_rows))
    (alone, each_alone), (together, each_together) = counts
    assert together == alone
    assert each_together < each_alone / 2, "stretching is done row by row"


def test_rows_meet_in_few_lengths() -> None:
    """Chunks of one size end anywhere within a frame; their windows are of one length."""
    vocoder = BatchVocoder(make_weights("toy"))
    lengths = set()
    for early in range(20):
        (queue,) = [Row(0, 400, [20 + early, *[40] * 9]).pieces(vocoder)]
        vocoder.push(queue[:1])
        for piece in queue[1:4]:
            window = vocoder._next_window(0, piece)
            assert window
            lengths.add(window.frames.shape[1])
    assert len(lengths) == 1
    assert lengths.pop() % WINDOW_STEP == 0


def test_work_is_linear_and_little_is_kept() -> None:
    vocoder = BatchVocoder(make_weights("toy"))
    queue = Row(0, 800, [40]).pieces(vocoder)
    with Work() as work:
        for piece in queue:
            vocoder.push([piece])
            stream = piece.stream
            assert stream._frames.shape[1] <= 2 * vocoder.margin + WINDOW_STEP
            assert stream._frames.untyped_storage().nbytes() < 4 * 64 * 200
    assert work.frames < 1.5 * stream.num_frames


def test_nothing_is_asked_of_a_device_that_has_no_numbers() -> None:
    """On torch's `meta` device a question of the host, or mixed devices, would raise; all but the
    last copy runs there.
    """
    weights = to_device(make_weights("toy"), "meta")
    vocoder = BatchVocoder(weights)
    stream = vocoder.begin(toy.voice(0).speaker_embedding)
    for is_last in (False, True):
        window = vocoder._next_window(0, Piece(stream, make_latents(30).to("meta"), is_last))
        assert window
        samples = batch_vocoder.run_generator(weights, window.frames[None], window.stream.speaker)
        assert samples.device.type == "meta"
        assert samples.shape[1] >= 256 * (window.frames.shape[1] - vocoder.margin)


def to_device(part: Any, device: str) -> Any:
    """Returns weights with every tensor on a device."""
    if isinstance(part, torch.Tensor):
        return part.to(device)
    if isinstance(part, tuple) and not hasattr(part, "_fields"):
        return tuple(to_device(each, device) for each in part)
    if hasattr(part, "__dataclass_fields__"):
        names = part.__dataclass_fields__
        return replace(part, **{name: to_device(getattr(part, name), device) for name in names})
    return part


def test_jobs_sound_as_through_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vocoder is put where the streaming one is on a CPU."""

    def speak() -> dict[str, np.ndarray]:
        batch = scheduler.Scheduler(toy.toy_model(), max_rows=4)
        for index in range(6):
            options = DecodeOptions(seed=index, max_tokens=20 + 15 * index)
            speed = 1.5 if index == 2 else 1.0
            batch.submit(SegmentJob(str(index), (18, 19), toy.voice(index), options, speed))
        chunks: dict[str, list[np.ndarray]] = {}
        while not batch.is_idle:
            for event in batch.step():
                if isinstance(event, AudioChunk):
                    chunks.setdefault(event.job_id, []).append(event.samples)
        return {name: np.concatenate(parts) for name, parts in chunks.items()}

    expected = speak()
    model = toy.toy_model()
    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "OneByOne", lambda _: BatchVocoder(model.vocoder))
        made = speak()
    assert made.keys() == expected.keys()
    for name, samples in made.items():
        assert samples.dtype == np.float32
        assert samples.shape == expected[name].shape
        assert np.abs(samples - expected[name]).max() < 1e-5
