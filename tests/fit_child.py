"""One start of a small training run, for tests that kill it: `fit_child.py FOLDER [EPOCHS]`.

FOLDER holds what `prepare` made: `base/` and `clips/` with one list; the run is in `out/`.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent))

from fit_runs import Watcher, run_fit, setup_of  # noqa: E402

from app.models.bundles import read_folder  # noqa: E402
from train.data.prepared import PreparedClips  # noqa: E402


class Teller(Watcher):
    """Says each step aloud, so that a test knows how far the run is."""

    def step_done(self, facts: object) -> None:
        sys.stdout.write(f"{facts.step}\n")  # type: ignore[attr-defined]
        sys.stdout.flush()


def main(folder: Path, epochs: int) -> None:
    """Runs until the end or until it is killed."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    clips = PreparedClips.open(next((folder / "clips").glob("run-*.json")))
    setup = setup_of(
        read_folder(folder / "base", "tiny"),
        clips,
        folder / "out",
        num_epochs=epochs,
        dropout=0.1,
        # every step: so that kills hit the saving as often as anything else
        save_every_min=1e-6,
    )
    run_fit(setup, Teller())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
