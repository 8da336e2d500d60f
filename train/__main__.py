"""`python -m train`: the trainer's commands."""

from __future__ import annotations

import sys

from train.cli import main

sys.exit(main())
