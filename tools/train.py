"""Train a model: ``python tools/train.py CONFIG``."""

import sys

from mmckpt.cli.main import run_command

if __name__ == '__main__':
    sys.exit(run_command('train'))
