"""The engine loop by itself, in one thread, with a script of messages."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

import pytest
from fake_engine import OK, FakeEngine

from app.errors import DeviceError
from app.messages import Audio, Cancel, Done, Failed, PrepareVoice, Speak, Stop, ToWorker
from app.settings import Settings
from app.worker.loop import Answer, EngineLoop


def speak(request_id: str, text: str = "") -> Speak:
    return Speak(id=request_id, text=text, voice="anna", language="en")


class Bench:
    """A loop with what it was told and what it said."""

    def __init__(self, *messages: ToWorker, engine: FakeEngine | None = None) -> None:
        self.inbox: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        self.said: list[Answer] = []
        self.on_answer: Callable[[Answer], None] = lambda answer: None
        self.engine = engine or FakeEngine(Settings())
        self.loop = EngineLoop(self.engine, self.inbox, self.hear)
        for message in messages:
            self.inbox.put(message)

    def hear(self, answer: Answer) -> None:
        self.said.append(answer)
        self.on_answer(answer)

    def of(self, request_id: str) -> list[str]:
        return [type(answer).__name__ for answer in self.said if answer.id == request_id]

    def error(self, request_id: str) -> dict[str, object]:
        (failed,) = (a for a in self.said if isinstance(a, Failed) and a.id == request_id)
        return failed.error


def test_requests_share_the_steps_and_each_ends_with_done() -> None:
    bench = Bench(speak("a", "steps=2"), speak("b", "steps=3"), Stop(grace_s=10))
    bench.loop.run()
    assert bench.of("a") == ["Audio", "Audio", "Done"]
    assert bench.of("b") == ["Audio", "Audio", "Audio", "Done"]
    assert [answer.id for answer in bench.said[:4]] == ["a", "b", "a", "a"]
    assert bench.loop.step_age_s == 0


def test_a_cancel_takes_effect_before_the_next_step() -> None:
    bench = Bench(speak("a", "steps=1000"), speak("b", "steps=4"), Stop(grace_s=10))
    bench.on_answer = lambda answer: bench.inbox.put(Cancel("a")) if answer.id == "a" else None
    bench.loop.run()
    assert bench.of("a") == ["Audio"]
    assert bench.of("b")[-1] == "Done"
    assert bench.engine.num_rows == 0


def test_a_request_that_is_cancelled_before_it_began_never_begins() -> None:
    bench = Bench(speak("a"), Cancel("a"), Cancel("unknown"), Stop(grace_s=1))
    bench.loop.run()
    assert bench.said == []


def test_a_refused_and_a_buggy_request_leave_the_others_alone() -> None:
    bench = Bench(
        *(speak("no", "refuse"), speak("bug", "bug"), speak("ok")),
        *(PrepareVoice("voice", "anna"), PrepareVoice("bad", "nobody"), Stop(grace_s=10)),
    )
    bench.loop.run()
    assert bench.error("no")["kind"] == "InputError"
    assert bench.error("bad")["param"] == "voice"
    assert bench.error("bug")["kind"] == "AudioVoiceError"
    assert bench.of("ok")[-1] == "Done"
    assert bench.of("voice") == ["Done"]


@pytest.mark.parametrize(
    ("text", "error"), [("poison", RuntimeError), ("device", DeviceError)], ids=["step", "submit"]
)
def test_what_breaks_the_engine_is_told_to_all_and_ends_the_loop(
    text: str, error: type[Exception]
) -> None:
    bench = Bench(speak("a", "steps=1000"), speak("b", text), speak("c"))
    with pytest.raises(error):
        bench.loop.run()
    assert bench.error("a")["kind"] == bench.error("b")["kind"] == "UnavailableError"
    assert bench.error("c")["kind"] == "UnavailableError"


def test_a_request_that_the_engine_forgot_does_not_wait_for_ever() -> None:
    bench = Bench(speak("a", "forget"), Stop(grace_s=10))
    bench.loop.run()
    assert "lost" in str(bench.error("a")["message"])


def test_after_a_stop_nothing_new_begins_and_the_grace_ends_the_rest() -> None:
    bench = Bench(speak("a", "steps=100000 sleep=0.01"), Stop(grace_s=0.3), speak("late"))
    started = time.monotonic()
    bench.loop.run()
    assert 0.3 <= time.monotonic() - started < 2
    assert bench.error("a")["kind"] == bench.error("late")["kind"] == "UnavailableError"
    assert bench.of("a").count("Audio") > 5


def test_nothing_is_sent_twice_or_after_the_end() -> None:
    bench = Bench(speak("a", "steps=1"), Stop(grace_s=1))
    bench.loop.run()
    bench.loop._emit(Done(id="a"))
    bench.loop._emit(Audio(id="a", segment=0, num_segments=1, pcm=b"", verdict=OK))
    assert bench.of("a") == ["Audio", "Done"]
