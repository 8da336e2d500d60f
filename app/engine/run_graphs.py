"""Runs of fixed shapes, recorded once for each and replayed with one call: CUDA graphs.

A step or a prefill of 30 layers is some hundreds of kernels, each of which the host would have to
launch. No recording is trusted before it gave what the run itself gives; where one cannot be made
or is wrong, runs of its kind are done as they are from then on, with the reason in the log. Knows
nothing of what a run computes.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, NamedTuple, Protocol

import torch

from app.engine.decoder import StepOutput

_log = logging.getLogger(__name__)

#: steps of 8 numbers of rows, 1 to 128, over 5 spans, and prefills of 7 lengths
MOST_GRAPHS = 47
# Libraries set themselves up in the first run; what they do then can't be recorded.
_WARM_UP_RUNS = 2
# Largest error allowed, as a part of the largest true value. The kernels are the same, so mostly
# there is none; a library may still choose another algorithm on another stream. The wider one is
# that of the probe for bfloat16 (`app.devices`), rounded down.
_TOLERANCE = {torch.float32: 1e-3}
_HALF_TOLERANCE = 5e-2


class StaticRun(NamedTuple):
    """A run whose shapes and addresses are those of all others of its kind and shape.

    Done again with the same inputs it does the same again. What it has to be told is in the inputs
    alone: nothing is read from the host while it runs.
    """

    kind: str
    """`step` or `prefill`: those of one kind are trusted, or not, together."""
    shape: tuple[int, ...]
    function: Callable[..., StepOutput]
    """Takes the inputs, on the device."""
    inputs: tuple[torch.Tensor, ...]
    """On the host or on the device."""
    decoys: Callable[[], tuple[torch.Tensor, ...]]
    """Makes inputs of the same shapes, other than these, that do no harm if run before them."""
    places: Sequence[int]
    """The rows of the output that count."""
    written: Callable[[], Sequence[torch.Tensor]] = tuple
    """Gives what it fills beside its output, as views; it fills all of each."""
    zeroed: Callable[[], Sequence[torch.Tensor]] = tuple
    """Gives what it fills with zeros, as views that are not empty."""


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
    inputs: tuple[torch.Tensor, ...]
    recording: Recording


class RunGraphs:
    """The recordings of one decoder's runs, made when a shape comes up first.

    Args:
        recorder: records them.
        device: where the inputs have to be.
        most: recordings to hold; the one unused for longest goes.
    """

    #: kinds of runs that no decoder of this process replays any more, and why
    distrusted: ClassVar[dict[str, str]] = {}

    def __init__(self, recorder: Recorder, device: torch.device, most: int = MOST_GRAPHS) -> None:
        self._recorder = recorder
        self._device = device
        self._most = most
        self._is_full = False
        self._held: OrderedDict[tuple[str, tuple[int, ...]], _Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Drops all recordings, because what they read and write is elsewhere now."""
        self._held.clear()

    def do(self, run: StaticRun) -> StepOutput:
        """Does the run, replayed where it can be.

        Returns:
            Its output; good until the next run.
        """
        if self._is_full or run.kind in RunGraphs.distrusted:
            return do_plainly(run, self._device)
        key = run.kind, run.shape
        held = self._held.get(key)
        if held is None:
            return self._record(run)
        self._held.move_to_end(key)
        _copy(run.inputs, held.inputs)
        held.recording.replay()
        return held.recording.output

    def _record(self, run: StaticRun) -> StepOutput:
        """Records the run and does it: replayed, then as it is, which is what counts.

        The recording is made of decoys, and its first replay comes before anything else has seen
        the right inputs. So it is found out when a replay writes nothing, or what it was recorded
        with.
        """
        while len(self._held) >= self._most:
            self._held.popitem(last=False)
        if not self._held:
            self._recorder.forget()
        try:
            held, replayed = self._try_out(run)
        except torch.OutOfMemoryError as error:
            # less memory is needed without; a decoder made anew may find more
            self._is_full = True
            self.clear()
            _warn("Nothing", run, f"memory ran out: {error}")
            return do_plainly(run, self._device)
        except RuntimeError as error:
            self._distrust(run, f"{type(error).__name__}: {error}")
            return do_plainly(run, self._device)
        expected = do_plainly(run, self._device)
        apart = _distance(replayed, _results(run, expected))
        if apart is None:  # another try when there are numbers to compare
            return expected
        if not apart <= _TOLERANCE.get(expected.latents.dtype, _HALF_TOLERANCE):
            self._distrust(run, f"a replayed one was off by {apart:.2g} of the largest value")
            return expected
        self._held[run.kind, run.shape] = held
        return expected

    def _try_out(self, run: StaticRun) -> tuple[_Held, list[torch.Tensor]]:
        """Records a run of decoys; returns that, and what its replay makes of the right inputs."""
        static = tuple(part.to(self._device, copy=True) for part in run.decoys())
        # what is kept knows nothing of `run`, which may hold a row
        recording = self._recorder.record(partial(run.function, *static))
        for part in (*recording.output, *run.written(), *run.zeroed()):
            part.fill_(torch.nan)
        _copy(run.inputs, static)
        recording.replay()
        return _Held(static, recording), [part.clone() for part in _results(run, recording.output)]

    def _distrust(self, run: StaticRun, reason: str) -> None:
        RunGraphs.distrusted[run.kind] = reason
        for key in [key for key in self._held if key[0] == run.kind]:
            del self._held[key]
        _warn(f"A {run.kind}", run, reason)


def do_plainly(run: StaticRun, device: torch.device) -> StepOutput:
    """Does the run as it is."""
    return run.function(*(send(part, device) for part in run.inputs))


def send(part: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Returns it on the device, without waiting until it is there."""
    return _pinned(part, device).to(device, non_blocking=True)


def _copy(inputs: Sequence[torch.Tensor], static: Sequence[torch.Tensor]) -> None:
    """Puts inputs where a recording reads them, without waiting until they are there."""
    for there, part in zip(static, inputs, strict=True):
        there.copy_(_pinned(part, there.device), non_blocking=True)


def _pinned(part: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Returns what can be copied while the host goes on; torch keeps it until that is done."""
    is_far = device.type == "cuda" and part.device.type == "cpu"
    return part.pin_memory() if is_far else part


def _warn(what: str, run: StaticRun, reason: str) -> None:
    _log.warning(
        "%s is no longer replayed as a CUDA graph, which costs speed only: "
        "recording a %s of shape %s: %s",
        what,
        run.kind,
        run.shape,
        reason,
    )


def _results(run: StaticRun, output: StepOutput) -> list[torch.Tensor]:
    """Returns all that a run gave and that counts, the output before what it wrote elsewhere.

    Of zeros the largest in each last dimension: they may be many, and copies of them are kept.
    """
    largest = [part.abs().amax(-1, keepdim=True) for part in run.zeroed()]
    return [*(part[run.places] for part in output), *run.written(), *largest]


def _distance(ours: Sequence[torch.Tensor], true: Sequence[torch.Tensor]) -> float | None:
    """Returns the largest error as a part of the largest value; None with nothing to compare.

    Rows whose true numbers are none are left out: that is a fault of their own.
    """
    errors = []
    for mine, theirs in zip(ours, true, strict=True):
        mine, theirs = mine.flatten(0, -2).float(), theirs.flatten(0, -2).float()
        whole = theirs.isfinite().all(dim=1)
        if not bool(whole.any()):
            return None
        scale = theirs[whole].abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        errors.append((mine - theirs)[whole].abs().max() / scale)
    return float(torch.stack(errors).max())  # no number where one of them is none
