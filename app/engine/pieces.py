"""What turns the latents of a batch's rows into samples, piece by piece: the scheduler's view.

Which rows are sounded together is up to who does it. Knows no layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch


class Piece(NamedTuple):
    """The next latents of one row, [N, D], and the stream that its earlier ones went through."""

    stream: Any
    latents: torch.Tensor
    is_last: bool


class PieceVocoder(Protocol):
    """Turns pieces into samples: `OneByOne` or `BatchVocoder`."""

    def begin(self, speaker_embedding: torch.Tensor, speed: float) -> Any:
        """Returns a new row's stream, for a speaker [1, E, 1]."""

    def push(self, pieces: Sequence[Piece]) -> list[torch.Tensor]:
        """Returns what is complete of each piece's row: float32 [S] on the host."""


class SampleStream(Protocol):
    """Turns one row's latents into samples: `VocoderStream`, or `ReferenceVocoder` in its place."""

    def push(self, latents: torch.Tensor, *, is_last: bool = False) -> torch.Tensor:
        """Takes [N, D], gives float32 [S]."""


class OneByOne:
    """Sounds row after row, each through a stream of its own."""

    def __init__(self, begin: Callable[[torch.Tensor, float], SampleStream]) -> None:
        self.begin = begin

    def push(self, pieces: Sequence[Piece]) -> list[torch.Tensor]:
        """Returns what is complete of each row: float32 [S] on the host."""
        return [piece.stream.push(piece.latents, is_last=piece.is_last).cpu() for piece in pieces]
