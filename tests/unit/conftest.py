"""Fixtures for the HTTP side: an app around a scripted engine, called over ASGI or a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from app_calls import call_app, serve
from fastapi import FastAPI
from scripted_engine import ScriptedEngine
from supervised import remember_others

from app.api.factory import create_app
from app.settings import Settings

Call = Callable[..., httpx.Response]


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[..., Settings]:
    def make(**overrides: Any) -> Settings:
        folders = {"voices_dir": tmp_path / "voices", "models_dir": tmp_path / "models"}
        return Settings(**{**folders, **overrides})

    return make


@pytest.fixture
def app(engine: ScriptedEngine, settings_of: Callable[..., Settings]) -> FastAPI:
    return create_app(settings_of(), engine)


@pytest.fixture
def call(app: FastAPI) -> Call:
    """Sends one request over ASGI and returns the whole answer."""
    return lambda method, url, **options: call_app(app, method, url, **options)


@pytest.fixture
def speak(call: Call) -> Call:
    """Posts one speech request over ASGI."""

    def post(**fields: Any) -> httpx.Response:
        return call("POST", "/v1/audio/speech", json={"input": "Hello there.", **fields})

    return post


@pytest.fixture
def served(app: FastAPI) -> Iterator[str]:
    """Address of the app behind a real socket."""
    with serve(app) as url:
        yield url


@pytest.fixture(autouse=True)
def others_remembered(request: pytest.FixtureRequest) -> None:
    """Only where a test looks at processes: counting them takes time."""
    if hasattr(request.module, "children"):
        remember_others()
