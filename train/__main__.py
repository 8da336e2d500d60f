"""`python -m train`: the trainer's commands."""

from __future__ import annotations

import os
import sys

# Threads that wait for each other by spinning make every step many times slower as soon as another
# process wants a core, and the samples are made by one. libgomp reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from train.cli import main

sys.exit(main())
