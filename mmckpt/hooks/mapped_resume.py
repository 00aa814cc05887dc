"""Lets the Runner read the file that it resumes from through our loader."""

from __future__ import annotations

import os
from typing import Any

from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local

from mmckpt.store.own_memory import read_checkpoint


def map_resume_file(runner: Any) -> None:
    """Route the Runner's load of its resume file, and no other, through :func:`read_checkpoint`.

    It is faster than MMEngine's, never executes what a file holds, and its
    errors say what to do. MMEngine's own loader is back after that load. A
    loader that the project has registered for local files is left in place.

    Args:
        runner (Runner): A runner in ``before_run`` of a training, whose resume
            file has been chosen.
    """
    path = runner._load_from
    if not runner._resume or CheckpointLoader._get_checkpoint_loader(path) is not load_from_local:
        return
    # Whoever sets this wants torch to run what a file says, which our loader never does.
    if os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '0') in ('1', 'y', 'yes', 'true'):
        return

    # MMEngine's log line takes the loader's name from behind "load_from_".
    def load_from_local_(filename: str, map_location: Any) -> Any:
        if filename != path:
            return load_from_local(filename, map_location)
        CheckpointLoader.register_scheme('', load_from_local, force=True)
        return read_checkpoint(os.path.expanduser(filename), map_location)

    load_from_local_.__name__ = load_from_local.__name__
    CheckpointLoader.register_scheme('', load_from_local_, force=True)
