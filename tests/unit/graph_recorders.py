"""Recorders that call a step again where CUDA would replay it: right, wrong, and not at all."""

from __future__ import annotations

from collections.abc import Callable

from app.engine.decoder import StepOutput
from app.engine.run_graphs import Recording


class Again:
    """Records a run as what to call again; `fault` is done to what a replay gives."""

    def __init__(self, fault: Callable[[StepOutput], None] = lambda _: None) -> None:
        self.num_recorded = self.num_replayed = self.num_forgotten = 0
        self._fault = fault

    def record(self, run: Callable[[], StepOutput]) -> Recording:
        self.num_recorded += 1
        output = StepOutput(*(part.clone() for part in run()))

        def replay() -> None:
            self.num_replayed += 1
            for kept, new in zip(output, run(), strict=True):
                kept.copy_(new)
            self._fault(output)

        return Recording(output, replay)

    def forget(self) -> None:
        self.num_forgotten += 1


class Broken:
    """Fails to record."""

    def __init__(self, error: Exception) -> None:
        self.num_recorded = 0
        self._error = error

    def record(self, run: Callable[[], StepOutput]) -> Recording:
        self.num_recorded += 1
        raise self._error

    def forget(self) -> None:
        pass


class Frozen(Again):
    """Its replays give what was recorded, whatever went in since."""

    def record(self, run: Callable[[], StepOutput]) -> Recording:
        recording = super().record(run)
        first = StepOutput(*(part.clone() for part in recording.output))

        def replay() -> None:
            for kept, old in zip(recording.output, first, strict=True):
                kept.copy_(old)

        return Recording(recording.output, replay)


class Idle(Again):
    """Its replays do nothing."""

    def record(self, run: Callable[[], StepOutput]) -> Recording:
        return Recording(super().record(run).output, lambda: None)
