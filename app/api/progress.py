"""One request's audio as it arrives, with its numbers counted.

Knows the engine's stream and the metrics; nothing of HTTP or encoding.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from app.api.engine import SpeechStream
from app.errors import OutputError, RequestCancelledError
from app.messages import Audio, Done, Verdict
from app.metrics import Metrics

_BYTES_PER_SAMPLE = 2


class SpeechProgress:
    """Draws a request's audio; leaving the block ends the request and counts how it went.

    Args:
        stream: the request's audio.
        metrics: where it is counted.
        sample_rate: of the samples, in Hz.
    """

    def __init__(self, stream: SpeechStream, metrics: Metrics, *, sample_rate: int) -> None:
        self._stream = stream
        self._metrics = metrics
        self._bytes_per_s = sample_rate * _BYTES_PER_SAMPLE
        self._start_s = time.monotonic()
        self._num_bytes = 0
        self.first_audio_s: float | None = None
        self.verdict: Verdict | None = None

    @property
    def audio_s(self) -> float:
        """Seconds of audio drawn so far."""
        return self._num_bytes / self._bytes_per_s

    @property
    def total_s(self) -> float:
        """Seconds since the request was taken up."""
        return time.monotonic() - self._start_s

    @property
    def done(self) -> Done | None:
        """The worker's last word; None until `next_audio` has returned None."""
        return self._stream.done

    async def __aenter__(self) -> SpeechProgress:
        """Returns itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancels the request in the worker unless it is complete."""
        await self._stream.aclose()
        outcome = self._outcome(error)
        self._metrics.observe_speech(outcome, self.total_s, self.audio_s)
        if outcome == "complete" and self.verdict is not None:
            self._metrics.count_verdict(self.verdict.status, self.verdict.retries)
        if isinstance(error, OutputError):
            self._metrics.count_verdict("failed", 0)

    def _outcome(self, error: BaseException | None) -> str:
        if error is None and self.done is not None:
            return "complete"
        left = isinstance(error, RequestCancelledError | asyncio.CancelledError)
        return "cancelled" if left else "failed"

    async def first_audio(self) -> Audio:
        """Returns the first audio.

        Raises:
            OutputError: there was none.
            AudioVoiceError: the request failed.
        """
        audio = await self.next_audio()
        if audio is None:
            raise OutputError("The model made no audio of this text; try another wording or seed.")
        self.first_audio_s = self.total_s
        self._metrics.observe_first_audio(self.first_audio_s)
        return audio

    async def next_audio(self) -> Audio | None:
        """Returns the next audio, or None when the request is complete.

        Raises:
            AudioVoiceError: the request failed.
        """
        try:
            audio = await self._stream.__anext__()
        except StopAsyncIteration:
            if self.done is not None and self.done.verdict is not None:
                self.verdict = self.done.verdict
            return None
        self._num_bytes += len(audio.pcm)
        self.verdict = audio.verdict
        return audio
