"""Makes the FastAPI app of one service. No globals: everything hangs on the app made here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app import __version__
from app.api import aliases, models, speech, status, system, voices
from app.api.context import Context
from app.api.edge import Edge
from app.api.engine import Engine
from app.api.errors import install_error_handlers
from app.api.openapi import install_openapi
from app.api.queue import queue_length
from app.api.slots import Slots
from app.metrics import Gauges, Metrics, ModelGauges
from app.models.registry import ModelRegistry
from app.settings import Settings
from app.supervisor.handover import Handover
from app.voices.store import VoiceStore

_EXPOSED_HEADERS = (
    *("X-Request-Id", "X-Audio-Verdict", "X-Audio-Seed", "X-Audio-Language"),
    *("X-Audio-Route", "X-Audio-Model"),
    *("Retry-After", "X-Should-Retry"),
)


def create_app(
    settings: Settings,
    engine: Engine,
    store: VoiceStore | None = None,
    registry: ModelRegistry | None = None,
) -> FastAPI:
    """Returns the app; its lifespan starts and stops the engine.

    Args:
        settings: what the program was started with.
        engine: the workers' supervisor.
        store: the uploaded voices; the settings' folder if None.
        registry: the models by name; what the settings say if None.
    """
    registry = registry or ModelRegistry(settings)
    context = Context(
        settings=settings,
        engine=engine,
        registry=registry,
        handover=Handover(engine, registry, settings.worker_start_timeout_s),
        store=store or VoiceStore(settings.voices_dir, settings.max_voices),
        metrics=Metrics(),
        speech_slots=Slots(
            lambda: queue_length(settings, engine.models).places,
            what="speech requests",
            key="MAX_QUEUE",
            code="queue_full",
        ),
        upload_slots=Slots(
            lambda: settings.max_uploads,
            what="uploads",
            key="MAX_UPLOADS",
            code="too_many_uploads",
        ),
    )
    context.metrics.watch(lambda: _gauges(context))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        try:
            yield
        finally:
            await engine.stop()

    app = FastAPI(
        title="audio-voice",
        version=__version__,
        description="Text to speech in a voice you choose, with OpenAI's routes.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.context = context
    for module in (speech, models, aliases, voices, status, system):
        app.include_router(module.router)
    install_error_handlers(app)
    install_openapi(app)
    app.add_middleware(Edge, metrics=context.metrics)
    _allow_origins(app, settings)
    return app


def _allow_origins(app: FastAPI, settings: Settings) -> None:
    """Lets pages of CORS_ORIGINS call. Added last, so it also covers the edge's own answers."""
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )


def _gauges(context: Context) -> Gauges:
    state, models = context.engine.state, context.engine.models
    signs = [sign for model in models if (sign := model.state.heartbeat)]
    return Gauges(
        queue_depth=context.speech_slots.num_taken,
        uploads=context.upload_slots.num_taken,
        worker_ready=state.ready is not None,
        worker_restarts=context.engine.num_restarts,
        worker_rows=sum(sign.rows for sign in signs),
        worker_waiting=sum(sign.waiting for sign in signs),
        worker_rss_bytes=sum(sign.rss_bytes for sign in signs),
        device_bytes=sum(s.device_memory.used_bytes for s in signs if s.device_memory),
        benched={bench.device: bench.reason for bench in state.benched},
        models=tuple(
            ModelGauges(
                name=model.name,
                is_ready=model.state.phase == "ready",
                leases=model.leases,
                need_bytes=model.need_bytes,
                stage_bytes=model.stages,
            )
            for model in models
        ),
        budgets={
            budget.place: budget.limit_bytes
            for budget in context.engine.budgets
            if budget.limit_bytes is not None
        },
    )
