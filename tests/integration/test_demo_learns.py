"""The reference workload learns, and the same seed gives the same weights to the bit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

CONFIG = Path(__file__).parents[2] / 'configs/pose/digits_keypoints.py'


def train(work_dir, epochs, workers=0, images=None, seed=0):
    """Train the reference config with MMEngine's own Runner and return it."""
    config = Config.fromfile(CONFIG)
    config.work_dir = str(work_dir)
    # Runners of one name would share their message hub within this process.
    config.experiment_name = f'{work_dir.parent.name}_{work_dir.name}'
    config.train_cfg.max_epochs = epochs
    config.randomness.seed = seed
    config.train_dataloader.num_workers = workers
    if images is not None:
        config.train_dataloader.dataset.dataset.indices = images
        config.val_dataloader.dataset.indices = 32
    runner = Runner.from_cfg(config)
    runner.train()
    return runner


def weights_digest(runner):
    digest = hashlib.sha256()
    for name, value in runner.model.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.slow
def test_four_epochs_find_half_of_the_key_points(tmp_path):
    runner = train(tmp_path / 'run', epochs=4)
    history = {name: runner.message_hub.log_scalars[f'val/{name}'].data[0] for name in ('AP', 'PCK')}
    assert history['AP'][0] < 0.1, 'one epoch of warm-up finds nearly nothing yet'
    assert history['AP'][-1] > 0.3 and history['PCK'][-1] > 0.5
    assert {p.name for p in (tmp_path / 'run').glob('best_*.pth')} == {
        'best_AP_epoch_4.pth', 'best_PCK_epoch_4.pth'}


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_the_same_seed_gives_the_same_weights_to_the_bit(tmp_path, workers):
    first, second, other = (
        weights_digest(train(tmp_path / name, epochs=2, workers=workers, images=96, seed=seed))
        for name, seed in (('first', 0), ('second', 0), ('other', 1)))
    assert first == second
    assert first != other
