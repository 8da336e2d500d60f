"""The curves of a recipe's stages as pictures, from the event files that training wrote.

TensorBoard shows the same while a stage runs; these stay with the report.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

#: Curves that say how a step went rather than what was learned.
_NOT_DRAWN = frozenset({"minutes", "rate", "grad_norm"})
_ALL_POINTS = 0
_COLUMNS = 3

Curve = list[tuple[int, float]]


def draw_curves(runs: Path, target: Path) -> list[Path]:
    """Draws one picture for each stage that has curves.

    Args:
        runs: folder of one folder of event files for each stage.
        target: folder for the pictures, made where it is needed.

    Returns:
        The pictures, by name of stage.
    """
    made = []
    for folder in sorted(path for path in runs.glob("*") if path.is_dir()):
        curves = read_curves(folder)
        if curves:
            target.mkdir(parents=True, exist_ok=True)
            made.append(target / f"{folder.name}.png")
            _draw(folder.name, curves, made[-1])
    return made


def read_curves(folder: Path) -> dict[str, Curve]:
    """Returns the points (step, value) of every loss that a stage tracked, in order of steps.

    Where a stage was resumed from before its last point, the later run's points count.
    """
    curves: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.out.*")):
        events = EventAccumulator(str(path), size_guidance={"scalars": _ALL_POINTS})
        events.Reload()
        for name in events.Tags()["scalars"]:
            if name not in _NOT_DRAWN:
                points = {event.step: event.value for event in events.Scalars(name)}
                known = curves.setdefault(name, {})
                first = min(points)
                kept = {step: value for step, value in known.items() if step < first}
                curves[name] = kept | points
    return {name: sorted(points.items()) for name, points in curves.items()}


def _draw(stage: str, curves: dict[str, Curve], path: Path) -> None:
    rows = -(-len(curves) // _COLUMNS)
    columns = min(_COLUMNS, len(curves))
    figure = Figure(figsize=(4 * columns, 2.6 * rows), dpi=90)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, (name, points) in zip(axes, sorted(curves.items()), strict=False):
        axis.plot([step for step, _ in points], [value for _, value in points], linewidth=1)
        axis.set_title(f"{stage}: {name}", fontsize=9)
        axis.grid(alpha=0.3)
    for axis in axes[len(curves) :]:
        axis.set_visible(False)
    figure.supxlabel("step", fontsize=9)
    figure.tight_layout()
    figure.savefig(path)
