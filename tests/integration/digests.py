"""Digests of the parts of a checkpoint, to compare runs bit by bit."""

import torch

from mmckpt.state.digest import CLOCK_KEYS, digest

# Paths differ by run; the Runner's own counters are those of its last iteration event, or of the resume.
_PATHS = ('cfg', 'experiment_name', 'last_ckpt', 'best_ckpt', 'iter', 'epoch')


def digests(path):
    """Map each part of a checkpoint to a digest of its content."""
    checkpoint = torch.load(path, weights_only=True)
    hub = checkpoint['message_hub']
    parts = {key: checkpoint[key] for key in
             ('state_dict', 'optimizer', 'param_schedulers', 'ema_state_dict') if key in checkpoint}
    parts['rng'] = checkpoint['mmckpt']['rng']
    parts['hooks'] = checkpoint['mmckpt']['hooks']
    parts['scalars'] = {k: v.data for k, v in hub['log_scalars'].items() if not k.endswith(CLOCK_KEYS)}
    parts['infos'] = {k: v for k, v in hub['runtime_info'].items() if not k.startswith(_PATHS)}
    return {name: digest(value) for name, value in parts.items()}
