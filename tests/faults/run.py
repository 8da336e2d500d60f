"""Runs a module with torch broken in one way: `python tests/faults/run.py FAULT MODULE [ARGS]`.

FAULT is a name of `torch_faults`, or `armed:FOLDER` for those of `service_faults`.

The seam between a fault and what it breaks: whoever starts a child takes the command to start it
with, so nothing in the program knows of faults. To be started with the environment that
`app.isolation` gives, which finds `app`.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

# Some packages of others install a `tests` of their own, so this folder is found by its path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from service_faults import install_armed
from torch_faults import install


def main() -> None:
    """Breaks torch, then becomes the module."""
    fault, module, *arguments = sys.argv[1:]
    kind, _, folder = fault.partition(":")
    if kind == "armed":
        install_armed(Path(folder))
    else:
        install(fault)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
