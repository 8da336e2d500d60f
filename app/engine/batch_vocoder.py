"""Latents to samples for GPUs: windows of several rows in one batch of plain layers.

A stream that carries each layer's context (`vocoder`) is some hundreds of small kernels for each
row, which a GPU waits for. Here a row's new frames are run together with as many of their
neighbours as the layers can see, so the samples are the whole's within rounding, and rows whose
windows are of one length share each kernel. The neighbours are computed again: some 30 frames
beside a chunk of 174, whatever the length of the whole. Runs on any device.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from app.engine.generator import reach, run_generator
from app.engine.interpolate import InterpolateStream
from app.engine.pieces import Piece
from app.engine.vocoder import frame_scales
from app.engine.vocoder_weights import VocoderWeights

#: Windows reach back to the next multiple of so many frames, for rows to meet in one length.
WINDOW_STEP = 32


class WindowStream:
    """The frames of one row that are still looked at; frame numbers count from its beginning."""

    def __init__(
        self, weights: VocoderWeights, speaker_embedding: torch.Tensor, speed: float
    ) -> None:
        first = weights.first.weight
        self.speaker = speaker_embedding.to(first)
        self._stretches = [InterpolateStream(scale) for scale in frame_scales(weights.sizes, speed)]
        self._frames = first.new_empty(first.shape[1], 0)
        self._num_dropped = 0
        self.num_sounded = 0

    @property
    def num_frames(self) -> int:
        """Frames there are so far."""
        return self._num_dropped + self._frames.shape[1]

    def push(self, latents: torch.Tensor, *, is_last: bool) -> None:
        """Takes the next latents, [N, D]."""
        frames = latents.to(self._frames).t()[None]
        for stretch in self._stretches:
            frames = stretch.push(frames, is_last=is_last)
        self._frames = torch.cat([self._frames, frames[0]], dim=1)

    def window(self, begin: int) -> torch.Tensor:
        """Returns the frames from number `begin` on, [D, T]."""
        return self._frames[:, begin - self._num_dropped :]

    def forget_before(self, frame: int) -> None:
        """Drops all before this frame."""
        num_needless = frame - self._num_dropped
        if num_needless > 0:
            self._frames = self._frames[:, num_needless:].clone()
            self._num_dropped = frame


@dataclass(frozen=True)
class _Window:
    """Part of a row to run: frames from `begin` on; samples of `first` to `end` count."""

    place: int
    stream: WindowStream
    frames: torch.Tensor
    first: int
    end: int | None


class BatchVocoder:
    """Sounds rows over one generator's weights; see `PieceVocoder`."""

    def __init__(self, weights: VocoderWeights) -> None:
        self._weights = weights
        self._hop = weights.sizes.output_hop
        #: frames on either side that a frame's samples depend on, at most
        self.margin = reach(weights)

    def begin(self, speaker_embedding: torch.Tensor, speed: float = 1.0) -> WindowStream:
        """Returns a new row's stream; see `VocoderStream`."""
        return WindowStream(self._weights, speaker_embedding, speed)

    @torch.inference_mode()
    def push(self, pieces: Sequence[Piece]) -> list[torch.Tensor]:
        """Returns what is complete of each piece's row: float32 [S] on the host."""
        samples = [torch.empty(0) for _ in pieces]
        by_length: dict[int, list[_Window]] = defaultdict(list)
        for place, piece in enumerate(pieces):
            window = self._next_window(place, piece)
            if window:
                by_length[window.frames.shape[1]].append(window)
        for windows in by_length.values():
            frames = torch.stack([window.frames for window in windows])
            speakers = torch.cat([window.stream.speaker for window in windows])
            made = run_generator(self._weights, frames, speakers).cpu()
            for window, row in zip(windows, made, strict=True):
                samples[window.place] = row[window.first : window.end]
        return samples

    def _next_window(self, place: int, piece: Piece) -> _Window | None:
        """Takes a piece's latents; returns what to run for it, None where nothing is due."""
        stream: WindowStream = piece.stream
        stream.push(piece.latents, is_last=piece.is_last)
        num_frames, sounded = stream.num_frames, stream.num_sounded
        until = num_frames if piece.is_last else num_frames - self.margin
        if until <= sounded:
            return None
        begin = self._begin(num_frames, sounded)
        window = _Window(
            place,
            stream,
            stream.window(begin),
            (sounded - begin) * self._hop,
            # the end of all may be a sample beyond its last frame (kernels of an odd excess)
            None if piece.is_last else (until - begin) * self._hop,
        )
        stream.num_sounded = until
        stream.forget_before(until - self.margin - WINDOW_STEP)
        return window

    def _begin(self, num_frames: int, sounded: int) -> int:
        """Returns the frame a window begins with: earlier than it must, or with the first."""
        needed = num_frames - (sounded - self.margin)
        return max(0, num_frames - math.ceil(needed / WINDOW_STEP) * WINDOW_STEP)
