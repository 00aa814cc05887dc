"""The layout of ``--help``."""

from __future__ import annotations

import argparse
import re
import textwrap


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Breaks prose where the terminal ends; lines that begin with blanks, examples and lists, stay lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return '\n'.join(_laid_out(block, width) for block in text.split('\n\n'))


def _laid_out(block: str, width: int) -> str:
    lines: list[str] = []
    for line in block.split('\n'):
        goes_on = lines and (line.startswith('       ') or not (line.startswith(' ') or lines[-1].startswith(' ')
                                                              or lines[-1].endswith(':')))
        if goes_on:
            lines[-1] += f' {line.strip()}'
        else:
            lines.append(line)
    return '\n'.join(_broken(line, width) for line in lines) + '\n'


def _broken(line: str, width: int) -> str:
    entry = re.match(r'  [\w-]+  +(?=\S)', line)
    if line.startswith(' ') and entry is None:
        # A command is there to be copied.
        return line
    return textwrap.fill(line, width, subsequent_indent=' ' * (len(entry[0]) if entry else 0), break_long_words=False,
                         break_on_hyphens=False)
