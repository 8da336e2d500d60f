"""Status, readiness, metrics, lists of models, the page, and the OpenAPI document."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
from app_calls import call_app
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from scripted_engine import Script, ScriptedEngine

import app as package
from app.api.factory import create_app
from app.devices.benches import BenchedDevice
from app.devices.fingerprint import fingerprint
from app.devices.probe import cache_path
from app.devices.report import ProbeReport
from app.errors import OutputError
from app.messages import DeviceMemory, Heartbeat, Verdict
from app.metrics import Metrics
from app.settings import Settings

Call = Callable[..., httpx.Response]


def test_alive_whatever_the_engine_does(engine: ScriptedEngine, call: Call) -> None:
    engine.state.ready = None
    engine.state.phase = "failed"
    assert call("GET", "/health").json() == {"status": "ok"}
    assert call("HEAD", "/health").status_code == 200


def test_ready_says_on_what(call: Call) -> None:
    reply = call("GET", "/ready")
    assert reply.status_code == 200
    assert reply.json()["device"] == "cpu"
    assert reply.json()["device_reason"] == "asked for"
    assert reply.json()["notes"]
    assert call("HEAD", "/ready").status_code == 200


def test_root_is_json_for_programs_and_a_page_for_browsers(call: Call) -> None:
    for accept in ("*/*", "application/json"):
        reply = call("GET", "/", headers={"Accept": accept})
        assert reply.json()["status"] == "ready"
        assert reply.json()["version"] == package.__version__
        assert reply.headers["vary"] == "Accept"
    page = call("GET", "/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_page_needs_nothing_from_elsewhere_and_labels_its_fields(call: Call) -> None:
    page = call("GET", "/", headers={"Accept": "text/html"}).text
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert all(link.startswith(("/", "data:")) for link in links)
    assert not re.findall(r"""(?:@import|url\()""", page)
    fields = set(re.findall(r'<(?:textarea|select|input)[^>]*\bid="([^"]+)"', page))
    labels = set(re.findall(r'<label for="([^"]+)"', page))
    assert fields == labels
    assert 'lang="en"' in page
    assert 'role="alert"' in page


def test_models(engine: ScriptedEngine, call: Call) -> None:
    listed = call("GET", "/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == [
        *("builtin", "tts-1", "tts-1-hd", "gpt-4o-mini-tts")
    ]
    assert {model["object"] for model in listed["data"]} == {"model"}
    assert call("GET", "/v1/models/tts-1").json()["alias_of"] == "builtin"
    assert call("GET", "/v1/models/builtin").json()["alias_of"] is None
    audio = call("GET", "/v1/audio/models").json()
    assert [model["id"] for model in audio["models"]] == [model["id"] for model in listed["data"]]
    assert listed["data"][0]["state"] == "ready"
    engine.state.phase, engine.state.ready = "starting", None
    assert call("GET", "/v1/models").json()["data"][0]["state"] == "starting"


def samples_of(text: str) -> dict[str, float]:
    """Returns each sample of a scrape under its name with its labels."""
    return {
        sample.name + "".join(f"|{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_what_happened(engine: ScriptedEngine, call: Call) -> None:
    def post() -> int:
        return call("POST", "/v1/audio/speech", json={"input": "Hello."}).status_code

    engine.script = Script(chunk_s=0.5, verdict=Verdict("retried", 1, 2))
    assert post() == 200
    engine.script = Script(fail_at=0, error=OutputError("Silent."))
    assert post() == 500
    assert call("POST", "/v1/audio/speech", json={"input": ""}).status_code == 400
    assert call("GET", "/some/path").status_code == 404
    engine.state.restarts = 3
    engine.state.heartbeat = Heartbeat(0, 2, 5, rss_bytes=1000, stages={"decode": 900})
    reply = call("GET", "/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    seen = samples_of(reply.text)
    route = "audio_voice_requests_total|POST|/v1/audio/speech"
    assert [seen[f"{route}|{status}"] for status in (200, 400, 500)] == [1, 1, 1]
    assert seen["audio_voice_requests_total|GET|unmatched|404"] == 1
    assert seen["audio_voice_speeches_total|complete"] == 1
    assert seen["audio_voice_speeches_total|failed"] == 1
    assert seen["audio_voice_audio_seconds_total"] == 0.5
    assert seen["audio_voice_first_audio_seconds_count"] == 1
    assert seen["audio_voice_speech_seconds_count"] == 1
    assert seen["audio_voice_real_time_factor_count"] == 1
    assert seen["audio_voice_verdicts_total|retried"] == 1
    assert seen["audio_voice_verdicts_total|failed"] == 1
    assert seen["audio_voice_segment_retries_total"] == 2
    assert seen["audio_voice_worker_restarts_total"] == 3
    assert seen["audio_voice_worker_ready"] == 1
    assert seen["audio_voice_worker_rows"] == 2
    assert seen["audio_voice_worker_waiting"] == 5
    assert seen["audio_voice_model_ready|builtin"] == 1
    assert seen["audio_voice_stage_peak_bytes|builtin|decode"] == 900
    assert seen["audio_voice_queue_depth"] == 0
    assert not [name for name in seen if name.startswith("audio_voice_device_benched")]


def test_a_benched_device_is_told_everywhere(engine: ScriptedEngine, call: Call) -> None:
    engine.state.benched = (BenchedDevice("cuda", "3 workers lost", 42.0),)
    told = {"device": "cuda", "reason": "3 workers lost", "review_in_s": 42.0}
    assert call("GET", "/ready").json()["benched"] == [told]
    assert call("GET", "/v1/system").json()["benched"] == [told]
    seen = samples_of(call("GET", "/metrics").text)
    assert seen["audio_voice_device_benched|cuda|3 workers lost"] == 1


def test_system_tells_routes_memory_and_remembered_probes(
    engine: ScriptedEngine, settings_of: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = settings_of(cache_dir=tmp_path, device="cpu", api_keys=["k"])
    app = create_app(settings, engine)

    def ask() -> httpx.Response:
        return call_app(app, "GET", "/v1/system", headers={"Authorization": "Bearer k"})

    assert call_app(app, "GET", "/v1/system").status_code == 401
    memory = DeviceMemory(used_bytes=1, peak_bytes=2, free_bytes=3, total_bytes=4)
    engine.state.heartbeat = Heartbeat(0, 0, 0, rss_bytes=1000, device_memory=memory)
    engine.state.restarts = 2
    told = ask().json()
    assert told["device"] == "cpu"
    assert told["routes"] == [{"name": "device", "choice": "cpu", "reason": "asked for"}]
    assert told["memory"]["worker_bytes"] == 1000
    assert told["memory"]["device"] == msgspec.structs.asdict(memory)
    assert 0 < told["memory"]["host_free_bytes"] < told["memory"]["host_total_bytes"]
    assert told["restarts"] == 2
    assert told["probes"] == {"is_running": False, "reports": []}

    stack = fingerprint()
    report = ProbeReport("fft_error", "cpu", "cpu", "it broke", fingerprint=stack)
    path = cache_path(settings, "cpu", stack)
    path.parent.mkdir(parents=True)
    path.write_bytes(report.to_json())
    engine.state.ready = None
    engine.state.phase, engine.state.reason = "starting", "trying out the GPU, for 5 s so far"
    told = ask().json()
    assert told["probes"]["is_running"]
    assert [r["verdict"] for r in told["probes"]["reports"]] == ["fft_error"]
    assert told["routes"] == []


def test_two_services_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.count_request("GET", "/", 200)
    assert b'audio_voice_requests_total{method="GET"' in one.render()
    assert b'audio_voice_requests_total{method="GET"' not in other.render()


def test_the_document_is_whole(app: FastAPI, call: Call) -> None:
    document = call("GET", "/openapi.json").json()
    schemas = document["components"]["schemas"]
    refs = set(re.findall(r'"#/components/schemas/([^"]+)"', call("GET", "/openapi.json").text))
    assert refs <= set(schemas)
    assert "HTTPValidationError" not in schemas
    speech = document["paths"]["/v1/audio/speech"]["post"]
    statuses = {"200", "400", "401", "404", "413", "429", "500", "503", "507"}
    assert set(speech["responses"]) == statuses
    assert "audio/mpeg" in speech["responses"]["200"]["content"]
    assert "422" not in str(document["paths"])
    assert schemas["SpeechRequest"]["required"] == ["input"]
    assert call("GET", "/docs").status_code == 200


def test_the_api_starts_without_what_only_some_requests_need() -> None:
    heavy = {"torch", "av", "soundfile", "tokenizers", "scipy", "TTS", "transformers"}
    code = f"import sys, app.api.factory; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    root = Path(package.__file__).parent.parent
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, check=False, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
