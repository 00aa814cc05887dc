"""Shows what the key-point model finds, while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmckpt.demo.drawing import draw_panels, make_panels
from mmckpt.registry import HOOKS


@HOOKS.register_module()
class KeypointVisualizationHook(Hook):
    """Draw the first validation batch every few epochs, through the run's visualizer.

    With MMEngine's ``LocalVisBackend`` the pictures lie in
    ``work_dir/<time>/vis_data/vis_image/val_keypoints_<epoch>.png``; with
    TensorBoard's they are in its images tab.

    Args:
        interval (int): Epochs between two pictures. Defaults to 5.
        num_samples (int): Samples in a picture. Defaults to 18.

    Raises:
        ValueError: If one of the two is below 1.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 5, num_samples: int = 18) -> None:
        for name, value in (('interval', interval), ('num_samples', num_samples)):
            if value < 1:
                raise ValueError(f'expected {name} of at least 1, found {value}')
        self.interval = interval
        self.num_samples = num_samples

    def after_val_iter(self,
                       runner: Any,
                       batch_idx: int,
                       data_batch: dict | None = None,
                       outputs: Sequence[Any] | None = None) -> None:
        """Draw batch 0 of validations at multiples of ``interval`` epochs, on rank 0."""
        if batch_idx > 0 or runner.epoch % self.interval != 0 or not is_main_process():
            return
        panels = make_panels(data_batch['inputs'][:self.num_samples], outputs[:self.num_samples])
        names = runner.val_dataloader.dataset.metainfo['keypoint_names']
        picture = draw_panels(panels, names, title=f'validation after epoch {runner.epoch}')
        runner.visualizer.add_image('val_keypoints', picture, step=runner.epoch)
