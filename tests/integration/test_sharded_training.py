"""Training in shards on two ranks: each writes its own, and a checkpoint is a directory that counts as one."""

import json
import shutil

import pytest
import torch
from forked import PROJECT
from launched import launch, launch_by_torchrun
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from mmckpt.cli.main import main
from mmckpt.state.digest import CLOCK_KEYS, digest
from mmckpt.store import CheckpointStore, find_checkpoint
from mmckpt.store.unit import MANIFEST, STATE

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(torch.cpu.Stream, 'record_event'),
                                                   reason='fully_shard of this torch needs a GPU')]
# What torch says of its own classes when shards are read as a file.
pytest.importorskip('torch.distributed.fsdp')

CONFIG = PROJECT / 'tiny_sharded.py'
HALF = 'train_dataloader.batch_size=16'


def digests_of(directory, folder):
    """Map each part of a sharded checkpoint to a digest of its content."""
    dcp_to_torch_save(directory, folder / 'whole.pt')
    shards = torch.load(folder / 'whole.pt', weights_only=False)
    told = torch.load(directory / STATE, weights_only=True)
    scalars = {k: v.data for k, v in told['message_hub']['log_scalars'].items() if not k.endswith(CLOCK_KEYS)}
    parts = {'model': shards['model'], 'optimizer': shards['optimizer'], 'scalars': scalars,
             **{key: told['mmckpt'][key] for key in ('rng', 'hooks', 'ranks')}}
    return {name: digest(part) for name, part in parts.items()}


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('sharded') / 'run'
    launch(2, CONFIG, work_dir, HALF)
    return work_dir


@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    """A run of which a rank was killed in iteration 21, and could not write its part in iteration 16."""
    work_dir = tmp_path_factory.mktemp('killed') / 'run'
    out = launch_by_torchrun(2, CONFIG, work_dir, HALF, "custom_hooks.5.type='KillRank'", 'custom_hooks.5.nth=21',
                             'strategy.fails_at=16', expect=1)
    return work_dir, out


def test_directories_are_kept_verified_and_found_like_files(reference):
    names = {path.name for path in reference.glob('*.pth')}
    view = CheckpointStore.read(reference)
    assert names == {record.name for record in view.records()}
    assert {name for name in names if name.startswith('iter')} == {'iter_32.pth', 'iter_36.pth', 'iter_40.pth'}
    assert not any(view.verify(record) for record in view.records())
    assert main(['verify', str(reference)]) == 0
    assert find_checkpoint(reference, 'best:loss').path.name.startswith('best_loss_iter_')
    assert not [path.name for path in reference.iterdir() if path.name.endswith('.tmp')]


def test_what_one_rank_could_not_write_costs_that_save_only(killed):
    work_dir, out = killed
    assert 'rank 1: OSError: planted: no space left' in out and 'Training goes on' in out
    assert 'rank 0: RuntimeError' in out
    # Three are kept, so the fourth iteration's would have gone for that of the eighth.
    assert {path.name for path in work_dir.glob('iter_*.pth')} == {'iter_4.pth', 'iter_12.pth', 'iter_20.pth'}


def test_a_killed_run_that_saves_in_the_background_ends_in_the_same_bits(reference, killed, tmp_path):
    work_dir = tmp_path / 'run'
    shutil.copytree(killed[0], work_dir)
    out = launch(2, CONFIG, work_dir, HALF, 'strategy.async_save=True',
                 'default_hooks.checkpoint.store.async_save=True', flags=['--resume'])
    assert f'Resumed from {work_dir}/iter_20.pth' in out and 'by FailingStrategy' in out
    assert digests_of(work_dir / 'iter_40.pth', tmp_path) == digests_of(reference / 'iter_40.pth', tmp_path)


def test_one_rank_goes_on_with_the_weights_of_two_and_passes_over_a_rotten_shard(killed, tmp_path):
    work_dir = tmp_path / 'run'
    shutil.copytree(killed[0], work_dir)
    shard = next((work_dir / 'iter_20.pth').glob('__1_*'))
    shard.write_bytes(shard.read_bytes()[:-1])
    out = launch(1, CONFIG, work_dir, 'train_cfg.max_epochs=2', 'default_hooks.checkpoint.by_epoch=True',
                 'default_hooks.checkpoint.interval=1', flags=['--resume'])
    assert f'Resumed from {work_dir}/iter_12.pth' in out and '2 rank(s) wrote the file and 1 resume' in out
    assert (work_dir / 'epoch_2.pth/.metadata').samefile(work_dir / 'best_loss_epoch_2.pth/.metadata')
    dcp_to_torch_save(work_dir / 'iter_12.pth', tmp_path / 'whole.pt')
    written = torch.load(tmp_path / 'whole.pt', weights_only=False)
    begun = torch.load(work_dir / 'start_1_12.bin')
    moments = {f'{name}.{key}': value for name, state in written['optimizer']['state'].items()
               for key, value in state.items()}
    assert begun.keys() == {*written['model'], *moments}
    assert all(torch.equal(value, {**written['model'], **moments}[name]) for name, value in begun.items())


def test_a_dry_run_knows_directories_and_another_strategy_is_refused(killed, tmp_path):
    work_dir = tmp_path / 'run'
    shutil.copytree(killed[0], work_dir)
    assert 'verdict' in launch(2, CONFIG, work_dir, HALF, flags=['--resume', '--resume-dry-run'])
    with pytest.raises(AssertionError, match='was written by FailingStrategy, and this run has no strategy that'):
        launch(1, PROJECT / 'tiny_flexible.py', work_dir, HALF, flags=['--resume'])
    assert json.loads((work_dir / 'mmckpt_index.json').read_text())['attempts'][-1]['attempt'] == 1


def test_weights_of_a_file_go_into_shards_as_far_as_they_fit(tmp_path):
    torch.manual_seed(8)
    weights = {f'module.body.{name}': torch.randn(shape) for name, shape in [
        ('0.weight', (8, 1, 3, 3)), ('0.bias', (8,)), ('5.weight', (10, 512)), ('5.bias', (11,)), ('9.bias', (2,))]}
    torch.save({'meta': {}, 'state_dict': weights}, tmp_path / 'pretrained.pth')
    out = launch(2, CONFIG, tmp_path / 'run', HALF, f'load_from={tmp_path}/pretrained.pth', 'train_cfg.max_epochs=1')
    begun = torch.load(tmp_path / 'run/start_2_0.bin')
    for name in ('0.weight', '0.bias', '5.weight'):
        assert torch.equal(begun[f'body.{name}'], weights[f'module.body.{name}'])
    assert '7 weights have no counterpart: body.1.bias' in out


def test_a_directory_that_stock_wrote_is_gone_on_from(killed, tmp_path):
    """As MMEngine's CheckpointHook leaves it: no manifest, no index, nothing of ours."""
    work_dir = tmp_path / 'run'
    shutil.copytree(killed[0] / 'iter_20.pth', work_dir / 'iter_20.pth')
    for name in (MANIFEST, STATE):
        (work_dir / 'iter_20.pth' / name).unlink()
    rest = torch.load(work_dir / 'iter_20.pth/rest.pth', weights_only=True)
    rest.pop('mmckpt')
    torch.save(rest, work_dir / 'iter_20.pth/rest.pth')
    for asked in (dict(flags=['--resume']), dict()):
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_20.pth'))
        out = launch(2, CONFIG, work_dir, HALF, 'resume=True', 'train_cfg.max_epochs=3', **asked)
        assert 'its bytes cannot be checked' in out and f'Resumed from {work_dir}/iter_20.pth' in out
        shutil.rmtree(work_dir / 'iter_24.pth')
        (work_dir / 'mmckpt_index.json').unlink()
        for best in work_dir.glob('best*'):
            shutil.rmtree(best)
