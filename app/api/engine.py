"""What the HTTP side needs of an engine, as protocols.

`app.supervisor` offers the real one. Knows the messages of the worker, but nothing of sockets,
processes or HTTP.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from app.devices.benches import BenchedDevice
from app.messages import Audio, Done, Heartbeat, Ready, Speak
from app.supervisor.budget import Budget
from app.supervisor.loaded import ModelStatus


class EngineState(Protocol):
    """A snapshot of how the engine is; cheap to read, at any time."""

    @property
    def phase(self) -> str:
        """`starting`, `ready`, `restarting`, `failed`, `stopping`, `stopped` or `unloaded`."""

    @property
    def reason(self) -> str:
        """In words, why the phase is what it is: what is being loaded, or what went wrong."""

    @property
    def ready(self) -> Ready | None:
        """What the worker said when it was ready; None but for `ready` and `unloaded`."""

    @property
    def heartbeat(self) -> Heartbeat | None:
        """The worker's last sign of life, if it gave one."""

    @property
    def restarts(self) -> int:
        """Times a worker had to be started again."""

    @property
    def benched(self) -> tuple[BenchedDevice, ...]:
        """Devices that are not used for now, because workers kept failing on them."""

    @property
    def retry_after_s(self) -> float:
        """Seconds after which a client that finds the engine not ready should ask again."""


class SpeechStream(Protocol):
    """The audio of one request as it is made: an async iterator, complete when it ends."""

    @property
    def done(self) -> Done | None:
        """The worker's last word on the request; None until the iteration has ended."""

    def __aiter__(self) -> SpeechStream:
        """Returns itself."""

    async def __anext__(self) -> Audio:
        """Returns the next checked samples.

        Raises:
            AudioVoiceError: the request failed; what the worker, or the loss of it, said.
        """

    async def aclose(self) -> None:
        """Ends the request: the worker is told to cancel it unless it is complete. Idempotent."""


class Lease(Protocol):
    """A model that is loaded and ready, and stays so while it is held."""

    @property
    def model(self) -> str:
        """Its name."""

    @property
    def ready(self) -> Ready:
        """What its worker said when it became ready."""

    @property
    def state(self) -> EngineState:
        """How its worker is now."""

    def speak(self, request: Speak) -> SpeechStream:
        """Starts a request. Nothing is raised here; errors come from the iteration."""

    async def prepare_voice(self, voice: str) -> None:
        """Computes and caches a stored voice's conditioning.

        Raises:
            AudioVoiceError: the voice can't be used, or the worker is not there.
        """


class Engine(Protocol):
    """The models behind their supervisor, each in its own worker."""

    @property
    def state(self) -> EngineState:
        """How the default model is now."""

    @property
    def models(self) -> tuple[ModelStatus, ...]:
        """The models that have a worker, the default first."""

    @property
    def num_restarts(self) -> int:
        """Workers that had to be started again, of all models since the start."""

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """What the models may take together, for each place where one is loaded."""

    async def start(self) -> None:
        """Starts the default model's worker and returns at once, before it is loaded."""

    async def stop(self) -> None:
        """Stops the workers; requests in flight get the settings' grace to finish."""

    def lease(self, name: str, wait_s: float | None = None) -> AbstractAsyncContextManager[Lease]:
        """Holds a model for a request, and loads it first where it is not there.

        Args:
            name: the model's own name, no alias.
            wait_s: longest wait for it; MODEL_WAIT_S if None.

        Raises:
            DoesNotFitError: there can never be room for it.
            UnavailableError: it is not ready in time, was lost, or can't be used.
        """
