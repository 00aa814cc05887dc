"""Evaluate a checkpoint: ``python tools/test.py CONFIG CHECKPOINT``."""

import sys

from mmckpt.cli.main import run_command

if __name__ == '__main__':
    sys.exit(run_command('test'))
