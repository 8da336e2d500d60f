"""`python -m app serve`: the synthesis API until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket

import uvicorn

from app.api.factory import create_app
from app.commands.terminal import note, say
from app.errors import SettingsError
from app.models.registry import ModelRegistry
from app.settings import Settings
from app.supervisor.pool import EnginePool

#: How often a start is looked at for a fault that no restart cures.
_WATCH_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--host", help="address to listen on (API_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on (API_PORT); 0 takes a free one")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Serves until it is told to stop.

    Returns:
        0 after a clean shutdown; 2 when the model can't be loaded at all.

    Raises:
        SettingsError: the address can't be listened on.
    """
    given = {"api_host": arguments.host, "api_port": arguments.port}
    settings = settings.model_copy(update={k: v for k, v in given.items() if v is not None})
    logging.getLogger().setLevel(settings.log_level.upper())
    with _listen(settings) as listener:
        host, port = listener.getsockname()[:2]
        say(f"audio-voice listens on http://{f'[{host}]' if ':' in host else host}:{port}")
        return asyncio.run(_serve(settings, listener))


def _listen(settings: Settings) -> socket.socket:
    """Binds before anything is loaded, so that a port in use is told at once."""
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.api_host, settings.api_port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"API_HOST={settings.api_host} API_PORT={settings.api_port} can't be listened on: "
            f"{error.strerror}; choose another port, or end what uses it.",
            param="API_PORT",
        ) from error
    listener.set_inheritable(False)
    return listener


async def _serve(settings: Settings, listener: socket.socket) -> int:
    registry = ModelRegistry(settings)
    engine = EnginePool(settings, registry)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings, engine, registry=registry),
            log_level=settings.log_level,
            access_log=settings.log_level == "debug",
            server_header=False,
            # Requests in flight finish before the engine is told to stop.
            timeout_graceful_shutdown=round(settings.shutdown_grace_s),
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises a signal again after it has shut down for it; a clean end is code 0.
        signal.signal(number, lambda *_: None)
    watch = asyncio.create_task(_stop_if_hopeless(engine, server))
    await server.serve(sockets=[listener])
    watch.cancel()
    return 2 if watch.done() and not watch.cancelled() and watch.result() else 0


async def _stop_if_hopeless(engine: EnginePool, server: uvicorn.Server) -> bool:
    """Ends the program when its first start fails for a cause that no restart cures.

    Returns:
        Whether it did.
    """
    while engine.state.phase in ("starting", "stopped"):
        await asyncio.sleep(_WATCH_S)
    if engine.state.phase != "failed":
        return False
    note(f"error: {engine.state.reason}")
    server.should_exit = True
    return True
