"""Seeds, threads and placement: small decisions, each with its reason."""

from __future__ import annotations

import torch

from app.settings import Settings
from app.synthesis.placing import choose_threads, place_model
from app.synthesis.seeds import SEED_LIMIT, new_seed, segment_seed


def test_first_try_of_the_first_segment_has_the_request_s_own_seed() -> None:
    assert segment_seed(7, 0, 0) == 7


def test_every_try_of_every_segment_draws_from_its_own_seed() -> None:
    seeds = {segment_seed(7, index, attempt) for index in range(50) for attempt in range(4)}
    assert len(seeds) == 200
    assert all(0 <= seed < SEED_LIMIT for seed in seeds)
    assert segment_seed(7, 3, 1) == segment_seed(7, 3, 1)
    assert segment_seed(8, 3, 1) != segment_seed(7, 3, 1)


def test_new_seeds_differ_and_every_json_parser_reads_them_exactly() -> None:
    seeds = [new_seed() for _ in range(20)]
    assert len(set(seeds)) == 20
    assert all(int(float(seed)) == seed for seed in seeds)


def test_threads_follow_the_setting_or_the_processors() -> None:
    assert choose_threads(3) == (3, "THREADS")
    number, reason = choose_threads(0)
    assert number >= 1
    assert "processors" in reason


def test_placement_says_why() -> None:
    told: list[str] = []
    for fields, reason in (({"force_cpu": True}, "FORCE_CPU"), ({"device": "cpu"}, "DEVICE=cpu")):
        place = place_model(Settings(_env_file=None, **fields), told.append)
        assert (place.device, place.dtype) == (torch.device("cpu"), torch.float32)
        assert place.reason == reason
    assert told == []  # nothing is tried out where the CPU is asked for
