"""The models of the service: loaded when they are asked for, unloaded when nobody needs them.

One worker a model, so that the end of one touches no request of another. A model is held by every
request that uses it, and leaves when it was idle for long or when another needs its memory. Imports
no torch and starts fast.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from app.devices.benches import BenchedDevice, Benches
from app.devices.place_order import RowsOrder
from app.errors import AudioVoiceError, ModelFileError, NotFoundError, UnavailableError
from app.messages import Ready
from app.models.capacity import wanted_rows
from app.models.footprint import Footprint, Place, estimate_footprint
from app.models.registry import ModelRegistry
from app.settings import Settings
from app.supervisor.budget import Budget, budget_of, expected_place
from app.supervisor.client import EngineClient
from app.supervisor.loaded import LoadedModel, ModelLease, ModelStatus
from app.supervisor.recovery import Recovery
from app.supervisor.refusals import ready_or_raise, stopping
from app.supervisor.room import Placing, find_room
from app.supervisor.state import EngineState, absent_state

_TICK_S = 0.5
#: A model that could not be loaded is tried again at the first request after this.
_FORGET_FAILURE_S = 10.0
_ROOM_RETRY_S = 5.0

MakeEngine = Callable[[Settings, Benches, RowsOrder], EngineClient]

_log = logging.getLogger(__name__)


def _make_engine(settings: Settings, benches: Benches, rows: RowsOrder) -> EngineClient:
    return EngineClient(settings, recovery=Recovery(settings, shared=benches, rows=rows))


class EnginePool:
    """Workers by model; `app.api.engine.Engine` for the HTTP side.

    All methods are for the event loop's thread, which must be one that lives as long as the
    workers: the kernel kills a worker when the thread that started it ends.

    Args:
        settings: the service's.
        registry: which models there are, and which is the default.
        make_engine: makes the client of one worker from its settings and the rows it was given;
            the real one if left out.
    """

    def __init__(
        self,
        settings: Settings,
        registry: ModelRegistry | None = None,
        make_engine: MakeEngine = _make_engine,
    ) -> None:
        self._settings = settings
        self._registry = registry or ModelRegistry(settings)
        self._make_engine = make_engine
        self._benches = Benches()
        self._loaded: dict[str, LoadedModel] = {}
        #: What is known of models that were loaded before: what they said, what they took.
        self._last_ready: dict[str, Ready] = {}
        self._measured: dict[tuple[str, Place], Footprint] = {}
        self._absent: dict[str, str] = {}
        self._failures: dict[str, AudioVoiceError] = {}
        self._past_restarts = 0
        self._placing = asyncio.Lock()
        self._freed = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None
        self._is_started = False
        self._is_stopping = False

    @property
    def state(self) -> EngineState:
        """How the default model is, with all devices that are not used for now."""
        name = self._registry.default
        entry = self._loaded.get(name)
        state = entry.client.state if entry else self._absent_state(name)
        return replace(state, benched=self.benched)

    @property
    def models(self) -> tuple[ModelStatus, ...]:
        """The models that have a worker, the default first."""
        default = self._registry.default
        found = [entry.status(default) for entry in self._loaded.values()]
        return tuple(sorted(found, key=lambda status: (not status.is_default, status.name)))

    @property
    def num_restarts(self) -> int:
        """Workers that had to be started again, of all models since the start."""
        now = sum(entry.client.state.restarts for entry in self._loaded.values())
        return now + self._past_restarts

    @property
    def benched(self) -> tuple[BenchedDevice, ...]:
        """Devices that are not used for now, by all or by one model."""
        by_device = {bench.device: bench for bench in self._benches.benched}
        for entry in self._loaded.values():
            for bench in entry.client.state.benched:
                by_device.setdefault(bench.device, bench)
        return tuple(by_device.values())

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """What the models may take together, for each place that has one loaded."""
        places = sorted({entry.place for entry in self._loaded.values()})
        return tuple(self._budget(place) for place in places)

    async def start(self) -> None:
        """Starts the default model's worker and returns at once, before it is loaded."""
        self._is_started = True
        try:
            await self._load(self._registry.default, time.monotonic())
        except AudioVoiceError as error:
            _log.error("%s", error.message)
        if self._ticker is None:
            self._ticker = asyncio.create_task(self._tick_for_ever())

    async def stop(self, grace_s: float | None = None) -> None:
        """Stops every worker; requests in flight get the grace to finish. Idempotent.

        Args:
            grace_s: seconds; `SHUTDOWN_GRACE_S` if None.
        """
        self._is_stopping = True
        self._freed.set()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait({self._ticker})
        async with self._placing:  # nothing is being loaded or unloaded any more
            entries = list(self._loaded.values())
            await asyncio.gather(*(entry.client.stop(grace_s) for entry in entries))

    @asynccontextmanager
    async def lease(self, name: str, wait_s: float | None = None) -> AsyncIterator[ModelLease]:
        """Holds a model, and loads it first where it is not there.

        Args:
            name: the model's own, from `ModelRegistry.resolve`.
            wait_s: longest wait for room and for the load; MODEL_WAIT_S if None.

        Raises:
            NotFoundError: there is no such model.
            DoesNotFitError: it needs more memory than there may ever be for it.
            UnavailableError: it is not ready in time, its worker was lost, or it can't be loaded.
        """
        wait_s = self._settings.model_wait_s if wait_s is None else wait_s
        deadline = time.monotonic() + wait_s
        entry = await self._take(name, deadline)
        try:
            yield ModelLease(name, entry.client, await self._wait_until_ready(entry, deadline))
        finally:
            entry.leases -= 1
            entry.used_at = time.monotonic()
            self._freed.set()

    async def _take(self, name: str, deadline: float) -> LoadedModel:
        while True:
            if self._is_stopping:
                raise stopping()
            entry = self._loaded.get(name)
            if entry is not None and self._is_to_be_forgotten(entry):
                await self._unload((name,), "tried again after it could not be used")
            elif entry is not None:
                entry.leases += 1
                return entry
            await self._load(name, deadline)

    async def _wait_until_ready(self, entry: LoadedModel, deadline: float) -> Ready:
        """Waits for a model that loads; one that is being restarted is told of at once."""
        state = entry.client.state
        left_s = deadline - time.monotonic()
        if state.phase == "starting" and left_s > 0:
            try:
                await entry.client.wait_until_ready(left_s, max_crashes=state.num_crashes + 1)
            except AudioVoiceError:
                state = entry.client.state  # which says it with the time to come back
            else:
                state = entry.client.state
        return ready_or_raise(state)

    # --- loading and unloading ------------------------------------------------------------

    async def _load(self, name: str, deadline: float) -> None:
        """Starts a worker for a model, after others have made room for it."""
        async with self._placing:
            if name in self._loaded or self._is_stopping:
                return
            place = expected_place(self._settings, tuple(b.device for b in self.benched))
            try:
                need = self._footprint(name, place)
                placing = await self._make_room(name, need, place, deadline)
            except AudioVoiceError as error:
                self._failures[name] = error
                raise
            self._failures.pop(name, None)
            self._absent.pop(name, None)
            rows = RowsOrder(place, placing.rows, placing.reason)
            client = self._make_engine(self._registry.settings_for(name), self._benches, rows)
            self._loaded[name] = LoadedModel(
                name, client, place, need, placing.rows, placing.reason
            )
            _log.info("loading %s with at most %d rows: %s", name, placing.rows, placing.reason)
            await client.start()

    async def _make_room(
        self, name: str, need: Footprint, place: Place, deadline: float
    ) -> Placing:
        while True:
            default = self._registry.default
            tenants = [e.as_tenant(default) for e in self._loaded.values() if e.place == place]
            budget = self._budget(place)
            wanted = wanted_rows(self._settings, place, need, budget.limit_bytes)
            placing = find_room(name, need, budget, tenants, wanted)
            if placing is not None:
                await self._unload(placing.evict, f"unloaded to make room for {name}")
                return placing
            self._freed.clear()
            left_s = deadline - time.monotonic()
            try:
                await asyncio.wait_for(self._freed.wait(), max(0.0, left_s))
            except asyncio.TimeoutError as error:
                raise UnavailableError(
                    f"There is no memory for the model '{name}' while other models are in use; "
                    "try again after the seconds in Retry-After.",
                    code="no_room",
                    retry_after_s=_ROOM_RETRY_S,
                ) from error
            if self._is_stopping:
                raise stopping()

    async def _unload(self, names: tuple[str, ...], reason: str) -> None:
        """Ends the workers of models that nobody holds; a request from now on loads them anew."""
        entries = [self._loaded.pop(name) for name in names]
        for entry in entries:
            entry.measure()
            self._past_restarts += entry.client.state.restarts
            self._absent[entry.name] = reason
            self._measured[entry.name, entry.place] = entry.need
            if entry.ready is not None:
                self._last_ready[entry.name] = entry.ready
            _log.info("%s is %s", entry.name, reason)
        await asyncio.gather(*(entry.client.stop(0) for entry in entries))

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                await self._tick()
            except Exception:  # noqa: BLE001 - the next tick may go well; requests don't need it
                _log.exception("the models could not be looked after")

    async def _tick(self) -> None:
        """Notes what workers measured, and unloads what nobody needs any more."""
        now = time.monotonic()
        default = self._registry.default
        idle_s = self._settings.model_idle_s
        for entry in list(self._loaded.values()):
            entry.measure()
            if entry.leases:
                continue
            if entry.name == default:
                continue
            if self._is_to_be_forgotten(entry):
                await self._unload((entry.name,), "unloaded because it could not be used")
            elif idle_s and now - entry.used_at > idle_s:
                await self._unload((entry.name,), f"unloaded after MODEL_IDLE_S={idle_s:g}")

    def _is_to_be_forgotten(self, entry: LoadedModel) -> bool:
        is_old = time.monotonic() - entry.started_at > _FORGET_FAILURE_S
        return entry.is_failed and not entry.leases and is_old

    # --- what is known --------------------------------------------------------------------

    def _footprint(self, name: str, place: Place) -> Footprint:
        """Returns what a model will take: as it was measured, else as its files tell.

        A default model that is not there yet costs nothing: its worker fetches it, or says why not.
        """
        measured = self._measured.get((name, place))
        if measured is not None:
            return measured
        try:
            return estimate_footprint(self._registry.find(name), self._settings, place)
        except (NotFoundError, ModelFileError):
            if name != self._registry.configured:
                raise
            return Footprint(0, 1, 0)

    def _budget(self, place: Place) -> Budget:
        cards = [
            beat.device_memory.total_bytes
            for entry in self._loaded.values()
            if (beat := entry.client.state.heartbeat) and beat.device_memory
        ]
        return budget_of(self._settings, place, min(cards, default=None))

    def _absent_state(self, name: str) -> EngineState:
        if self._is_stopping:
            return absent_state("stopped", "the service has stopped")
        if not self._is_started:
            return absent_state("starting", "not started")
        failure = self._failures.get(name)
        if failure is not None:
            return absent_state("failed", failure.message, error=failure)
        reason = self._absent.get(name, "not loaded yet; the next request loads it")
        return absent_state("unloaded", reason, ready=self._last_ready.get(name))
