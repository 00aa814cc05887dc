"""``mmckpt completion`` in real shells, and the help that all commands have."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from mmckpt.cli.main import COMMANDS, GROUPS, build_parser, main


@pytest.fixture
def complete(mmckpt, tmp_path):
    """Press the tabulator behind some words; return what bash offers."""
    script = mmckpt('completion', 'bash')[1]

    def offered(*words):
        array = ' '.join(f"'{word}'" for word in words)
        code = (f'{script}\nCOMP_WORDS=(mmckpt {array}); COMP_CWORD={len(words)}\n_mmckpt\n'
                'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(['bash', '-c', code], capture_output=True, text=True, cwd=tmp_path, check=True)
        assert done.stderr == ''
        return [line for line in done.stdout.splitlines() if line]

    return offered


def test_bash_completes_commands_options_choices_and_files(complete, tmp_path):
    (tmp_path / 'epoch_1.pth').touch()
    (tmp_path / 'epoch_2.pth').touch()
    assert set(complete('')) == {*COMMANDS, '--help', '--version'}
    assert complete('ins') == ['inspect'] and {'rebuild', 'report'} <= set(complete('re'))
    assert set(complete('inspect', '--')) == {'--help', '--keys', '--stats', '--json'}
    assert complete('convert', '--to', 'l') == ['lightning'] and complete('completion', 'f') == ['fish']
    assert sorted(complete('inspect', 'epo')) == ['epoch_1.pth', 'epoch_2.pth']


def test_bash_completes_names_with_spaces(complete, tmp_path):
    (tmp_path / 'my model.pth').touch()
    assert complete('inspect', 'my') == ['my model.pth']


@pytest.fixture
def script(mmckpt, tmp_path):
    """Write the script for a shell, beside two checkpoints; skip where the shell is not installed."""
    def write(shell):
        text = mmckpt('completion', shell)[1]
        assert all(name in text for name in COMMANDS)
        if shutil.which(shell) is None:
            pytest.skip(f'{shell} is not installed')
        (tmp_path / 'script').write_text(text)
        for name in ('epoch_1.pth', 'epoch_2.pth'):
            (tmp_path / name).touch()

    return write


# In the pseudo-terminal, zsh is asked by pressing the tabulator, and waited for until it shows what is expected.
_ZPTY = '''
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1='> '; source ./script; zstyle ':completion:*' menu no; bindkey '^I' complete-word; echo REA\\DY"
zpty -r -m shell seen '*READY*'
while read -r typed expected; do
    zpty -w -n shell "mmckpt ${typed//_/ }"$'\\t'
    zpty -r -m shell seen "*$expected*" && print "$typed found"
    zpty -w -n shell $'\\x15'
done
zpty -d shell
'''


def test_a_real_zsh_completes_commands_options_choices_and_files(script, tmp_path):
    script('zsh')
    asked = {'ins': 'mmckpt inspect', 're': 'rebuild*replay*report', 'inspect_--': '--help*--json*--keys*--stats',
             'convert_--to_l': '--to lightning', 'completion_f': 'completion fish', 'inspect_epo': 'epoch_'}
    done = subprocess.run(['zsh', '-f', '-c', _ZPTY], input=''.join(f'{q} {a}\n' for q, a in asked.items()), text=True,
                          capture_output=True, cwd=tmp_path, env=dict(os.environ, HOME=str(tmp_path), TERM='xterm'),
                          timeout=60)
    assert done.stdout.split('\n')[:-1] == [f'{q} found' for q in asked], done.stdout + done.stderr


def test_a_real_fish_completes_commands_options_choices_and_files(script, tmp_path):
    script('fish')
    asked = {'ins': ['inspect'], 're': ['rebuild', 'replay', 'report'],
             'inspect --': ['--help', '--json', '--keys', '--stats'], 'convert --to l': ['lightning'],
             'completion f': ['fish'], 'inspect epo': ['epoch_1.pth', 'epoch_2.pth'], '--v': ['--version'],
             'train --local': []}
    code = 'source script\n' + ''.join(f"echo 'asked {q}'; complete -C 'mmckpt {q}'\n" for q in asked)
    done = subprocess.run(['fish', '--no-config', '-c', code], text=True, capture_output=True, cwd=tmp_path,
                          env=dict(os.environ, HOME=str(tmp_path)), timeout=60)
    parts = [part.splitlines() for part in done.stdout.split('asked ')[1:]]
    assert {part[0]: [line.split('\t')[0] for line in part[1:]] for part in parts} == asked and not done.stderr
    assert any('read the values as well' in line for part in parts for line in part)


def test_help_lists_all_commands_in_groups_with_examples_and_exit_statuses(capsys):
    with pytest.raises(SystemExit) as left:
        main(['--help'])
    out = capsys.readouterr().out
    assert left.value.code == 0 and 'examples:\n' in out and 'exit status:\n  0    finished' in out
    positions = [out.index(f'{title}:') for title in GROUPS]
    assert positions == sorted(positions) and all(f'\n  {name} ' in out for name in COMMANDS)


@pytest.mark.parametrize('name', list(COMMANDS))
def test_every_command_has_examples_that_it_understands_and_says_how_it_ends(name, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    with pytest.raises(SystemExit):
        build_parser().parse_args([name, '--help'])
    out = capsys.readouterr().out
    assert f'  mmckpt {name}' in out or f'mmckpt {name} ' in out
    assert 'exit status:' in out and '%(prog)s' not in out
    # Commands are there to be copied; all else is broken between words.
    assert all(len(line) <= 80 or line.startswith('  ') for line in out.splitlines())
    assert re.search(r'^  2    \S', out, re.M)


def test_the_help_of_a_command_that_writes_a_file_names_its_own_exit_statuses_only(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(['convert', '--help'])
    out = capsys.readouterr().out
    assert '  0    OUT is written' in out and 'PreemptionHook' not in out
