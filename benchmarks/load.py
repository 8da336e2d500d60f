"""A server under the load of many clients, beside stock coqui-tts, one request at a time.

Two servers: one with the built-in voice, whose words are recognised again, and one with a model of
XTTS-v2's full shape (random weights, sentences of a fixed length), where stock says the same
sentences on the same weights in the same run, whole and streamed. Everything in turn, as often as
wanted: each number of clients, stock whole, stock streamed, and again. Prints tables and, last, one
JSON line.

Where the server speaks on a GPU, so does stock, the numbers of clients go on to 128, and the tables
have the card's memory and joules; then the least time that the card's memory leaves is told.

    python -m benchmarks.load --clients 1,2,4,8,16 --runs 5 --work-dir DIR
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.models.config import read_config
from benchmarks.card import Card, Floor, floor_of, read_card
from benchmarks.clients import SAMPLE_RATE, Load, Reply, put_load, summarise
from benchmarks.energy import PowerMeter, joules_per_audio_s, power_meter
from benchmarks.full_shape import VOICE, write_bundle
from benchmarks.sentences import SENTENCES
from benchmarks.serving import Server, run_server
from benchmarks.stock import Stock, StockLoads
from benchmarks.tables import print_table
from train.scores import ErrorCount, word_errors
from train.transcribe import PocketSphinx

Table = list[dict[str, Any]]


#: Numbers of clients where nobody says: on a CPU as many as it has rows, on a GPU twice as many.
CPU_CLIENTS = (1, 2, 4, 8, 16)
GPU_CLIENTS = (*CPU_CLIENTS, 32, 64, 128)


@dataclass(frozen=True)
class Plan:
    """What is measured: numbers of clients, requests of each, and how often.

    Without numbers of clients they are the device's.
    """

    clients: Sequence[int]
    per_client: int
    runs: int
    #: streamed loads on stock, once each; a single request is always measured in every run
    stock_clients: Sequence[int]


class Loads:
    """A server's loads, each number of clients in turn, as often as wanted."""

    def __init__(self, server: Server, voice: str, plan: Plan) -> None:
        self._server, self._voice, self._plan = server, voice, plan
        clients = plan.clients or (GPU_CLIENTS if server.is_on_gpu else CPU_CLIENTS)
        self._loads: dict[int, list[Load]] = {number: [] for number in clients}
        self._peaks = dict.fromkeys(clients, 0)
        self._card_peaks: dict[int, int] = {}
        self._joules: dict[int, float] = {}
        put_load(server.url, voice, SENTENCES, 1, 1)  # warms up

    def run(self) -> None:
        """Puts each load once."""
        per_client = self._plan.per_client
        for number, loads in self._loads.items():
            self._server.peak_bytes = 0
            first = len(loads) * number * per_client  # other sentences in each run
            loads.append(
                put_load(self._server.url, self._voice, SENTENCES, number, per_client, first)
            )
            # of the first run: in later ones, room made for more clients is still held
            peak = max(self._server.peak_bytes, self._server.memory())
            self._peaks[number] = self._peaks[number] or peak
            if self._server.is_on_gpu and number not in self._card_peaks:
                self._card_peaks[number] = self._server.card_memory()

    def measure_joules(self, meter: PowerMeter) -> None:
        """Puts each load until its energy is known."""
        for number in self._loads:
            put = partial(
                *(put_load, self._server.url, self._voice, SENTENCES),
                *(number, self._plan.per_client),
            )
            self._joules[number] = joules_per_audio_s(meter, put)

    def rows(self) -> Table:
        """Returns a row for each number of clients."""
        return [
            {**summarise(loads), "peak_mb": self._peaks[number] / 1e6, **self._of_card(number)}
            for number, loads in self._loads.items()
        ]

    def _of_card(self, number: int) -> dict[str, float]:
        found = {}
        if number in self._card_peaks:
            found["card_mb"] = self._card_peaks[number] / 1e6
        if number in self._joules:
            found["joules_per_audio_s"] = self._joules[number]
        return found

    def word_error_rates(self) -> list[float]:
        """Returns the share of words that a recogniser does not get back, of each row."""
        return [
            word_error_rate([reply for load in loads for reply in load.good])
            for loads in self._loads.values()
        ]


def word_error_rate(replies: Sequence[Reply]) -> float:
    """Returns the share of words that a recogniser does not get back, over all replies."""
    recogniser = PocketSphinx()
    errors = ErrorCount(0, 0)
    for reply in replies:
        samples = np.frombuffer(reply.pcm, np.int16).astype(np.float32) / 32768
        errors += word_errors(reply.text, recogniser.transcribe(samples, SAMPLE_RATE))
    return errors.rate


def bench_builtin(folder: Path, plan: Plan) -> dict[str, Any]:
    """Loads a server with the built-in voice."""
    queue = max(*GPU_CLIENTS, *plan.clients)
    with run_server(folder / "builtin", max_queue=queue) as server:
        card = _card_of(server)
        loads = Loads(server, "default", plan)
        for _ in range(plan.runs):
            loads.run()
        _measure_joules(card, loads)
    rates = loads.word_error_rates()
    rows = [{**row, "wer": rate} for row, rate in zip(loads.rows(), rates, strict=True)]
    return {**_describe(server), "rows": rows}


def bench_beside_stock(
    folder: Path, bundle: Path, voice: str, plan: Plan, load_stock: Callable[[str], Stock] | None
) -> dict[str, Any]:
    """Loads a server with a bundle, and stock with the same sentences in turn.

    Args:
        folder: where the server keeps its files.
        bundle: the model.
        voice: one of its voices.
        plan: what is measured.
        load_stock: gives stock's model of the bundle on a device; None leaves stock out.
    """
    settings = {"default_model": bundle, "max_queue": max(*GPU_CLIENTS, *plan.clients)}
    with run_server(folder, **settings) as server:
        card = _card_of(server)
        loads = Loads(server, voice, plan)
        stock = StockLoads(partial(load_stock, server.device)) if load_stock else None
        for _ in range(plan.runs):
            loads.run()
            if stock:
                stock.run()
        for number in plan.stock_clients:
            if stock:
                stock.put_load(number)
        _measure_joules(card, loads, stock)
    found = {**_describe(server), "rows": loads.rows()}
    if card:
        config = read_config(bundle / "config.json")
        floor = floor_of(config, server.precision, card.bytes_per_s)
        found |= {"card": asdict(card), "floor": asdict(floor)}
    if stock:
        found["stock_rows"] = stock.rows()
        found["stock_mb"], found["stock_card_mb"] = stock.resident_mb, stock.card_mb
        found["ratios"] = ratios(found["rows"], found["stock_rows"])
    return found


def _describe(server: Server) -> dict[str, Any]:
    names = ("model", "precision", "device", "max_rows", "ready_s")
    told = (server.model, server.precision, server.device, server.rows, server.ready_s)
    return dict(zip(names, told, strict=True))


def _card_of(server: Server) -> Card | None:
    """Returns the card that a server runs on, measured now, before any load."""
    card = read_card() if server.is_on_gpu else None
    if card is None:
        print(f"no joules and no floor: the server runs on {server.device}", flush=True)
    return card


def _measure_joules(card: Card | None, *measured: Loads | StockLoads | None) -> None:
    """Puts all loads once more, apart from the others: reading the sensor may cost time."""
    if card is None:
        return
    with power_meter(card.uuid) as meter:
        for loads in measured:
            if meter and loads:
                loads.measure_joules(meter)


def ratios(rows: Table, stock_rows: Table) -> dict[str, float]:
    """Returns how many times faster than stock the same run was, for each number of clients."""
    stock = {row["stock"]: row for row in stock_rows if row["clients"] == 1}
    found = {
        f"throughput_over_stock_{kind}_at_{row['clients']}": stock[kind]["wall_s_per_audio_s"]
        / row["wall_s_per_audio_s"]
        for kind in ("whole", "streamed")
        for row in rows
    }
    first = min(rows, key=lambda row: row["clients"])["first_audio_p50_s"]
    return {**found, "first_audio_over_stock": first / stock["streamed"]["first_audio_p50_s"]}


def describe_floor(found: dict[str, Any]) -> str:
    """Returns the floor in words, beside what the fewest clients took."""
    row = min(found["rows"], key=lambda row: row["clients"])
    return Floor(**found["floor"]).describe(row["clients"], row["wall_s_per_audio_s"])


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--clients", default="", help="numbers of clients, in turn; 1 to 16, on a GPU to 128"
    )
    parser.add_argument("--per-client", type=int, default=2, help="requests of each client")
    parser.add_argument("--runs", type=int, default=5, help="runs of each; medians are taken")
    parser.add_argument("--stock-clients", default="8", help="loads on stock, once each")
    parser.add_argument("--no-stock", action="store_true", help="leave stock out")
    parser.add_argument("--tokens", type=int, default=64, help="audio tokens of a sentence")
    parser.add_argument("--models", default="builtin,full", help="builtin, full, or both")
    parser.add_argument("--work-dir", type=Path, help="kept, and used again (2.3 GB)")
    options = parser.parse_args()
    clients, stock_clients = (
        [int(part) for part in text.split(",") if part]
        for text in (options.clients, options.stock_clients)
    )
    plan = Plan(clients, options.per_client, options.runs, stock_clients)
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = options.work_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = folder.resolve()
        if "builtin" in options.models:
            found["builtin"] = bench_builtin(folder, plan)
            print_table("built-in voice", found["builtin"]["rows"])
        if "full" in options.models:
            bundle = write_bundle(folder / f"full-shape-{options.tokens}", options.tokens)
            stock = None if options.no_stock else partial(Stock.load, bundle)
            found["full"] = bench_beside_stock(folder / "full", bundle, VOICE, plan, stock)
            print_table("full shape", found["full"]["rows"])
            if "floor" in found["full"]:
                print(describe_floor(found["full"]))
            if not options.no_stock:
                print_table("full shape, stock coqui-tts", found["full"]["stock_rows"])
                for name, value in found["full"]["ratios"].items():
                    print(f"{name:>40}  {value:.2f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
