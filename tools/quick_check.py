"""Try a config before a long run: ``python tools/quick_check.py CONFIG``."""

import sys

from mmckpt.cli.main import run_command

if __name__ == '__main__':
    sys.exit(run_command('quick-check'))
