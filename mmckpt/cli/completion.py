"""``mmckpt completion``: a script for the shell that completes commands, options and files."""

from __future__ import annotations

import argparse
import re
import shlex
import textwrap
from collections.abc import Iterator

HELP = 'print a script by which a shell completes commands and options'
EXAMPLES = """  echo 'eval "$(%(prog)s bash)"' >> ~/.bashrc
  echo 'eval "$(%(prog)s zsh)"' >> ~/.zshrc
  %(prog)s fish > ~/.config/fish/completions/mmckpt.fish

The script knows the commands of this version and starts no Python, so that it answers at once; print it anew after an
update."""
EXIT_STATUS = """exit status:
  0    the script is printed
  2    the shell is not known"""

_BASH = """_mmckpt() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}" words=''
    if [ "$COMP_CWORD" -eq 1 ]; then
        words=%(commands)s
    else
        case "$command $previous" in
%(choices)s
            *)
                case "$command" in
%(options)s
                esac
                case "$current" in -*) ;; *) words='' ;; esac ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    [ -n "$words" ] || { local IFS=$'\\n'; COMPREPLY=($(compgen -f -- "$current")); }
}
complete -o filenames -F _mmckpt mmckpt"""
# zsh takes the functions of bash once its own completion is there, which not every .zshrc asks for.
_ZSH = """(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
autoload -U +X bashcompinit && bashcompinit
%s"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of ``completion``."""
    parser.add_argument('shell', choices=('bash', 'zsh', 'fish'), help='the shell that is to complete')


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from mmckpt.cli.main import build_parser

    script = _fish(build_parser()) if args.shell == 'fish' else _bash(build_parser())
    print(_ZSH % script if args.shell == 'zsh' else script)
    return 0


def _bash(parser: argparse.ArgumentParser) -> str:
    commands = _commands(parser)
    options = '\n'.join(f'                    {name}) words={shlex.quote(" ".join(_flags(command)))} ;;'
                        for name, command in commands.items())
    choices = '\n'.join(f'            {" | ".join(shlex.quote(f"{name} {flag}") for flag in action.option_strings)}) '
                        f'words={shlex.quote(" ".join(map(str, action.choices)))} ;;'
                        for name, command in commands.items() for action in command._actions
                        if action.choices and action.option_strings)
    positional = '\n'.join(
        f'            {shlex.quote(f"{name} {name}")}) words={shlex.quote(" ".join(map(str, action.choices)))} ;;'
        for name, command in commands.items() for action in command._actions
        if action.choices and not action.option_strings)
    return _BASH % dict(commands=shlex.quote(' '.join([*commands, '--help', '--version'])), options=options,
                        choices=f'{choices}\n{positional}')


def _fish(parser: argparse.ArgumentParser) -> str:
    lines = [f'complete -c mmckpt -n __fish_use_subcommand -l {flag}' for flag in ('help', 'version')]
    for name, command in _commands(parser).items():
        text = shlex.quote(command.description.splitlines()[0] if command.description else '')
        lines.append(f'complete -c mmckpt -n __fish_use_subcommand -f -a {name} -d {text}')
        here = shlex.quote(f'__fish_seen_subcommand_from {name}')
        for action in command._actions:
            if action.help == argparse.SUPPRESS or not (action.option_strings or action.choices):
                continue
            flags = [f'-l {flag[2:]}' if flag.startswith('--') else f'-s {flag[1:]}' for flag in action.option_strings]
            values = [f'-a {shlex.quote(" ".join(map(str, action.choices)))}'] if action.choices else []
            # -x: a value and no file; -r: a value, perhaps a file; -f: no file.
            kind = ['-x' if values else '-r'] * (action.nargs in (None, '+')) if flags else ['-f']
            lines.append(' '.join(['complete -c mmckpt -n', here, *flags, *kind, *values, '-d',
                                   shlex.quote(_help(action))]))
    return '\n'.join(lines)


def _help(action: argparse.Action) -> str:
    """The first clause of an option's help, for one line."""
    text = ' '.join((action.help or '').split()).replace('%%', '%')
    return textwrap.shorten(re.split(r'[;:(]', text)[0].strip(), 70, placeholder=' ...')


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def _flags(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in command._actions:
        if action.help != argparse.SUPPRESS:
            yield from (flag for flag in action.option_strings if flag.startswith('--'))
