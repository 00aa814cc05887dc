"""Digests of the parts of a checkpoint, to compare runs bit by bit."""

import hashlib

import numpy as np
import torch

import mmckpt  # noqa: F401

# Wall-clock noise that the hub holds.
_NOISE = ('/time', '/data_time', '/eta', '/memory')
_PATHS = ('cfg', 'experiment_name', 'last_ckpt', 'best_ckpt')


def digests(path):
    """Map each part of a checkpoint to a digest of its content."""
    checkpoint = torch.load(path, weights_only=True)
    hub = checkpoint['message_hub']
    parts = {key: checkpoint[key] for key in
             ('state_dict', 'optimizer', 'param_schedulers', 'ema_state_dict') if key in checkpoint}
    parts['rng'] = checkpoint['mmckpt']['rng']
    parts['hooks'] = checkpoint['mmckpt']['hooks']
    parts['scalars'] = {k: v.data for k, v in hub['log_scalars'].items() if not k.endswith(_NOISE)}
    parts['infos'] = {k: v for k, v in hub['runtime_info'].items() if not k.startswith(_PATHS)}
    return {name: _digest(value) for name, value in parts.items()}


def _digest(value):
    hasher = hashlib.sha256()
    _feed(hasher, value)
    return hasher.hexdigest()


def _feed(hasher, value):
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            hasher.update(str(key).encode())
            _feed(hasher, value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            _feed(hasher, item)
    elif isinstance(value, torch.Tensor):
        hasher.update(str((value.dtype, tuple(value.shape))).encode() + value.detach().numpy().tobytes())
    elif isinstance(value, np.ndarray):
        hasher.update(str(value.dtype).encode() + value.tobytes())
    else:
        hasher.update(repr(value).encode())
