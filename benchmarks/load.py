"""A server under the load of 1 to 16 clients, beside stock coqui-tts behind a lock.

Two servers in turn: one with the built-in voice, whose words are recognised again, and one with a
model of XTTS-v2's full shape (random weights, sentences of a fixed length), where stock gets the
same sentences on the same weights in the same run. Prints tables and, last, one JSON line.

    python -m benchmarks.load --clients 1,2,4,8,16 --work-dir DIR
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clients import SAMPLE_RATE, Load, put_load
from benchmarks.full_shape import VOICE, write_bundle
from benchmarks.serving import run_server
from train.scores import ErrorCount, word_errors
from train.transcribe import PocketSphinx

SENTENCES = (
    "The wind rose before the morning came, and nobody heard it.",
    "She put the letter on the table and went out into the rain.",
    "There was nothing left to say, so they walked home together.",
    "A small boat was lying in the harbour, waiting for the tide.",
    "He had never seen so many lights in the streets of the town.",
    "The old man opened the door and looked at them for a while.",
    "In the evening the children came back from the river, tired.",
    "We will meet again in the spring, when the snow has melted.",
)
Table = list[dict[str, Any]]


def measure(server_url: str, voice: str, clients: Sequence[int], per_client: int) -> list[Load]:
    """Puts each load in turn, after one request that is not counted."""
    put_load(server_url, voice, SENTENCES, 1, 1)
    return [put_load(server_url, voice, SENTENCES, number, per_client) for number in clients]


def word_error_rate(load: Load) -> float:
    """Returns the share of words that a recogniser does not get back, over all replies."""
    recogniser = PocketSphinx()
    errors = ErrorCount(0, 0)
    for reply in load.good:
        samples = np.frombuffer(reply.pcm, np.int16).astype(np.float32) / 32768
        errors += word_errors(reply.text, recogniser.transcribe(samples, SAMPLE_RATE))
    return errors.rate


def bench_builtin(folder: Path, clients: Sequence[int], per_client: int) -> dict[str, Any]:
    """Loads a server with the built-in voice."""
    with run_server(folder / "builtin", max_queue=64) as server:
        loads = measure(server.url, "default", clients, per_client)
        return {
            "model": server.model,
            "precision": server.precision(),
            "ready_s": server.ready_s,
            "peak_mb": server.peak_bytes / 1e6,
            "rows": [{**load.row(), "wer": word_error_rate(load)} for load in loads],
        }


def bench_full_shape(
    folder: Path, clients: Sequence[int], per_client: int, tokens: int, stock_clients: Sequence[int]
) -> dict[str, Any]:
    """Loads a server with a model of full shape, then stock with the same sentences."""
    bundle = write_bundle(folder / f"full-shape-{tokens}", tokens)
    with run_server(folder / "full", default_model=bundle, max_queue=64) as server:
        loads = measure(server.url, VOICE, clients, per_client)
        found: dict[str, Any] = {
            "model": "XTTS-v2's full shape",
            "precision": server.precision(),
            "ready_s": server.ready_s,
            "peak_mb": server.peak_bytes / 1e6,
            "rows": [load.row() for load in loads],
        }
    if stock_clients:
        found.update(_bench_stock(bundle, stock_clients))
        found.update(_ratios(found))
    return found


def _bench_stock(bundle: Path, clients: Sequence[int]) -> dict[str, Any]:
    from benchmarks.stock import Stock

    stock = Stock(bundle)
    stock.speak(SENTENCES[-1])
    streamed = stock.stream(SENTENCES[0])
    return {
        "stock_rows": [stock.put_load(list(SENTENCES), number).row() for number in clients],
        "stock_stream_first_audio_s": streamed.first_s,
        "stock_stream_s_per_audio_s": streamed.total_s / streamed.audio_s,
    }


def _ratios(found: dict[str, Any]) -> dict[str, float]:
    """Returns how many times faster than stock the same run was."""
    ours = {row["clients"]: row for row in found["rows"]}
    stock_s = min(row["wall_s_per_audio_s"] for row in found["stock_rows"])
    ratios = {
        f"throughput_over_stock_at_{number}": stock_s / row["wall_s_per_audio_s"]
        for number, row in ours.items()
    }
    first = ours[min(ours)]["first_audio_p50_s"]
    return {**ratios, "first_audio_over_stock": first / found["stock_stream_first_audio_s"]}


def print_table(name: str, rows: Table) -> None:
    """Prints rows under their keys."""
    print(f"\n{name}")
    print(" ".join(f"{key:>22}" for key in rows[0]))
    for row in rows:
        cells = (f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values())
        print(" ".join(f"{cell:>22}" for cell in cells), flush=True)


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", default="1,2,4,8,16", help="numbers of clients, in turn")
    parser.add_argument("--stock-clients", default="1,2", help="the same for stock; empty: none")
    parser.add_argument("--per-client", type=int, default=2, help="requests of each client")
    parser.add_argument("--tokens", type=int, default=64, help="audio tokens of a sentence")
    parser.add_argument("--models", default="builtin,full", help="builtin, full, or both")
    parser.add_argument("--work-dir", type=Path, help="kept, and used again (2.3 GB)")
    options = parser.parse_args()
    clients, stock_clients = (
        [int(part) for part in text.split(",") if part]
        for text in (options.clients, options.stock_clients)
    )
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = options.work_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = folder.resolve()
        if "builtin" in options.models:
            found["builtin"] = bench_builtin(folder, clients, options.per_client)
            print_table("built-in voice", found["builtin"]["rows"])
        if "full" in options.models:
            found["full"] = bench_full_shape(
                folder, clients, options.per_client, options.tokens, stock_clients
            )
            print_table("full shape", found["full"]["rows"])
            if stock_clients:
                print_table("full shape, stock coqui-tts", found["full"]["stock_rows"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
