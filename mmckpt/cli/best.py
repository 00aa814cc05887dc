"""Where the best checkpoints of a finished training lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook

from mmckpt.cli.console import command_line, print_table, shown_path


@dataclass(frozen=True)
class Best:
    """The best checkpoint by one metric."""

    metric: str
    score: float
    path: str


def best_checkpoints(runner: Any) -> list[Best]:
    """Read the best checkpoints from the hub, where ``CheckpointHook`` notes them.

    Args:
        runner (Runner): A runner that has trained.

    Returns:
        list[Best]: One for each metric of ``save_best`` whose file is there.
    """
    infos, found = runner.message_hub.runtime_info, []
    for hook in runner.hooks:
        metrics = getattr(hook, 'key_indicators', None) if isinstance(hook, CheckpointHook) else None
        for metric in metrics or []:
            suffix = '' if len(metrics) == 1 else f'_{metric}'
            path, score = infos.get(f'best_ckpt{suffix}'), infos.get(f'best_score{suffix}')
            if path is not None and score is not None and Path(path).exists():
                found.append(Best(metric, float(score), path))
    return found


def print_outcome(runner: Any, config: str) -> None:
    """Print the best checkpoints, the newest one and how to evaluate them."""
    best = best_checkpoints(runner)
    newest = runner.message_hub.runtime_info.get('last_ckpt')
    if best:
        print_table('Best checkpoints', ['metric', 'score', 'file'],
                    [[b.metric, f'{b.score:.4f}', shown_path(b.path)] for b in best])
    if newest is not None:
        print(f'Newest checkpoint: {shown_path(newest)}')
    if best or newest is not None:
        checkpoint = best[0].path if best else newest
        print('Evaluate one with:\n  ' + command_line('test', config, checkpoint), flush=True)
