"""`python -m train`: the trainer's commands."""

from __future__ import annotations

import os
import sys

# Threads that wait for each other by spinning make every step many times slower as soon as another
# process wants a core, and the samples are made by one; threads that sleep at once make it slower
# too, for waking takes longer than most parallel parts (docs/log.md). So they spin for a moment.
# libgomp reads this when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from train.cli import main

sys.exit(main())
