"""How the service is: for programs, people, load balancers and Prometheus."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from app import __version__
from app.api.auth import KEY_NEEDED
from app.api.context import ContextDep
from app.api.notes import model_notes
from app.api.openapi import errors_of
from app.api.presence import in_thread
from app.api.schemas import Benched, Health, Readiness, ServiceStatus
from app.metrics import METRICS_CONTENT_TYPE
from app.supervisor.refusals import ready_or_raise

router = APIRouter(tags=["status"])

_PAGE = Path(__file__).parent.parent / "web" / "index.html"
# The page brings its own style and script, and talks to this service only.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; media-src blob:; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}


@router.get(
    "/",
    summary="Status, or the page for a browser",
    response_model=ServiceStatus,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def show_status(request: Request, context: ContextDep) -> Response:
    """Returns the status as JSON; a browser, which asks for HTML, gets the page."""
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_PAGE.read_text("utf-8"), headers=_PAGE_HEADERS)
    state = context.engine.state
    status = ServiceStatus(
        version=__version__,
        status=state.phase,
        reason=state.reason,
        model=context.registry.default,
        device=state.ready.device if state.ready else None,
        queue_depth=context.speech_slots.num_taken,
    )
    return JSONResponse(status.model_dump(), headers={"Vary": "Accept"})


@router.get("/health", summary="Is the process alive?")
async def show_health() -> Health:
    """Always 200: that it answers is the answer."""
    return Health()


@router.get("/ready", summary="Can it speak?", responses=errors_of(503))
async def show_readiness(context: ContextDep) -> Readiness:
    """Returns 200 when the default model has been loaded, warmed and has passed its own check.

    It stays 200 while that model has made room for another: the next request loads it again.
    """
    state = context.engine.state
    ready = ready_or_raise(state)
    return Readiness(
        model=context.registry.default,
        is_loaded=state.phase == "ready",
        version=ready.version,
        licence=ready.licence,
        languages=ready.languages,
        device=ready.device,
        device_reason=ready.device_reason,
        benched=[Benched.of(bench) for bench in state.benched],
        load_s=ready.load_s,
        warmup_s=ready.warmup_s,
        notes=await in_thread(model_notes, context.registry),
    )


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    dependencies=KEY_NEEDED,
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **errors_of(401),
    },
)
async def show_metrics(context: ContextDep) -> Response:
    """Returns all metrics in Prometheus' text format."""
    return Response(context.metrics.render(), media_type=METRICS_CONTENT_TYPE)


# Many health checks send HEAD, which FastAPI does not answer by itself.
router.add_api_route("/", show_status, methods=["HEAD"], include_in_schema=False)
router.add_api_route("/health", show_health, methods=["HEAD"], include_in_schema=False)
router.add_api_route("/ready", show_readiness, methods=["HEAD"], include_in_schema=False)
