"""Where a worker runs when it is told so, or when a probe of the CPU is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from app.devices import probe as probe_module
from app.devices.fingerprint import fingerprint
from app.devices.place_order import PlaceOrder
from app.devices.probe import cache_path, cached_report
from app.devices.report import DtypeResult, ProbeReport
from app.errors import DeviceError
from app.settings import Settings
from app.supervisor.recovery import Recovery
from app.synthesis import placing
from app.synthesis.placing import Placement, place_model

RIGHT = (DtypeResult("float32", True, 1e-6, "right"),)


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[..., Settings]:
    def make(**fields: object) -> Settings:
        return Settings(_env_file=None, cache_dir=tmp_path, **fields)

    return make


def remember(settings: Settings, device: str, report: ProbeReport) -> Path:
    path = cache_path(settings, device, report.fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(report.to_json())
    return path


def broken_fft(device: str = "cpu") -> ProbeReport:
    return ProbeReport(
        *("fft_error", device, "cpu", "it raised an error"),
        dtypes=RIGHT,
        fft_right=False,
        dft_right=True,
        fingerprint=fingerprint(),
    )


def route(place: Placement, name: str) -> str:
    return next(r.choice for r in place.routes if r.name == name)


def say_nothing(_words: str) -> None:
    pass


def test_a_cpu_that_nobody_doubts_is_not_tried(settings_of: Callable[..., Settings]) -> None:
    told: list[str] = []
    place = place_model(settings_of(force_cpu=True), told.append)
    assert (place.device.type, place.fft_route, place.reason) == ("cpu", "device", "FORCE_CPU")
    assert route(place, "precision") == "float32"
    assert told == []


def test_what_is_remembered_of_the_cpu_decides_its_spectra(
    settings_of: Callable[..., Settings],
) -> None:
    settings = settings_of(device="cpu")
    remember(settings, "cpu", broken_fft())
    place = place_model(settings, say_nothing)
    assert place.fft_route == route(place, "spectra") == "dft"


def test_an_order_wins_over_device_and_precision(settings_of: Callable[..., Settings]) -> None:
    settings = settings_of(device="cuda", precision="float16")
    place = place_model(settings, say_nothing, PlaceOrder("cpu", "cuda is benched: it hangs"))
    assert place.device.type == "cpu"
    assert place.reason == "cuda is benched: it hangs"
    assert str(place.dtype) == "torch.float32"


def test_a_new_probe_is_made_where_one_is_ordered(
    settings_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, told, asked = settings_of(device="cpu"), list[str](), list[object]()

    def probe(_settings: Settings, device: str, use_cache: bool = True) -> ProbeReport:
        asked.append((device, use_cache))
        return broken_fft()

    monkeypatch.setattr(placing, "probe", probe)
    place = place_model(settings, told.append, PlaceOrder(reprobe=True))
    assert asked == [("cpu", False)]
    assert told == [f"{probe_module.PROBING} the CPU"]
    assert place.fft_route == "dft"


def test_a_suspicion_makes_the_service_forget(settings_of: Callable[..., Settings]) -> None:
    settings = settings_of(device="auto")
    paths = [remember(settings, name, broken_fft()) for name in ("auto", "cpu")]
    assert cached_report(settings, "cpu") is not None
    Recovery(settings)._forget("cpu")
    assert not any(path.exists() for path in paths)


def test_a_probe_that_fails_in_review_keeps_the_device_benched(
    settings_of: Callable[..., Settings],
) -> None:
    now = [0.0]

    def try_device(_device: str) -> ProbeReport:
        raise DeviceError("torch does not start.")

    recovery = Recovery(settings_of(), lambda: now[0], try_device)
    recovery._too_small.note_loss("cuda", "no memory", at_once=True)
    now[0] += 600
    asyncio.run(recovery.review())
    assert recovery.benched[0].reason == "torch does not start."
