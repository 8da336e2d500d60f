"""One job on its way: what it drew, what waits for the vocoder, and what comes out of it.

Knows one row; the batch it decodes in is the scheduler's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from app.engine.gpt_weights import GptSizes
from app.engine.pieces import Piece
from app.engine.sampling import RowSampler
from app.engine.types import AudioChunk, Event, SegmentDone, SegmentFailed, SegmentJob
from app.errors import OutputError


class JobRow:
    """The state of one running job.

    Args:
        job: what was asked for.
        sizes: of the model that decodes it.
        state: the decoder's own state of this row.
        stream: the vocoder's own state of this row.
        chunk_tokens: audio tokens of each chunk in turn, without an end; see `chunk_sizes`.
    """

    def __init__(
        self,
        job: SegmentJob,
        sizes: GptSizes,
        state: Any,
        stream: Any,
        chunk_tokens: Iterator[int],
    ) -> None:
        self.job = job
        self.state = state
        self.tokens: list[int] = []
        self.is_done = False
        #: its first chunk went to the vocoder
        self.has_sounded = False
        self._stopped = False
        self._fault = ""
        self._sampler = RowSampler(job.options, sizes)
        self._stream = stream
        self._stop_token = sizes.stop_audio_token
        self._max_tokens = min(
            job.options.max_tokens or sizes.max_audio_tokens, sizes.max_audio_tokens
        )
        self._latents: list[torch.Tensor] = []
        self._chunk_sizes = chunk_tokens
        self._chunk_tokens = next(chunk_tokens)

    def accept(self, logits: torch.Tensor, latent: torch.Tensor) -> None:
        """Draws the next token from one step's output.

        Args:
            logits: [audio tokens].
            latent: [D], of the position the logits were read from; it is sounded whatever token
                is drawn, the stop token included, as stock does.
        """
        try:
            token = self._sampler.draw(logits)
        except OutputError as error:
            self.is_done = True
            self._fault = error.message
            return
        self.tokens.append(token)
        self._latents.append(latent)
        self._stopped = token == self._stop_token
        self.is_done = self._stopped or len(self.tokens) >= self._max_tokens

    def take_piece(self) -> Piece | None:
        """Returns the latents to sound now; None where more are waited for.

        When that happens depends on the row alone, never on who listens or who else runs: the
        same job gives the same samples, to the bit.
        """
        is_due = self.is_done or len(self._latents) >= self._chunk_tokens
        if self._fault or not is_due:
            return None
        latents = torch.stack(self._latents)
        self._latents.clear()
        self._chunk_tokens = next(self._chunk_sizes)
        self.has_sounded = True
        return Piece(self._stream, latents, self.is_done)

    def events(self, samples: torch.Tensor | None) -> list[Event]:
        """Returns what is to be told after a step.

        Args:
            samples: what its piece gave, float32 [S] on the host; None without one.
        """
        if self._fault:
            return [SegmentFailed(self.job.id, self._fault)]
        events: list[Event] = []
        if samples is not None and len(samples):
            events.append(AudioChunk(self.job.id, samples.numpy()))
        if self.is_done:
            events.append(SegmentDone(self.job.id, tuple(self.tokens), self._stopped))
        return events


def chunk_sizes(opening: int, first: int, most: int) -> Iterator[int]:
    """Yields the audio tokens of each chunk: `opening`, then twice `first`, doubling up to `most`.

    Where the vocoder needs more than `first` before it gives any sound, the opening is larger; what
    follows it is not, for whoever listens has little in hand yet.
    """
    yield opening
    while True:
        first = min(2 * first, most)
        yield first
