"""``mmckpt.load`` gives the model that was saved, or says what differs and why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import foreign
import hostile
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

import mmckpt
from mmckpt.errors import CheckpointNotFoundError, IncompatibleCheckpointError, UsageError
from mmckpt.model_building import model_config


@MODELS.register_module()
class Recommender(BaseModel):
    """A model whose shapes follow from its settings."""

    def __init__(self, num_items, width=4, head=None):
        super().__init__()
        self.items = nn.Embedding(num_items, width)
        self.head = MODELS.build(head) if head else nn.Linear(width, 1)

    def forward(self, inputs, mode='tensor'):
        return self.head(self.items(inputs))


@MODELS.register_module()
class ClassHead(nn.Linear):
    """A part with a setting of its own."""

    def __init__(self, num_classes):
        super().__init__(4, num_classes)


CFG = dict(type='Recommender', num_items=6807, head=dict(type='ClassHead', num_classes=80))


def save(path, cfg, **more):
    """Write what a Runner would have, of a model of the config."""
    model = MODELS.build(cfg)
    text = Config(dict(default_scope='mmengine', model=cfg)).pretty_text
    torch.save({'meta': dict(epoch=1, iter=6, cfg=text, dataset_meta=dict(classes=('a', 'b'))), 'message_hub': {},
                'state_dict': model.state_dict(), **more}, path)
    return model


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left.state_dict().values(), right.state_dict().values()))


@pytest.mark.parametrize('key', ['data_preprocessor', 'preprocess_cfg'])
def test_a_preprocessor_beside_the_model_belongs_to_it(key):
    beside, own = dict(type='ImgDataPreprocessor', mean=[1.]), dict(type='BaseDataPreprocessor')
    for model, expected in ((dict(type='A'), beside), (dict(type='A', data_preprocessor=own), own)):
        assert model_config(Config({'model': model, key: beside}).pretty_text)['data_preprocessor'] == expected


def test_the_model_is_built_from_the_config_in_the_file(tmp_path):
    saved = save(tmp_path / 'epoch_1.pth', CFG)
    loaded = mmckpt.load(tmp_path / 'epoch_1.pth')
    assert type(loaded) is Recommender and same(loaded, saved) and not loaded.training
    assert loaded.dataset_meta == dict(classes=('a', 'b'))
    # The newest of a work directory, and one that is asked for by what it is.
    assert same(mmckpt.load(tmp_path), saved) and same(mmckpt.load(f'{tmp_path}@epoch:1'), saved)


def test_another_number_of_items_is_named_with_both_values_and_what_to_pass(tmp_path):
    save(tmp_path / 'a.pth', CFG)
    with pytest.raises(IncompatibleCheckpointError) as caught:
        mmckpt.load(tmp_path / 'a.pth', num_items=7000)
    text = str(caught.value)
    assert 'num_items is 6807 in the file and 7000 here; pass num_items=6807' in text
    assert 'items.weight: (6807, 4) in the file, (7000, 4) in the model' in text
    with pytest.raises(IncompatibleCheckpointError, match=r"classes is 80 .* pass \*\*{'head.num_classes': 80}"):
        mmckpt.load(tmp_path / 'a.pth', **{'head.num_classes': 20})
    with pytest.raises(IncompatibleCheckpointError, match='num_items is 6807 in the file and 5 here'):
        mmckpt.load(tmp_path / 'a.pth', Recommender(5, head=CFG['head']))
    rest = mmckpt.load(tmp_path / 'a.pth', strict=False, **{'head.num_classes': 20})
    assert rest.head.weight.shape == (20, 4) and rest.items.weight.shape == (6807, 4)
    with pytest.raises(UsageError, match="no part 'haed.num_classes'.*Did you mean 'head'"):
        mmckpt.load(tmp_path / 'a.pth', **{'haed.num_classes': 20})


def test_a_lightning_module_is_built_from_its_hyper_parameters(tmp_path):
    module, _ = foreign.fit_lightning(tmp_path, module=foreign.lightning_module(width=6, num_items=1))
    kind = type(module)
    loaded = mmckpt.load(tmp_path / 'last.ckpt', kind)
    assert same(loaded, module) and loaded.net[0].out_features == 6
    with pytest.raises(IncompatibleCheckpointError, match='width is 6 in the file and 9 here; pass width=6'):
        mmckpt.load(tmp_path / 'last.ckpt', kind, width=9)
    with pytest.raises(UsageError, match="no argument 'widht'. Did you mean 'width'"):
        mmckpt.load(tmp_path / 'last.ckpt', kind, widht=9)
    # The part inside, whose names have no prefix.
    with pytest.raises(IncompatibleCheckpointError, match=r"begin with 'net.' \(4 of 4 then fit\); pass prefix='net.'"):
        mmckpt.load(tmp_path / 'last.ckpt', foreign.net(6))
    assert same(mmckpt.load(tmp_path / 'last.ckpt', foreign.net(6), prefix='net.'), module.net)
    with pytest.raises(UsageError, match='no config to build the model from.*width=6'):
        mmckpt.load(tmp_path / 'last.ckpt')


@pytest.mark.parametrize('write', [foreign.system_b, foreign.system_e, foreign.mmcv])
def test_weights_of_other_files_are_loaded_into_a_model(tmp_path, write):
    model, _ = write(tmp_path / 'a.pth')
    assert same(mmckpt.load(tmp_path / 'a.pth', foreign.net()), model)


def test_safetensors_are_loaded(tmp_path):
    library, model = pytest.importorskip('safetensors.torch'), foreign.net()
    library.save_file(model.state_dict(), tmp_path / 'a.safetensors')
    assert same(mmckpt.load(tmp_path / 'a.safetensors', foreign.net()), model)


def test_missing_unexpected_and_reshaped_weights_are_grouped(tmp_path):
    weights = foreign.net().state_dict()
    weights['2.weight'], weights['extra'] = torch.ones(3, 8), weights.pop('2.bias')
    torch.save(weights, tmp_path / 'a.pth')
    with pytest.raises(IncompatibleCheckpointError) as caught:
        mmckpt.load(tmp_path / 'a.pth', foreign.net())
    text = str(caught.value)
    assert '1 missing in the file:\n    2.bias' in text and '1 unknown to the model:\n    extra' in text
    assert '2.weight: (3, 8) in the file, (1, 8) in the model' in text and 'another number of classes' in text


def test_a_wrapped_model_and_averaged_weights_are_recognised(tmp_path):
    model = foreign.net()
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    with pytest.raises(IncompatibleCheckpointError, match='the model is wrapped.*pass model.module'):
        mmckpt.load(tmp_path / 'a.pth', nn.DataParallel(foreign.net()))
    torch.save({'model': model.state_dict(), 'model_ema': foreign.net().state_dict()}, tmp_path / 'b.pth')
    assert same(mmckpt.load(tmp_path / 'b.pth', foreign.net(), weights='raw'), model)
    assert not same(mmckpt.load(tmp_path / 'b.pth', foreign.net(), weights='ema'), model)


def test_neither_a_hostile_file_nor_a_hostile_config_runs_anything(tmp_path):
    victim = tmp_path / 'victim'
    hostile.os_system(tmp_path / 'a.pth', str(victim))
    with pytest.raises(IncompatibleCheckpointError, match='would call posix.system'):
        mmckpt.load(tmp_path / 'a.pth', foreign.net())
    call = f"dict(type='subprocess.run', args=['touch', '{victim}'])"
    for model in (f"dict(type='os.system', command='touch {victim}')", call.replace('run', 'Popen'),
                  f"dict(type='Recommender', num_items=5, head={call})"):
        torch.save({'meta': dict(cfg=f'model = {model}\n__import__("os").system("touch {victim}")', epoch=1, iter=1),
                    'message_hub': {}, 'state_dict': foreign.net().state_dict()}, tmp_path / 'b.pth')
        with pytest.raises(IncompatibleCheckpointError, match='neither a model nor registered'):
            mmckpt.load(tmp_path / 'b.pth')
    assert not victim.exists()


def test_what_is_not_there_says_so(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match='does not exist'):
        mmckpt.load(tmp_path / 'a.pth')
    with pytest.raises(CheckpointNotFoundError, match='holds no checkpoint that is sound'):
        mmckpt.load(tmp_path)


def test_the_import_of_the_package_loads_neither_hooks_nor_readers():
    code = ('import sys, mmckpt; print({m for m in sys.modules if "mmckpt." in m} - '
            '{"mmckpt._safe_load", "mmckpt.versions"}); mmckpt.load; mmckpt.nothing')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout == 'set()\n' and "no attribute 'nothing'" in done.stderr
