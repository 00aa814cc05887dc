"""The README is true: its configs build, its tables list what the code takes, its files exist."""

import inspect
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmckpt import hooks
from mmckpt.registry import DATA_SAMPLERS, DATASETS, HOOKS, LOOPS

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()


def blocks(language):
    return re.findall(rf'```{language}\n(.*?)```', README, re.S)


def test_it_is_short_enough_to_be_read():
    assert README.count('\n') < 400


@pytest.mark.parametrize('block', blocks('python'))
def test_configs_in_it_build(block, tmp_path):
    (tmp_path / 'config.py').write_text(block)
    cfg = Config.fromfile(tmp_path / 'config.py')
    for hook in [*cfg.get('default_hooks', {}).values(), *cfg.get('custom_hooks', [])]:
        assert HOOKS.build(dict(hook)) is not None
    loader = cfg.get('train_dataloader', {})
    for registry, part in [(LOOPS, cfg.get('train_cfg')), (DATA_SAMPLERS, loader.get('sampler')),
                           (DATASETS, loader.get('dataset'))]:
        if part is not None:
            kind = registry.get(part.type)
            inspect.signature(kind.__init__).bind_partial(None, **{k: v for k, v in part.items() if k != 'type'})


def table_after(title):
    """Names and defaults of the first table that follows a mention of a hook in a heading or line start."""
    start = re.search(rf'^(?:#+ .*)?`mmckpt\.{title}`|^#+ .*`mmckpt\.{title}`', README, re.M).start()
    table = re.search(r'\| Argument \|.*?\n\n', README[start:] + '\n\n', re.S)[0]
    return {name: default.strip().strip('`') for name, default in re.findall(r'^\| `(\w+)` \|([^|]*)\|', table, re.M)}


@pytest.mark.parametrize('name', ['EarlyStoppingHook', 'TrainingMonitorHook', 'DetailedLossLogHook', 'ValLossHook',
                                  'PreemptionHook', 'CheckpointHook'])
def test_tables_list_the_arguments_with_their_defaults(name):
    parameters = {p.name: p for p in inspect.signature(getattr(hooks, name).__init__).parameters.values()
                  if p.name != 'self' and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    table = table_after(name)
    # The drop-in's table lists what is its own, and the one argument of stock's that means more.
    assert set(table) - ({'interval'} if name == 'CheckpointHook' else set()) == set(parameters)
    for argument, parameter in parameters.items():
        expected = '' if parameter.default is parameter.empty else repr(parameter.default)
        assert table[argument] == expected, argument


def test_every_hook_is_in_it():
    for name in hooks.__all__:
        assert f'mmckpt.{name}' in README or f'`{name}`' in README, name


def test_files_it_names_exist():
    links = re.findall(r'\]\(((?!http)[^)]+)\)', README)
    for path in links + re.findall(r'(?:tools|configs)/[\w/]+\.(?:py|sh)', README):
        assert (ROOT / path).exists(), path


def test_there_are_two_command_lines():
    assert len(re.findall(r'^pip install torch==.* && .*$', README, re.M)) == 2
