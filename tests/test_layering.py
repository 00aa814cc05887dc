"""Import lines go down only, so that policies, detectors and the store stay usable without a Runner."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / 'mmckpt'
BASE = {'progress', 'errors', 'extras', 'registry', '_safe_load', '__init__'}
# Which parts of mmckpt a part may name, besides itself and progress and errors.
ALLOWED = {
    'policy': set(),
    'monitor': set(),
    # The layout of a snapshot's buffers and what the store writes are one matter: store/tree.py.
    'state': {'store'},
    'store': {'policy'},
    # Foreign files, for everybody who reads one; what is written goes through the store.
    'files': {'state', 'store'},
    'data': {'state', 'registry', 'extras'},
    'loops': {'data', 'state', 'registry'},
    'hooks': {'state', 'policy', 'store', 'monitor', 'data', 'loops', 'registry', 'files'},
    'evaluation': {'registry', 'extras'},
    'demo': {'evaluation', 'data', 'registry', 'extras', 'hooks'},
    'optim_wrapper': {'registry'},
    'strategy': {'hooks', 'state', 'store', 'registry'},
    'model_building': {'state'},
    'loading': {'files', 'store', 'model_building'},
    'cli': {'state', 'policy', 'store', 'monitor', 'data', 'loops', 'hooks', 'registry', 'extras', 'optim_wrapper',
            'files', 'loading', 'model_building'},
}
NO_MMENGINE = {'policy', 'monitor', 'state', 'store', 'files', 'progress', 'errors', 'extras'}
NO_TORCH = {'policy', 'monitor', 'progress', 'errors'}
# torch.distributed elsewhere would be a second opinion on who decides; cli.launch joins the group.
COLLECTIVES = {'hooks/runner_adapter.py', 'cli/launch.py', 'state/sharded.py'}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def modules():
    return sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob('*.py'))


@pytest.mark.parametrize('module', modules())
def test_imports_go_down_only(module):
    part = module.split('/')[0].removesuffix('.py')
    for name in imports(ROOT / module):
        pieces = name.split('.')
        if pieces[0] == 'mmckpt' and len(pieces) > 1 and part not in BASE:
            assert pieces[1] in ALLOWED[part] | {part, 'progress', 'errors', '__version__'}, f'{module} imports {name}'
        assert not (pieces[0] == 'mmengine' and part in NO_MMENGINE), f'{module} imports {name}'
        assert not (pieces[0] == 'torch' and part in NO_TORCH), f'{module} imports {name}'
        if name.startswith('torch.distributed'):
            assert module in COLLECTIVES, f'{module} imports {name}'


def test_nothing_imports_the_demo():
    for module in modules():
        if not module.startswith('demo/'):
            assert not any(name.startswith('mmckpt.demo') for name in imports(ROOT / module)), module
