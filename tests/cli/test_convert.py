"""``mmckpt convert`` and ``mmckpt publish`` on real files; that the results resume is shown in integration."""

from __future__ import annotations

import hashlib
import re

import foreign
import pytest
import torch

from mmckpt.files import open_file
from mmckpt.files.anatomy import anatomy
from mmckpt.store import load_checkpoint


def test_lightning_becomes_mmengine_with_best_score_counter_and_what_is_lost(mmckpt, tmp_path):
    module, _ = foreign.fit_lightning(tmp_path / 'lightning')
    # A callback with a state that has no counterpart.
    checkpoint = torch.load(tmp_path / 'lightning/last.ckpt', weights_only=True)
    checkpoint['callbacks']['Finetuning'] = {'layers': 2}
    torch.save(checkpoint, tmp_path / 'in.ckpt')
    status, out, err = mmckpt('convert', tmp_path / 'in.ckpt', tmp_path / 'out.pth', '--map', 'net.=>body.',
                              '--metric', 'val_loss=loss')
    assert status == 0 and '4 tensors, 4 renamed' in out and 'not mapped: callback Finetuning' in err
    read = load_checkpoint(tmp_path / 'out.pth')
    assert all(torch.equal(read['state_dict'][f'body.{k}'], v) for k, v in module.net.state_dict().items())
    score = read['message_hub']['runtime_info']['best_score']
    assert score == pytest.approx(float(checkpoint['callbacks'][next(iter(checkpoint['callbacks']))]['best_score']))
    stopping = read['mmckpt']['hooks']['EarlyStoppingHook']
    assert (stopping['monitor'], stopping['rule'], stopping['wait_count']) == ('loss', 'less', 0)
    assert read['meta']['hyper_parameters'] == {'width': 8, 'num_items': 1}
    # Whoever finds a better one removes the file of the old one, which is not ours.
    assert 'best_ckpt' not in read['message_hub']['runtime_info']


def test_callbacks_of_lightning_are_mapped_or_named_with_the_reason(mmckpt, tmp_path):
    callbacks = foreign.lightning().pytorch.callbacks
    averaging = callbacks.StochasticWeightAveraging(1e-3, swa_epoch_start=1, device=None)
    module, _ = foreign.fit_lightning(tmp_path, 4, callbacks=[averaging, callbacks.Timer()])
    status, out, err = mmckpt('convert', tmp_path / 'last.ckpt', tmp_path / 'out.pth')
    assert status == 0 and 'EMA ' in out and 'not mapped: callback Timer: a limit of time' in err
    assert 'scheduler: MMEngine has no schedule that goes over to the rate of stochastic' in err
    assert 'StochasticWeightAveraging' not in err
    # The last Lightning for Python 3.9 puts an object of torch into its file.
    before, after = (torch.load(tmp_path / name, weights_only=name == 'out.pth') for name in ('last.ckpt', 'out.pth'))
    state = before['callbacks']['StochasticWeightAveraging']
    for name, average in state['average_model_state'].items():
        assert torch.equal(after['state_dict'][name], average)
        assert torch.equal(after['ema_state_dict'][f'module.{name}'], before['state_dict'][name])
    assert after['ema_state_dict']['steps'] == 6 * state['n_averaged'] > 0


def test_several_optimizers_are_named_by_the_file_or_the_user(mmckpt, tmp_path):
    model, first, scheduler = foreign.trained()
    other = torch.optim.SGD(model.parameters(), 0.1)
    common = {'model': model.state_dict(), 'epoch': 3, 'iter': 18}
    states = {'g': first.state_dict(), 'd': other.state_dict()}
    torch.save({**common, 'optimizers': states, 'scheduler': scheduler.state_dict()}, tmp_path / 'a.pth')
    status, out, err = mmckpt('convert', tmp_path / 'a.pth', tmp_path / 'b.pth')
    read = load_checkpoint(tmp_path / 'b.pth')
    assert (status, err) == (0, '') and 'g scheduler' in out and list(read['optimizer']) == ['g', 'd']
    # Only the first one was ever scheduled.
    assert [len(states) for states in read['param_schedulers'].values()] == [1, 0]
    torch.save({**common, 'optimizers': list(states.values())}, tmp_path / 'c.pth')
    _, _, err = mmckpt('convert', tmp_path / 'c.pth', tmp_path / 'd.pth')
    assert 'pass --optimizers NAME,NAME in this order: 4 parameters' in err
    assert mmckpt('convert', tmp_path / 'c.pth', tmp_path / 'd.pth', '--optimizers', 'g,g')[0] == 2
    mmckpt('convert', tmp_path / 'c.pth', tmp_path / 'd.pth', '--force', '--optimizers', 'x,y')
    assert list(load_checkpoint(tmp_path / 'd.pth')['optimizer']) == ['x', 'y']
    torch.save({**common, 'optimizers': states, 'scheduler': [scheduler.state_dict()] * 2}, tmp_path / 'e.pth')
    _, _, err = mmckpt('convert', tmp_path / 'e.pth', tmp_path / 'f.pth')
    assert 'schedulers: there are 2, and 1 of the 2 optimizers have had one' in err
    read['param_schedulers'] = {'g': [{'start_factor': 1}, {'begin': 2}], 'd': []}
    torch.save(read, tmp_path / 'broken.pth')
    status, _, err = mmckpt('convert', tmp_path / 'broken.pth', tmp_path / 'broken.ckpt')
    assert status == 0 and 'not mapped: schedulers: ' in err
    out = mmckpt('convert', tmp_path / 'b.pth', tmp_path / 'g.ckpt')[1]
    assert 'all else' not in out and '4 and 4 parameters' in out
    lightning = torch.load(tmp_path / 'g.ckpt', weights_only=True)
    assert len(lightning['optimizer_states']) == 2 and len(lightning['lr_schedulers']) == 1


def test_rules_rename_drop_and_are_checked(mmckpt, tmp_path):
    torch.save({f'module.{k}': v for k, v in foreign.net().state_dict().items()}, tmp_path / 'in.pth')
    out = tmp_path / 'out.pth'
    assert mmckpt('convert', tmp_path / 'in.pth', out, '--map-regex', r'^(\d)\.=>layer\1.', '--drop', r'^2\.')[0] == 0
    assert list(load_checkpoint(out)['state_dict']) == ['layer0.weight', 'layer0.bias']
    for options, said in [(['--map', 'nett.=>x.'], "fits no weight. The names begin with '0.', '2.'"),
                          (['--map-regex', r'^\d=>x'], "two weights become 'x.weight'"),
                          (['--map', 'net.:x.'], "a rule is written 'OLD=>NEW'"),
                          (['--map-regex', '(=>x'], 'no regular expression'),
                          (['--metric', 'a=b'], 'no best score')]:
        status, _, err = mmckpt('convert', tmp_path / 'in.pth', tmp_path / 'no.pth', *options)
        assert status == 2 and said in err and not (tmp_path / 'no.pth').exists()
    status, _, err = mmckpt('convert', tmp_path / 'in.pth', out)
    assert status == 2 and 'is there already; pass --force' in err


def test_mmengine_to_safetensors_and_back_keeps_weights_and_meta(mmckpt, trained, tmp_path):
    source = trained / 'epoch_2.pth'
    assert mmckpt('convert', source, tmp_path / 'a.safetensors')[0] == 0
    assert mmckpt('convert', tmp_path / 'a.safetensors', tmp_path / 'b.pth')[0] == 0
    before, after = load_checkpoint(source), load_checkpoint(tmp_path / 'b.pth')
    assert sorted(after['state_dict']) == sorted(before['state_dict'])
    assert all(torch.equal(after['state_dict'][k], v) for k, v in before['state_dict'].items())
    assert after['meta']['cfg'] == before['meta']['cfg'] and after['meta']['epoch'] == 2
    assert after['meta']['dataset_meta']['classes'] == tuple('0123456789')
    library = pytest.importorskip('safetensors.torch').load_file(tmp_path / 'a.safetensors')
    assert all(torch.equal(library[k], v) for k, v in before['state_dict'].items())


def test_mmengine_files_are_renamed_and_keep_all_else(mmckpt, trained, tmp_path):
    assert mmckpt('convert', trained / 'epoch_2.pth', tmp_path / 'b.pth', '--map', 'body.=>trunk.')[0] == 0
    before, after = load_checkpoint(trained / 'epoch_2.pth'), load_checkpoint(tmp_path / 'b.pth')
    assert set(after) == set(before) and after['meta'] == before['meta']
    assert [k.replace('trunk.', 'body.') for k in after['state_dict']] == list(before['state_dict'])


def test_averaged_weights_come_where_emahook_looks_for_them(mmckpt, tmp_path):
    model, average = foreign.net().state_dict(), foreign.net().state_dict()
    torch.save({'model': model, 'model_ema': {f'module.{k}': v for k, v in average.items()}}, tmp_path / 'in.pth')
    assert mmckpt('convert', tmp_path / 'in.pth', tmp_path / 'out.pth')[0] == 0
    read = load_checkpoint(tmp_path / 'out.pth')
    for key in model:
        # MMEngine keeps the average as the model's and the weights in training beside it.
        assert torch.equal(read['state_dict'][key], average[key])
        assert torch.equal(read['ema_state_dict'][f'module.{key}'], model[key])
    assert anatomy(read).raw is not None


def test_what_is_no_checkpoint_or_does_not_say_how_far_it_was_is_refused(mmckpt, tmp_path):
    torch.save({'a': 1}, tmp_path / 'a.pth')
    status, _, err = mmckpt('convert', tmp_path / 'a.pth', tmp_path / 'out.pth')
    assert status == 2 and "holds no weights that could be found; it holds 'a'" in err
    foreign.system_e(tmp_path / 'e.pth')
    status, _, err = mmckpt('convert', tmp_path / 'e.pth', tmp_path / 'out.pth')
    assert status == 2 and 'pass --iter N (completed), or --weights-only' in err
    assert mmckpt('convert', tmp_path / 'e.pth', tmp_path / 'out.pth', '--weights-only')[0] == 0


def test_names_out_of_a_file_do_not_reach_the_terminal_as_commands(mmckpt, tmp_path):
    weights = {'\x1b[2Jw': torch.ones(1), '\x1b[2Jv': torch.ones(1)}
    torch.save({'model': weights, '\x1b[31mred': 1}, tmp_path / 'a.pth')
    for arguments in (['inspect', '{}', '--stats'], ['convert', '{}', tmp_path / 'b.pth', '--force'],
                      ['convert', '{}', tmp_path / 'c.pth', '--map-regex', '.$=>x'], ['diff', '{}', tmp_path / 'b.pth'],
                      ['publish', '{}']):
        printed = mmckpt(*(str(a).format(tmp_path / 'a.pth') for a in arguments))
        assert '\x1b' not in printed[1] + printed[2]


# publish ---------------------------------------------------------------------

@pytest.mark.parametrize('options, suffix', [([], 'pth'), (['--safetensors'], 'safetensors')])
def test_the_name_of_a_published_file_is_its_sha256(mmckpt, trained, tmp_path, options, suffix):
    status, out, _ = mmckpt('publish', trained / 'epoch_2.pth', '--out', tmp_path, '--name', 'tiny', *options)
    path = tmp_path / out.splitlines()[-1].rpartition('/')[2]
    assert status == 0 and [path] == list(tmp_path.iterdir())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'tiny-{digest[:8]}.{suffix}'
    assert torch.hub.HASH_REGEX.search(path.name).group(1) == digest[:8]
    source, parts = load_checkpoint(trained / 'epoch_2.pth'), open_file(path)
    assert path.stat().st_size < (trained / 'epoch_2.pth').stat().st_size
    if suffix == 'pth':
        read = load_checkpoint(path)
        assert set(read) == {'meta', 'state_dict'} and read['meta']['cfg'] == source['meta']['cfg']
        assert 'experiment_name' not in read['meta']
        assert all(torch.equal(read['state_dict'][k], v) for k, v in source['state_dict'].items())
    else:
        assert set(parts.tree) == set(source['state_dict'])


@pytest.mark.parametrize('which', ['ema', 'raw', 'file'])
def test_averaged_weights_or_those_in_training_are_published_on_request(mmckpt, tmp_path, which):
    average, own = foreign.net().state_dict(), foreign.net().state_dict()
    state = {'meta': {'epoch': 1, 'iter': 6}, 'message_hub': {}, 'state_dict': average,
             'ema_state_dict': {'steps': torch.tensor(3), **{f'module.{k}': v for k, v in own.items()}}}
    torch.save(state, tmp_path / 'a.pth')
    out = mmckpt('publish', tmp_path / 'a.pth', '--weights', which)[1]
    read = load_checkpoint(out.splitlines()[-1])['state_dict']
    assert all(torch.equal(read[k], (own if which == 'raw' else average)[k]) for k in average)


def test_averaged_weights_that_are_not_there_are_not_published(mmckpt, trained, tmp_path):
    status, out, err = mmckpt('publish', trained / 'epoch_2.pth', '--weights', 'ema', '--out', tmp_path)
    assert status == 2 and 'one set of weights only' in err and not list(tmp_path.iterdir())


def test_paths_of_the_authors_machine_are_named_and_stripped_on_request(mmckpt, tmp_path):
    config = '''data_root = '/home/ann/data/coco/'
dataset = dict(ann_file="/home/ann/data/coco/train.json", prefix='images/', url='https://host/a')
mapping = {'C:\\\\runs\\\\x': '~/cache', 'a': "it's /not/one"}
work_dir = '/home/ann/runs'
'''
    torch.save({'meta': {'cfg': config, 'hyper_parameters': {'root': '/mnt/set', 'rate': 1}}, 'message_hub': {},
                'state_dict': foreign.net().state_dict()}, tmp_path / 'a.pth')
    status, out, err = mmckpt('publish', tmp_path / 'a.pth')
    assert status == 0 and '/home/ann/data/coco/, /home/ann/data/coco/train.json' in err and 'and 3 more' in err
    assert load_checkpoint(out.splitlines()[-1])['meta']['cfg'] == config
    status, out, err = mmckpt('publish', tmp_path / 'a.pth', '--strip-paths')
    meta = load_checkpoint(out.splitlines()[-1])['meta']
    assert (status, err) == (0, '') and meta['hyper_parameters'] == {'root': 'set', 'rate': 1}
    assert meta['cfg'] == '''data_root = 'coco/'
dataset = dict(ann_file="train.json", prefix='images/', url='https://host/a')
mapping = {'x': 'cache', 'a': "it's /not/one"}
work_dir = 'runs'
'''


def test_a_published_name_is_not_published_twice_over(mmckpt, trained, tmp_path):
    first = mmckpt('publish', trained / 'epoch_2.pth', '--out', tmp_path)[1].splitlines()[-1]
    second = mmckpt('publish', first)[1].splitlines()[-1]
    assert re.fullmatch(r'epoch_2-[0-9a-f]{8}\.pth', first.rpartition('/')[2]) and first == second
