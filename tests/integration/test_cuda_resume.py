"""On a GPU, with mixed precision and deterministic kernels, a killed and resumed run is the same run."""

import os

import pytest
import torch
from digests import digests

import mmckpt  # noqa: F401

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')]
# The config's scale doubles after every second step, MMEngine's default never in so short a run.
SCALERS = {'growing': 'optim_wrapper.loss_scale.growth_interval=2', 'dynamic': 'optim_wrapper.loss_scale=dynamic'}
ENVIRONMENT = {'CUBLAS_WORKSPACE_CONFIG': ':4096:8',
               'CUDA_VISIBLE_DEVICES': os.environ.get('CUDA_VISIBLE_DEVICES', '0')}


def load(path):
    return torch.load(path, weights_only=True, map_location='cpu')


@pytest.mark.parametrize('scaler', SCALERS)
def test_scaler_scaled_gradients_and_device_streams_come_back(scaler, train, tmp_path):
    cuda = dict(config='tiny_cuda.py', env=ENVIRONMENT)
    train(tmp_path / 'straight', '--cfg-options', SCALERS[scaler], **cuda)
    # A resume from iteration 20 lies in a window of accumulation, which holds scaled gradients.
    train(tmp_path / 'run', '--cfg-options', SCALERS[scaler], "custom_hooks.6.type='KillHook'",
          "custom_hooks.6.event='after_train_iter'", 'custom_hooks.6.nth=22', expect=-9, **cuda)
    open_window = load(tmp_path / 'run/iter_20.pth')
    train(tmp_path / 'run', '--resume', '--cfg-options', SCALERS[scaler], **cuda)
    assert digests(tmp_path / 'run/iter_40.pth') == digests(tmp_path / 'straight/iter_40.pth')

    first, last = load(tmp_path / 'run/iter_32.pth'), load(tmp_path / 'run/iter_40.pth')
    streams = [state['mmckpt']['rng']['ranks'][0]['cuda'][0] for state in (first, last)]
    assert not torch.equal(*streams), 'nothing was drawn on the device, so this test shows nothing'
    assert open_window['mmckpt']['ranks'][0]['gradients']
    scales = [state['optimizer']['loss_scaler']['scale'] for state in (open_window, last)]
    assert (scales[1] > scales[0]) == (scaler == 'growing')
