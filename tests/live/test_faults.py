"""A running service on a stack that breaks: what each fault costs the client, and what goes on.

One service for all; its workers are broken one after the other by `tests/faults`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from faulty_service import READY_S, STALL_S, FaultyService, faulty_service
from listening import samples_of

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.fixture(scope="module")
def others() -> set[int]:
    """Processes of a server that other test modules share."""
    return children()


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory,
    others: set[int],  # looked at before the service starts
) -> Iterator[FaultyService]:
    with faulty_service(tmp_path_factory.mktemp("faulty")) as running:
        yield running


@pytest.fixture(autouse=True)
def whole_again(service: FaultyService, others: set[int]) -> Iterator[None]:
    """Every test finds a service that works, and leaves no process of a former worker."""
    service.wait_until_ready()
    yield
    service.disarm()
    service.wait_until_ready()
    assert children() - others == {service.engine.state.pid}


def is_lost(answer: httpx.Response) -> str:
    """Checks that it is a 503 that says when to come back; returns its words."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    message: str = answer.json()["error"]["message"]
    return message


def test_numbers_that_are_none_end_the_request_and_the_worker(service: FaultyService) -> None:
    service.arm("step", "nan")
    with service.new_worker():
        answer = service.speak()
        assert answer.status_code == 500
        assert "numbers that are none" in answer.json()["error"]["message"]
        while service.engine.state.phase == "ready":  # it finds that it can't speak at all
            time.sleep(0.01)
        service.disarm()
    assert service.speak().status_code == 200


def test_memory_that_runs_out_in_a_step_costs_some_speed_only(service: FaultyService) -> None:
    alone = samples_of(service.speak(guidance_scale=1).content, "wav")
    service.arm("step", "full 1")
    restarts = service.system()["restarts"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: service.speak(guidance_scale=1), range(4)))
    assert [samples_of(answer.content, "wav") for answer in answers] == [alone] * 4
    assert "cpu; rows=1" in {answer.headers["X-Audio-Route"] for answer in answers}
    assert service.system()["restarts"] == restarts


@pytest.mark.parametrize(
    ("fault", "words"),
    [("hang", "stuck in one step"), ("segv", "SIGSEGV"), ("abort", "SIGABRT")],
)
def test_a_step_that_does_not_end_well(service: FaultyService, fault: str, words: str) -> None:
    service.arm("step", fault)
    started = time.monotonic()
    with service.new_worker():
        assert words in is_lost(service.speak())
        service.disarm()
        assert time.monotonic() - started < STALL_S + 10
    assert service.speak().status_code == 200


@pytest.mark.parametrize("fault", ["fft_error", "fft_hang"])
def test_a_broken_fft_costs_one_upload(service: FaultyService, fault: str) -> None:
    service.later_s += 3600  # the last probe is long ago
    service.arm("stft", fault)
    with service.new_worker():
        is_lost(service.upload(f"first-{fault}"))
    assert service.route("spectra") == "dft"
    (report,) = service.system()["probes"]["reports"]
    assert report["verdict"] == fault
    answer = service.upload(f"second-{fault}")
    assert answer.status_code == 201, answer.text
    assert service.speak(voice=f"second-{fault}").status_code in (200, 500)  # what the clip allows

    # with the fault gone and forgotten, the FFT is used again
    service.disarm()
    for path in (service.folder / "cache" / "probe").iterdir():
        path.unlink()
    service.renew_worker()
    assert service.route("spectra") == "device"
    assert service.upload(f"third-{fault}").status_code == 201


def test_no_memory_on_the_gpu_moves_the_request_to_the_cpu(service: FaultyService) -> None:
    alone = samples_of(service.speak().content, "wav")
    service.arm("gpu", "yes")
    service.renew_worker()
    assert service.speak().headers["X-Audio-Route"] == "cuda"
    service.arm("step", "full 0")
    started = time.monotonic()
    answer = service.speak()
    assert answer.status_code == 200
    assert time.monotonic() - started < READY_S
    assert answer.headers["X-Audio-Route"] == "cpu; instead-of=cuda"
    assert samples_of(answer.content, "wav") == alone
    (benched,) = service.system()["benched"]
    assert benched["device"] == "cuda"
    assert "CUDA out of memory" in benched["reason"]
    ready = service.client.get(f"{service.url}/ready").json()
    assert "cuda is benched" in ready["device_reason"]
    assert 'device_benched{device="cuda"' in service.client.get(f"{service.url}/metrics").text
