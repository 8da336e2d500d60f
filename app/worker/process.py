"""The engine worker's process: `python -m app.worker.process`, started by the supervisor.

The main thread does I/O and signals; the engine thread loads the model, warms it and runs it, and
torch is only ever imported there. Exit codes: 0 told to stop, 1 broken and worth a restart, 2 a
restart can't cure it (a missing file, a licence not accepted). Knows the model only by
`SynthesizerProtocol`.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from app.errors import (
    AudioVoiceError,
    InputError,
    ModelFileError,
    RefusedError,
    SettingsError,
)
from app.isolation import die_with_parent
from app.messages import PROTOCOL_VERSION, Failed, Heartbeat, Loading, Ready
from app.settings import Settings
from app.worker.link import EXIT_FAILED, EXIT_OK, WorkerLink
from app.worker.loop import EngineLoop, SynthesizerProtocol
from app.worker.order import WorkerOrder, unpack_settings

EXIT_INCURABLE = 2
#: Errors while loading that the same start would only meet again.
_INCURABLE = (ModelFileError, SettingsError, RefusedError, InputError)
#: Turns of libgomp's waiting loop before a thread sleeps: some tenths of a millisecond. With 2
#: threads on 2 cores, a step of 10 layers took 34 ms with 0, 22 with 1,000, 7 with 10,000.
_SPIN_COUNT = "10000"
_M_ARENA_MAX = -8  # malloc.h
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")

_log = logging.getLogger("worker")


class Worker:
    """One engine in one thread, and what it has to say for itself."""

    def __init__(self, order: WorkerOrder, settings: Settings, link: WorkerLink) -> None:
        self._order = order
        self._settings = settings
        self._link = link
        self._stage = "starting the worker"
        self._device = ""
        self._loop: EngineLoop | None = None

    def pulse(self) -> Loading | Heartbeat:
        """Returns the sign of life that fits: what is being loaded, or how the engine is."""
        loop = self._loop
        if loop is None:
            return Loading(stage=self._stage, device=self._device)
        return Heartbeat(
            step_age_s=loop.step_age_s,
            rows=loop.num_rows,
            waiting=loop.num_waiting,
            rss_bytes=_resident_bytes(),
            device_memory=loop.device_memory,
            stages=loop.stage_peaks,
        )

    def run_engine(self) -> None:
        """Loads and runs the engine to its end; the body of the engine thread."""
        code = EXIT_FAILED
        try:
            synthesizer, ready = self._load()
            self._loop = EngineLoop(synthesizer, self._link.inbox, self._link.send)
            self._link.engine_listens()
            self._link.send(ready)
            self._loop.run()
            code = EXIT_OK
        except Exception as error:  # noqa: BLE001 - the thread's boundary; it is told below
            incurable = self._loop is None and isinstance(error, (*_INCURABLE, ImportError))
            code = EXIT_INCURABLE if incurable else EXIT_FAILED
            self._link.send(Failed(id="", error=_as_ours(error).to_dict()))
        finally:
            self._link.finish(code)

    def _load(self) -> tuple[SynthesizerProtocol, Ready]:
        """Makes the engine and lets it speak one sentence."""
        started = time.monotonic()
        self._report("importing the engine")
        module, _, factory = self._order.synthesizer.partition(":")
        open_synthesizer = getattr(importlib.import_module(module), factory)
        synthesizer: SynthesizerProtocol = open_synthesizer(
            self._settings, self._report, self._order.place
        )
        loaded = time.monotonic()
        self._report("warming up")
        synthesizer.warm_up()
        return synthesizer, _describe(synthesizer, loaded - started, time.monotonic() - loaded)

    def _report(self, stage: str, device: str = "") -> None:
        self._stage = stage
        self._device = device or self._device
        self._link.send(Loading(stage=stage, device=self._device))


def main() -> int:
    """Runs a worker by the order on standard input and returns the process's exit code."""
    die_with_parent()
    # Threads that wait for each other by spinning take the core from whoever could use it, and
    # threads that sleep at once lose more time in waking than a step takes. So they spin for a
    # moment. libgomp reads this when torch is imported, later and elsewhere.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)
    _share_one_heap()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the api process
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=WorkerOrder)
    settings = unpack_settings(order.settings)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    link = WorkerLink(
        order.endpoint, order.identity, heartbeat_s=settings.heartbeat_s, parent=order.parent
    )
    signal.signal(signal.SIGTERM, lambda *_: link.stop(settings.shutdown_grace_s))
    worker = Worker(order, settings, link)
    engine = threading.Thread(target=worker.run_engine, name="engine", daemon=True)
    engine.start()
    try:
        return link.run(worker.pulse)
    finally:
        link.close()


def _share_one_heap() -> None:
    """Makes all threads allocate from one heap (glibc's mallopt(3); other C libraries have none).

    With a heap for each, what one thread freed is of no use to the others: a worker of XTTS-v2's
    size held 1.5 to 1.7 GB under the same load, as chance would have it.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def leave(code: int) -> None:
    """Ends the process without tearing the interpreter down.

    The engine thread may hang in a driver call, and GPU libraries are known to hang or crash when
    they are unloaded; the kernel takes everything back in any case.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _describe(synthesizer: SynthesizerProtocol, load_s: float, warmup_s: float) -> Ready:
    info = synthesizer.info
    return Ready(
        protocol=PROTOCOL_VERSION,
        model=info.model,
        version=info.version,
        licence=info.licence,
        languages=list(info.languages),
        voices=list(info.voices),
        default_voice=info.default_voice,
        sample_rate=info.sample_rate,
        device=info.device,
        device_reason=info.device_reason,
        load_s=load_s,
        warmup_s=warmup_s,
        routes=list(info.routes),
    )


def _as_ours(error: Exception) -> AudioVoiceError:
    """Maps what ended the engine to an error of ours; the traceback of a stranger is logged."""
    if isinstance(error, AudioVoiceError):
        _log.error("%s", error.message)
        return error
    _log.error("the engine ended with an error that nobody expected", exc_info=error)
    if isinstance(error, ImportError):
        return AudioVoiceError(
            f"The engine can't be imported ({error}): install the requirements again.",
            code="engine_import",
        )
    return AudioVoiceError(f"The engine failed: {type(error).__name__}: {error}", code="engine")


def _resident_bytes() -> int:
    """Returns the memory this process holds now; where /proc is missing, the most it ever held."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run_and_leave() -> None:
    """Runs `main` and ends the process with its code, whatever happens."""
    code = EXIT_FAILED
    try:
        code = main()
    except Exception:  # noqa: BLE001 - the process's boundary
        _log.exception("the worker's I/O thread broke")
    leave(code)


if __name__ == "__main__":
    run_and_leave()
