"""Draws the pictures of docs/performance.md from what the benchmarks printed.

python -m benchmarks.load > load.txt; python -m benchmarks.growth > growth.txt
python -m benchmarks.draw load.txt growth.txt --to docs/pictures
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

_BLUE, _RED, _PALE, _GREY = "#2a6f97", "#c1440e", "#e3a587", "#888888"
Found = dict[str, Any]


def read_result(path: Path) -> Found:
    """Returns the JSON line that a benchmark printed last.

    Raises:
        ValueError: the file does not end in one.
    """
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} does not end in a benchmark's JSON line.") from error
    if not isinstance(found, dict) or not ({"full", "builtin", "texts"} & set(found)):
        raise ValueError(f"{path} is neither of benchmarks.load nor of benchmarks.growth.")
    return found


def draw_load(found: Found, to: Path) -> None:
    """Draws time to first audio and throughput over the number of clients."""
    figure, (first, speed) = plt.subplots(1, 2, figsize=(10, 4))
    for name, color in (("full", _BLUE), ("builtin", _GREY)):
        rows = found.get(name, {}).get("rows", [])
        if not rows:
            continue
        label = "full shape" if name == "full" else "built-in voice"
        clients = [row["clients"] for row in rows]
        middle = [row["first_audio_p50_s"] for row in rows]
        late = [row["first_audio_p95_s"] for row in rows]
        first.plot(clients, middle, "o-", color=color, label=f"{label}, median")
        first.fill_between(clients, middle, late, color=color, alpha=0.2, lw=0)
        speed.plot(clients, [row["audio_s_per_s"] for row in rows], "o-", color=color, label=label)
    _draw_stock(found.get("full", {}).get("stock_rows", []), first, speed)
    first.set_title("first audio, seconds (shade: to the 95th percentile)")
    speed.set_title("seconds of audio a second, all clients together")
    for axes in (first, speed):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("clients at the same time")
        axes.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axes.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axes.grid(visible=True, which="both", alpha=0.2)
        axes.legend(fontsize=8)
    _save(figure, to)


def _draw_stock(rows: list[Found], first: Axes, speed: Axes) -> None:
    for kind, marker, color in (("streamed", "s", _RED), ("whole", "^", _PALE)):
        found = [row for row in rows if row["stock"] == kind]
        if not found:
            continue
        label = f"stock coqui-tts, full shape, {kind}"
        clients = [row["clients"] for row in found]
        speeds = [row["audio_s_per_s"] for row in found]
        speed.plot(clients, speeds, f"{marker}--", color=color, label=label)
        if kind == "streamed":
            firsts = [row["first_audio_p50_s"] for row in found]
            first.plot(clients, firsts, f"{marker}--", color=color, label=label)


def draw_growth(found: Found, to: Path) -> None:
    """Draws the work of streamed speech over its length, in single generations and in texts."""
    figure, (single, texts) = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axes, rows, title in (
        (single, found["generations"], "one generation"),
        (texts, found["texts"], "a text, in the pieces that 250 characters allow"),
    ):
        audio = [0.0, *(row["audio_s"] for row in rows)]
        stock = [0.0, *(row["stock_s"] for row in rows)]
        vocoder = [0.0, *(row["stock_vocoder_s"] for row in rows)]
        ours = [0.0, *(row["ours_s"] for row in rows)]
        axes.fill_between(
            audio, 0, vocoder, color=_PALE, alpha=0.6, lw=0, label="of that in its vocoder"
        )
        axes.plot(audio, stock, "s--", color=_RED, label="stock coqui-tts, streamed")
        axes.plot(audio, ours, "o-", color=_BLUE, label="ours, streamed")
        axes.plot([0, audio[-1]], [0, audio[-1]], ":", color=_GREY, label="as long as it sounds")
        axes.set_title(title)
        axes.set_xlabel("seconds of audio")
        axes.grid(visible=True, alpha=0.2)
    single.set_ylabel("seconds of work")
    single.legend(fontsize=8)
    _save(figure, to)


def _save(figure: Any, to: Path) -> None:
    figure.tight_layout()
    figure.savefig(to, dpi=80)
    plt.close(figure)
    print(to)


def main() -> None:
    """Reads the results and draws the picture of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", help="what the benchmarks printed")
    parser.add_argument("--to", type=Path, default=Path("docs/pictures"))
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    load: Found = {}
    for path in options.results:
        try:
            found = read_result(path)
        except (OSError, ValueError) as error:
            parser.error(str(error))
        if "texts" in found:
            draw_growth(found, options.to / "performance-growth.png")
        else:
            load |= found  # the two models may have been measured one after the other
    if load:
        draw_load(load, options.to / "performance-load.png")


if __name__ == "__main__":
    main()
