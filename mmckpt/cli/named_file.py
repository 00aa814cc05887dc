"""The file that an argument of a command stands for."""

from __future__ import annotations

import sys
from pathlib import Path

from mmckpt.loading import file_of


def named_file(text: str) -> Path:
    """Return a checkpoint: a path, the newest one of a work directory, or what ``DIR@SPEC`` asks for.

    What was chosen is printed, to stderr, so that the output stays that of the command.

    Args:
        text (str): Such as ``'epoch_3.pth'``, ``'work_dirs/run'`` or ``'work_dirs/run@best:AP'``.
    """
    path, note = file_of(text)
    if note:
        print(f'mmckpt: {note}', file=sys.stderr, flush=True)
    return path
