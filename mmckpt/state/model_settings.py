"""Which settings of a model differ between a checkpoint and a config."""

from __future__ import annotations

import re
from typing import Any

from mmckpt.state.config_diff import ABSENT, config_changes, read_config_text


def setting_differences(meta: dict[str, Any], config_text: str) -> list[str]:
    """Name the settings of the model that differ, with both values and what to pass to go on with the file's.

    Shapes say that a model is another one; this says why.

    Args:
        meta (dict): ``meta`` of a checkpoint; MMEngine keeps the config's text there as ``cfg``.
        config_text (str): The text of the config at hand (``cfg.pretty_text``).

    Returns:
        list[str]: One line a setting; none where the file has no readable config.

    Example:
        >>> setting_differences(dict(cfg='model = dict(num_items=6807)'), 'model = dict(num_items=7000)')
        ['num_items: 6807 in the file, 7000 in this config; pass --cfg-options model.num_items=6807']
    """
    try:
        saved, now = (read_config_text(text).get('model') for text in (meta.get('cfg', ''), config_text))
    except ValueError:
        return []
    if not (isinstance(saved, dict) and isinstance(now, dict)):
        return []
    return [f'{change.path}: {change.saved} in the file, {change.now} in this config; '
            f'{_advice(change.path, change.saved)}' for change in config_changes(saved, now)]


def _advice(path: str, saved: str) -> str:
    if saved == ABSENT:
        return f'take model.{path} out of the config'
    if re.fullmatch(r'[\w.+-]+', saved) and re.fullmatch(r'[\w.]+', path):
        return f'pass --cfg-options model.{path}={saved}'
    return 'set it as in the file'
