"""Findings in MMEngine's visualizer backends: a scalar in each, a text in those that show one."""

from __future__ import annotations

from typing import Any


def alert_backends(visualizer: Any, kind: str, value: float, text: str, step: int) -> None:
    """Hand a finding to every backend of a visualizer.

    MMEngine's visualizer knows scalars and images only, so a text goes to the
    backend's own experiment where that has a way to show one: TensorBoard's
    ``add_text``, WandB's ``alert``, MLflow's ``log_text``, ClearML's logger.

    Args:
        visualizer (Visualizer): That of the runner.
        kind (str): Kind of the finding; the scalar is ``mmckpt/findings/KIND``.
        value (float): How bad it is.
        text (str): The message with its advice.
        step (int): Completed iterations.
    """
    name = f'mmckpt/findings/{kind}'
    visualizer.add_scalar(name, value, step)
    for backend in visualizer._vis_backends.values():
        experiment = getattr(backend, 'experiment', None)
        if hasattr(experiment, 'add_text'):
            experiment.add_text(name, text, step)
        elif hasattr(experiment, 'alert'):
            experiment.alert(title=f'mmckpt: {kind}', text=text)
        elif hasattr(experiment, 'log_text'):
            experiment.log_text(text, f'mmckpt/{kind}_{step}.txt')
        elif hasattr(experiment, 'get_logger'):
            experiment.get_logger().report_text(text)
