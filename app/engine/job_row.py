"""One job on its way: what it drew, what waits for the vocoder, and what comes out of it.

Knows one row; the batch it decodes in is the scheduler's.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from app.engine.gpt_weights import GptSizes
from app.engine.sampling import RowSampler
from app.engine.types import AudioChunk, Event, SegmentDone, SegmentFailed, SegmentJob
from app.errors import OutputError


class SampleStream(Protocol):
    """Turns latents into samples: `VocoderStream`, or `ReferenceVocoder` in its place."""

    def push(self, latents: torch.Tensor, *, is_last: bool = False) -> torch.Tensor:
        """Takes [N, D], gives float32 [S]."""


class JobRow:
    """The state of one running job.

    Args:
        job: what was asked for.
        sizes: of the model that decodes it.
        state: the decoder's own state of this row.
        vocoder: the row's own stream.
        chunk_tokens: audio tokens of the first chunk and of the largest; each is twice the last.
    """

    def __init__(
        self,
        job: SegmentJob,
        sizes: GptSizes,
        state: Any,
        vocoder: SampleStream,
        chunk_tokens: tuple[int, int],
    ) -> None:
        self.job = job
        self.state = state
        self.tokens: list[int] = []
        self.is_done = False
        self._sampler = RowSampler(job.options, sizes)
        self._vocoder = vocoder
        self._stop_token = sizes.stop_audio_token
        self._max_tokens = min(
            job.options.max_tokens or sizes.max_audio_tokens, sizes.max_audio_tokens
        )
        self._latents: list[torch.Tensor] = []
        self._chunk_tokens, self._max_chunk_tokens = chunk_tokens

    def accept(self, logits: torch.Tensor, latent: torch.Tensor) -> list[Event]:
        """Draws the next token from one step's output and returns what is due.

        Args:
            logits: [audio tokens].
            latent: [D], of the position the logits were read from; it is sounded whatever token
                is drawn, the stop token included, as stock does.
        """
        try:
            token = self._sampler.draw(logits)
        except OutputError as error:
            self.is_done = True
            return [SegmentFailed(self.job.id, error.message)]
        self.tokens.append(token)
        self._latents.append(latent)
        stopped = token == self._stop_token
        self.is_done = stopped or len(self.tokens) >= self._max_tokens
        events = self._sound() if self.is_done or self._is_chunk_due() else []
        if self.is_done:
            events.append(SegmentDone(self.job.id, tuple(self.tokens), stopped))
        return events

    def _is_chunk_due(self) -> bool:
        return len(self._latents) >= self._chunk_tokens

    def _sound(self) -> list[Event]:
        """Runs the vocoder over the latents that wait.

        When that happens depends on the row alone, never on who listens or who else runs: the
        same job gives the same samples, to the bit.
        """
        latents = torch.stack(self._latents)
        self._latents.clear()
        self._chunk_tokens = min(2 * self._chunk_tokens, self._max_chunk_tokens)
        samples = self._vocoder.push(latents, is_last=self.is_done).cpu().numpy()
        return [AudioChunk(self.job.id, samples)] if len(samples) else []
