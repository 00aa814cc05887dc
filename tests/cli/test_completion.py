"""``mmckpt completion`` in real shells, and the help that all commands have."""

from __future__ import annotations

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
        return done.stdout.split()

    return offered


def test_bash_completes_commands_options_choices_and_files(complete, tmp_path):
    (tmp_path / 'epoch_1.pth').touch()
    (tmp_path / 'epoch_2.pth').touch()
    assert set(complete('')) == {*COMMANDS, '--help', '--version'}
    assert complete('ins') == ['inspect'] and {'rebuild', 'report'} <= set(complete('re'))
    assert set(complete('inspect', '--')) == {'--help', '--keys', '--stats', '--json'}
    assert complete('convert', '--to', 'l') == ['lightning'] and complete('completion', 'f') == ['fish']
    assert sorted(complete('inspect', 'epo')) == ['epoch_1.pth', 'epoch_2.pth']


@pytest.mark.parametrize('shell, check', [('zsh', '-n'), ('fish', '--no-execute')])
def test_other_shells_take_the_script(mmckpt, tmp_path, shell, check):
    script = mmckpt('completion', shell)[1]
    assert all(name in script for name in COMMANDS)
    if shutil.which(shell) is None:
        pytest.skip(f'{shell} is not installed')
    (tmp_path / 'script').write_text(script)
    subprocess.run([shell, check, tmp_path / 'script'], check=True)


def test_help_lists_all_commands_in_groups_with_examples_and_exit_statuses(capsys):
    with pytest.raises(SystemExit) as left:
        main(['--help'])
    out = capsys.readouterr().out
    assert left.value.code == 0 and 'examples:\n' in out and 'exit status:\n  0    finished' in out
    positions = [out.index(f'{title}:') for title in GROUPS]
    assert positions == sorted(positions) and all(f'\n  {name} ' in out for name in COMMANDS)


@pytest.mark.parametrize('name', list(COMMANDS))
def test_every_command_has_examples_that_it_understands_and_says_how_it_ends(name, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args([name, '--help'])
    out = capsys.readouterr().out
    assert f'  mmckpt {name}' in out or f'mmckpt {name} ' in out
    assert 'exit status:' in out and '%(prog)s' not in out
