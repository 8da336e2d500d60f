"""Which voice a name means."""

from __future__ import annotations

import pytest

from app.errors import NotFoundError
from app.voices.catalog import resolve_voice
from app.voices.names import voice_id_of

ALIASES = {"alloy": "default", "narrator": "Ana", "loop": "pool", "pool": "loop", "lost": "nobody"}


def resolve(name: str | None, **changes: object) -> str:
    known: dict = {
        "bundle_voices": ["kathleen", "slt"],
        "stored": ["Ana", "Zoë", "nova"],
        "aliases": {**ALIASES, "nova": "slt"},
        "default": "kathleen",
    }
    return resolve_voice(name, **{**known, **changes})


@pytest.mark.parametrize(
    ("name", "voice"),
    [
        *(("kathleen", "kathleen"), ("SLT", "slt"), ("ana", "Ana"), (" Zoe\u0308 ", "Zoë")),
        *(("alloy", "kathleen"), ("Narrator", "Ana"), ("default", "kathleen")),
        *((None, "kathleen"), ("", "kathleen"), (voice_id_of("Ana"), "Ana")),
        ("nova", "nova"),  # uploaded, so it is meant before the alias of that name
    ],
)
def test_a_name_finds_its_voice(name: str | None, voice: str) -> None:
    assert resolve(name) == voice


def test_the_default_may_be_uploaded_or_an_alias_and_falls_back_to_the_first() -> None:
    assert resolve("alloy", default="ana") == "Ana"
    assert resolve("alloy", default="narrator") == "Ana"
    assert resolve("alloy", default="") == "kathleen"
    assert resolve("alloy", default="", bundle_voices=[]) == "Ana"


def test_the_model_s_voice_comes_before_an_upload_of_its_name() -> None:
    assert resolve("SLT", stored=["Slt"]) == "slt"


@pytest.mark.parametrize("name", ["bob", "loop", "lost", "../slt", "\ud800", voice_id_of("slt")])
def test_an_unknown_voice_is_never_replaced(name: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        resolve(name)
    assert caught.value.param == "voice"
    assert "kathleen, slt, Ana, Zoë, nova" in caught.value.message
    caught.value.message.encode()


def test_a_long_list_is_cut_and_counted() -> None:
    with pytest.raises(NotFoundError, match="v18 and 80 more") as caught:
        resolve("bob", stored=[f"v{i}" for i in range(1, 99)])
    assert caught.value.message.count(",") == 19


def test_no_voices_at_all() -> None:
    with pytest.raises(NotFoundError, match="none yet"):
        resolve(None, bundle_voices=[], stored=[], default="")
