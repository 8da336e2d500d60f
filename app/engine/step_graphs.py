"""Steps recorded once for each of their shapes and replayed with one call: CUDA graphs.

A step of 30 layers is some hundreds of kernels, each of which the host would have to launch. No
recording is trusted before it gave what the step itself gives; where one cannot be made or is
wrong, steps run as they are from then on, with the reason in the log. Knows nothing of what a step
computes.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol

import torch

from app.engine.decoder import StepOutput

_log = logging.getLogger(__name__)

#: 8 numbers of rows, 1 to 128, over 5 spans
MOST_GRAPHS = 40
# Libraries set themselves up in the first run; what they do then can't be recorded.
_WARM_UP_RUNS = 2
# Largest error allowed, as a part of the largest true value. The kernels are the same, so mostly
# there is none; a library may still choose another algorithm on another stream. The wider one is
# that of the probe for bfloat16 (`app.devices`), rounded down.
_TOLERANCE = {torch.float32: 1e-3}
_HALF_TOLERANCE = 5e-2


class Recording(NamedTuple):
    """A recorded run: `replay` does it again and leaves the result in `output`."""

    output: StepOutput
    replay: Callable[[], None]


class Recorder(Protocol):
    """Records runs: `CudaRecorder`."""

    def record(self, run: Callable[[], StepOutput]) -> Recording:
        """Runs it as often as needed, and keeps what it did."""

    def forget(self) -> None:
        """Is told that no recording is held any more."""


class CudaRecorder:
    """Records what a run launches on one CUDA device; recordings share one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: tuple[int, int] | None = None

    def record(self, run: Callable[[], StepOutput]) -> Recording:
        """Runs it twice on a stream of its own, then records it there.

        Raises:
            RuntimeError: the run does what can't be recorded, or memory ran out.
        """
        before = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(before)
        graph = torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
        try:
            with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
                for _ in range(_WARM_UP_RUNS):
                    run()
                # other threads of the worker may ask for the card's memory meanwhile
                with torch.cuda.graph(
                    graph, self._pool, self._stream, capture_error_mode="thread_local"
                ):
                    output = run()
        finally:
            # torch leaves its own stream in place where the end of a recording fails
            torch.cuda.set_stream(before)
            before.wait_stream(self._stream)
        self._pool = graph.pool()  # type: ignore[no-untyped-call]
        return Recording(output, graph.replay)

    def forget(self) -> None:
        """Takes a new pool next time: torch refuses one that no graph holds any more."""
        self._pool = None


class _Held(NamedTuple):
    inputs: torch.Tensor
    recording: Recording


class StepGraphs:
    """The recordings of one decoder's steps, made when a shape comes up first.

    Args:
        step: of inputs [3, n] (`static_step.run_step`) and a span; doing it again changes nothing.
        recorder: records it.
        device: where the inputs have to be.
        most: recordings to hold; the one unused for longest goes.
    """

    #: why no decoder of this process replays anything any more; empty while they may
    distrusted: ClassVar[str] = ""

    def __init__(
        self,
        step: Callable[[torch.Tensor, int], StepOutput],
        recorder: Recorder,
        device: torch.device,
        most: int = MOST_GRAPHS,
    ) -> None:
        self._step = step
        self._recorder = recorder
        self._device = device
        self._most = most
        self._is_full = False
        self._held: OrderedDict[tuple[int, int], _Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Drops all recordings, because what they read and write is elsewhere now."""
        self._held.clear()

    def run(self, inputs: torch.Tensor, span: int, live: list[int]) -> StepOutput:
        """Does the step, replayed where it can be.

        Args:
            inputs: [3, n] on the host.
            span: of the step.
            live: the columns whose output counts.

        Returns:
            n rows; good until the next step.
        """
        if self._is_full or StepGraphs.distrusted:
            return self._step(inputs.to(self._device), span)
        held = self._held.get((inputs.shape[1], span))
        if held is None:
            return self._record(inputs, span, live)
        self._held.move_to_end((inputs.shape[1], span))
        held.inputs.copy_(inputs)
        held.recording.replay()
        return held.recording.output

    def _record(self, inputs: torch.Tensor, span: int, live: list[int]) -> StepOutput:
        """Records the step and does it: replayed, then as it is, which is what counts.

        The recording is made of other tokens, and its first replay comes before anything else has
        seen the right ones. So it is found out when a replay writes nothing, or what it was
        recorded with.
        """
        shape = (inputs.shape[1], span)
        given, static = inputs.to(self._device), inputs.to(self._device, copy=True)
        static[:2] = 0
        while len(self._held) >= self._most:
            self._held.popitem(last=False)
        if not self._held:
            self._recorder.forget()
        try:
            recording = self._recorder.record(lambda: self._step(static, span))
            for part in recording.output:
                part.fill_(torch.nan)
            static.copy_(given)
            recording.replay()
            replayed = StepOutput(*(part.clone() for part in recording.output))
        except torch.OutOfMemoryError as error:
            # less memory is needed without; a decoder made anew may find more
            self._is_full = True
            self._switch_off(shape, f"memory ran out: {error}")
            return self._step(given, span)
        except RuntimeError as error:
            StepGraphs.distrusted = f"{type(error).__name__}: {error}"
            self._switch_off(shape, StepGraphs.distrusted)
            return self._step(given, span)
        expected = self._step(given, span)
        apart = _distance(replayed, expected, live)
        if apart is None:  # another try when there are numbers to compare
            return expected
        if not apart <= _TOLERANCE.get(expected.latents.dtype, _HALF_TOLERANCE):
            StepGraphs.distrusted = f"a replayed step was off by {apart:.2g} of the largest value"
            self._switch_off(shape, StepGraphs.distrusted)
            return expected
        self._held[shape] = _Held(static, recording)
        return expected

    def _switch_off(self, shape: tuple[int, int], reason: str) -> None:
        self.clear()
        rows, span = shape
        _log.warning(
            "Steps are no longer replayed as CUDA graphs, which costs speed only: "
            "recording %d rows over %d positions: %s",
            rows,
            span,
            reason,
        )


def _distance(ours: StepOutput, true: StepOutput, live: list[int]) -> float | None:
    """Returns the largest error as a part of the largest value; None with nothing to compare.

    Rows whose true numbers are none are left out: that is a fault of their own.
    """
    largest = None
    for mine, theirs in zip(ours, true, strict=True):
        mine, theirs = mine[live].float(), theirs[live].float()
        whole = theirs.isfinite().all(dim=1)
        if not bool(whole.any()):
            return None
        scale = theirs[whole].abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        apart = float((mine - theirs)[whole].abs().max() / scale)
        if largest is None or not apart <= largest:
            largest = apart
    return largest
