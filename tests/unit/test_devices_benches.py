"""When a device is benched, for how long, and what brings it back."""

from __future__ import annotations

from app.devices.benches import LOSS_WINDOW_S, REVIEW_AFTER_S, Benches


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def bench_of_three(clock: Clock) -> Benches:
    benches = Benches(clock)
    for _ in range(3):
        benches.note_loss("cuda", "died of SIGSEGV")
    return benches


def test_the_third_loss_in_ten_minutes_benches_a_device() -> None:
    clock = Clock()
    benches = Benches(clock)
    assert not benches.note_loss("cuda", "died")
    clock.now += LOSS_WINDOW_S / 2
    assert not benches.note_loss("cuda", "died")
    clock.now += LOSS_WINDOW_S / 2
    assert benches.note_loss("cuda", "died of SIGSEGV")
    (benched,) = benches.benched
    assert benched.device == "cuda"
    assert benched.reason == "3 workers lost in 10 minutes: died of SIGSEGV"
    assert benched.review_in_s == REVIEW_AFTER_S


def test_losses_further_apart_do_not() -> None:
    clock = Clock()
    benches = Benches(clock)
    for _ in range(10):
        assert not benches.note_loss("cuda", "died")
        clock.now += LOSS_WINDOW_S / 2 + 1


def test_each_device_is_counted_for_itself_and_the_cpu_never() -> None:
    benches = Benches(Clock())
    assert not any(benches.note_loss("cpu", "died") for _ in range(9))
    assert not any(benches.note_loss("", "died before it chose") for _ in range(9))
    assert not any(benches.note_loss(device, "died") for device in ("cuda", "mps") * 2)
    assert benches.note_loss("mps", "died")
    assert [b.device for b in benches.benched] == ["mps"]


def test_want_of_memory_benches_at_once() -> None:
    benches = Benches(Clock())
    assert benches.note_loss("cuda", "out of memory", at_once=True)
    assert benches.benched[0].reason == "out of memory"


def test_a_review_falls_due_and_its_answer_counts() -> None:
    clock = Clock()
    benches = bench_of_three(clock)
    assert benches.take_due() is None
    clock.now += REVIEW_AFTER_S
    assert benches.take_due() == "cuda"
    assert benches.take_due() is None  # one review at a time
    benches.put_off("cuda")
    assert benches.take_due() == "cuda"
    benches.note_review("cuda", passed=False, reason="gpu_dead")
    assert benches.take_due() is None
    assert benches.benched[0].reason == "gpu_dead"
    assert benches.benched[0].review_in_s == 2 * REVIEW_AFTER_S
    clock.now += 2 * REVIEW_AFTER_S
    benches.note_review("cuda", passed=True, reason="ok")
    assert benches.benched == ()


def test_a_device_that_came_back_starts_with_a_clean_record_and_a_longer_bench() -> None:
    clock = Clock()
    benches = bench_of_three(clock)
    benches.note_review("cuda", passed=True, reason="ok")
    assert not benches.note_loss("cuda", "died")
    assert not benches.note_loss("cuda", "died")
    assert benches.note_loss("cuda", "died")
    assert benches.benched[0].review_in_s == 2 * REVIEW_AFTER_S


def test_a_loss_on_a_benched_device_and_a_review_of_another_change_nothing() -> None:
    benches = bench_of_three(Clock())
    before = benches.benched
    assert not benches.note_loss("cuda", "once more", at_once=True)
    benches.note_review("mps", passed=False, reason="no such thing")
    assert benches.benched == before
