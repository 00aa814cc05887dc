"""Write a picture of a batch: ``python -m mmckpt.demo.show CONFIG [CHECKPOINT] --out batch.png``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint

from mmckpt.demo.drawing import draw_panels, make_panels
from mmckpt.demo.images import mmcv


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m mmckpt.demo.show',
        description='Write a picture of a batch with its targets and, given a checkpoint, predictions.')
    parser.add_argument('config', help='config file of a key-point demo')
    parser.add_argument('checkpoint', nargs='?', help='weights to predict with (default: targets only)')
    parser.add_argument('--out', default='batch.png', help='PNG file to write (default: %(default)s)')
    parser.add_argument('--split', choices=['val', 'train'], default='val',
                        help='train shows augmented samples (default: %(default)s)')
    parser.add_argument('--num', type=int, default=18, help='samples to show (default: %(default)s)')
    return parser.parse_args(argv)


def show_batch(config: Config, checkpoint: str | None, split: str, num: int) -> np.ndarray:
    """Draw the first samples of a split.

    Args:
        config (Config): Of a key-point demo.
        checkpoint (str, optional): Weights to predict with.
        split (str): ``'val'`` or ``'train'``.
        num (int): Samples to draw.

    Returns:
        np.ndarray: ``(H, W, 3)`` uint8, RGB.
    """
    init_default_scope(config.get('default_scope', 'mmckpt'))
    loader = dict(config[f'{split}_dataloader'], batch_size=num, num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(loader, seed=0)
    batch = next(iter(loader))
    if checkpoint is not None:
        model = MODELS.build(config.model)
        load_checkpoint(model, checkpoint, map_location='cpu')
        model.eval()
        with torch.no_grad():
            found = {sample.id: sample for sample in model.val_step(batch)}
        # A model of episodes predicts its queries; of the support there is the truth to show.
        batch['data_samples'] = [found.get(sample.id, sample) for sample in batch['data_samples']]
    title = f'{split} batch, ' + (Path(checkpoint).name if checkpoint else 'targets')
    names = loader.dataset.metainfo['keypoint_names']
    return draw_panels(make_panels(batch['inputs'], batch['data_samples']), names, title)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the picture and say where it lies."""
    args = parse_args(argv)
    picture = show_batch(Config.fromfile(args.config), args.checkpoint, args.split, args.num)
    mmcv.imwrite(mmcv.rgb2bgr(picture), args.out)
    print(f'{args.out}: {picture.shape[1]} x {picture.shape[0]} pixels')


if __name__ == '__main__':
    main()
