"""Fixtures that all tests share."""

from __future__ import annotations

import os

# As the worker does for itself (app/worker/process.py): before torch is imported anywhere.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest

from app.settings import TRAINING_KEYS, Settings


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests reaches them."""
    for name in (*Settings.model_fields, *TRAINING_KEYS):
        monkeypatch.delenv(name.upper(), raising=False)
