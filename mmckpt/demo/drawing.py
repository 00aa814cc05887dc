"""Pictures of key-point samples: what was asked for and what the model found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmckpt.demo.heatmaps import rescale_points
from mmckpt.evaluation.keypoint_samples import as_array

PANEL_INCHES = 1.7
DPI = 110


@dataclass(frozen=True)
class Panel:
    """One input of the model with its key points, in pixels of that input.

    Args:
        image (np.ndarray): ``(H, W, 3)`` uint8, RGB.
        targets (np.ndarray): ``(K, 2)`` float.
        visible (np.ndarray): ``(K,)`` bool.
        predictions (np.ndarray, optional): ``(K, 2)`` float.
    """

    image: np.ndarray
    targets: np.ndarray
    visible: np.ndarray
    predictions: np.ndarray | None = None

    @property
    def error(self) -> float:
        """Mean distance of predictions and labelled targets in pixels; nan without either."""
        if self.predictions is None or not self.visible.any():
            return float('nan')
        return float(np.linalg.norm(self.predictions - self.targets, axis=1)[self.visible].mean())


def make_panels(inputs: Sequence[Any], data_samples: Sequence[Any]) -> list[Panel]:
    """Turn a batch of the loader, with or without predictions, into panels.

    Args:
        inputs (Sequence[Tensor]): ``(3, H, W)`` uint8 each, BGR.
        data_samples (Sequence[BaseDataElement]): As ``PackKeypointInputs``
            makes them, with ``pred_instances`` after ``mode='predict'``.

    Returns:
        list[Panel]: One for each sample.
    """
    return [_make_panel(as_array(image), sample) for image, sample in zip(inputs, data_samples)]


def _make_panel(image: np.ndarray, sample: Any) -> Panel:
    size = image.shape[2], image.shape[1]
    maps = sample.gt_fields.heatmaps.shape
    labels = sample.gt_instance_labels
    predictions = None
    if 'pred_instances' in sample:
        x1, y1, x2, y2 = sample.input_box
        in_box = as_array(sample.pred_instances.keypoints)[0] - np.array([x1, y1])
        predictions = rescale_points(in_box, (x2 - x1, y2 - y1), size)
    return Panel(
        image=image[::-1].transpose(1, 2, 0),
        targets=rescale_points(labels.keypoint_cells[0], (maps[2], maps[1]), size),
        visible=labels.keypoint_weights[0] > 0,
        predictions=predictions)


def draw_panels(panels: Sequence[Panel],
                names: Sequence[str],
                title: str = '',
                columns: int = 6) -> np.ndarray:
    """Draw panels in a grid, with one colour for each key point and a legend.

    Rings are targets, crosses predictions, and a line joins the two.

    Args:
        panels (Sequence[Panel]): At least one.
        names (Sequence[str]): Names of the key points.
        title (str): Headline. Defaults to none.
        columns (int): Panels in a row. Defaults to 6.

    Returns:
        np.ndarray: ``(H, W, 3)`` uint8, RGB.

    Example:
        >>> spot = np.array([[3.0, 4.0]])
        >>> panel = Panel(np.zeros((8, 8, 3), np.uint8), spot, np.array([True]), spot + 1)
        >>> draw_panels([panel], ['tip']).shape[2]
        3
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    legend_rows = -(-(len(names) + 2) // 7)
    top, bottom = 0.5, 0.12 + 0.25 * legend_rows
    height = panels[0].image.shape[0] / panels[0].image.shape[1] * PANEL_INCHES + 0.22
    # A single small panel would leave no room for the legend.
    figure = Figure(figsize=(max(columns * PANEL_INCHES, 7.2), rows * height + top + bottom), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    total = figure.get_figheight()
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=dict(
        left=0.01, right=0.99, top=1 - top / total, bottom=bottom / total, wspace=0.05,
        hspace=0.3 / height))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, panel in zip(axes.flat, panels):
        _draw_panel(axis, panel)
    figure.suptitle(title, fontsize=11, y=1 - 0.08 / total, va='top')
    figure.legend(
        handles=_legend(names, any(p.predictions is not None for p in panels)), loc='lower center',
        ncols=min(7, len(names) + 2), fontsize=8.5, frameon=False, handletextpad=0.2, columnspacing=1.1)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _colour(index: int) -> Any:
    # Bright ones only: they lie on photographs.
    bright = ('#ff3b30', '#34e05a', '#33b5ff', '#ffd60a', '#ff5cf4')
    return bright[index] if index < len(bright) else colormaps['tab20'](index % 20)


def _draw_panel(axis: Any, panel: Panel) -> None:
    axis.imshow(panel.image, interpolation='nearest')
    for k in np.flatnonzero(panel.visible):
        x, y = panel.targets[k]
        axis.plot(x, y, 'o', ms=8, mfc='none', mec='black', mew=3)
        axis.plot(x, y, 'o', ms=8, mfc='none', mec=_colour(k), mew=1.6)
        if panel.predictions is not None:
            found_x, found_y = panel.predictions[k]
            axis.plot([x, found_x], [y, found_y], '-', color=_colour(k), lw=1)
            axis.plot(found_x, found_y, 'x', ms=6.8, color='black', mew=2.8)
            axis.plot(found_x, found_y, 'x', ms=6, color=_colour(k), mew=1.8)
    axis.set_xlim(-0.5, panel.image.shape[1] - 0.5)
    axis.set_ylim(panel.image.shape[0] - 0.5, -0.5)
    if np.isfinite(panel.error):
        axis.set_title(f'off by {panel.error:.1f} px', fontsize=8, pad=2)


def _legend(names: Sequence[str], with_predictions: bool) -> list[Line2D]:
    ring = dict(ls='', marker='o', ms=8, mfc='none', mew=1.6)
    handles = [Line2D([], [], mec='black', label='target', **ring)]
    if with_predictions:
        handles.append(Line2D([], [], ls='', marker='x', ms=7, mew=1.8, color='black', label='prediction'))
    return handles + [
        Line2D([], [], ls='', marker='s', ms=8, color=_colour(k), label=name) for k, name in enumerate(names)]
