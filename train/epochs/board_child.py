"""TensorBoard as a process that ends with the training, however that ends."""

from __future__ import annotations

import sys

from app.isolation import die_with_parent


def main() -> None:
    """Becomes TensorBoard, with this process's arguments."""
    die_with_parent()
    # after the above: the import takes seconds, in which the training may end
    from tensorboard.main import run_main

    sys.argv[0] = "tensorboard"
    run_main()


if __name__ == "__main__":
    main()
