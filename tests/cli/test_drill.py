"""The resume drill: real processes with planted faults, and how it compares and explains."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from mmckpt.cli.drill_causes import causes_of_chance, causes_of_difference, unexplained
from mmckpt.cli.drill_compare import Attribute, compare, lost_attributes, noise_of
from mmckpt.cli.drill_process import nondeterministic_kernels
from mmckpt.cli.drill_record import SampleIds

EXACT = str(Path(__file__).parents[1] / 'integration/project/tiny_exact.py')
FAULTY = str(Path(__file__).parent / 'project/drill.py')


def row(out, part):
    return next(line for line in out.splitlines() if line.startswith(f'  {part} '))


def words(text):
    """The text without its line breaks."""
    return re.sub(r'\s+', ' ', text)


# Real processes -----------------------------------------------------------------


@pytest.mark.slow
def test_an_exact_config_is_identical_also_inside_an_epoch_and_a_window(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = command('quick-check', EXACT, '--resume-drill', '--iterations', '4', '--cfg-options',
                             'train_dataloader.num_workers=2')
    assert status == 0 and 'resume drill: IDENTICAL: 4 + 4 iterations are the 8 of the straight run' in out, out
    assert 'the restart lies inside an epoch; 2 data worker(s)' in out
    for part in ('losses', 'sample order', 'data batches', 'weights', 'buffers', 'gradients', 'optimizer', 'schedulers',
                 'EMA', 'python stream', 'numpy stream', 'torch stream', 'hooks', 'counters', 'message hub'):
        assert row(out, part).endswith('identical')
    assert list(tmp_path.iterdir()) == []


FAULTS = {
    'a generator that nobody saves': (
        ['model.type=NoisyNet'], 'losses', 5,
        'cause: model.noise (a random generator) begins anew: nobody saves it. Register it with'),
    'a hook with hidden state': (
        ['custom_hooks.6.type=CoolingHook'], 'optimizer', 6,
        'cause: the restart lost CoolingHook.seen (5, after the restart 1), which is in no checkpoint.'),
    'a data set that draws from the streams of its workers': (
        ['train_dataloader.num_workers=2', 'train_dataloader.persistent_workers=True'], 'data batches', 5,
        'draws from the global streams of its 2 worker(s), which a restart begins anew. Wrap it'),
}


@pytest.mark.slow
@pytest.mark.parametrize('fault', FAULTS)
def test_a_planted_fault_is_found_and_named(fault, command):
    options, first, iteration, cause = FAULTS[fault]
    status, out, _ = command('quick-check', FAULTY, '--resume-drill', '--iterations', '4', '--cfg-options', *options)
    assert status == 1 and cause in words(out), out
    assert f'DIFFERS FIRST, from iteration {iteration} on' in row(out, first)
    assert row(out, 'sample order').endswith('identical')
    assert out.splitlines()[-1].endswith(f'the resumed run is another one from iteration {iteration} on')


@pytest.mark.slow
def test_chance_is_not_blamed_on_the_resume(command):
    status, out, _ = command('quick-check', FAULTY, '--resume-drill', '--iterations', '3', '--cfg-options',
                             'model.type=RestlessNet')
    assert status == 1 and 'NOT REPRODUCIBLE: two runs that are started alike part at iteration 1' in out, out
    assert 'cause: model.random (a random generator) differs from run to run' in words(out)


@pytest.mark.slow
def test_a_config_that_does_not_train_is_an_input_error_with_its_traceback(command):
    status, _, err = command('quick-check', FAULTY.replace('drill.py', 'broken.py'), '--resume-drill',
                             '--cfg-options', 'model.type=FailingNet')
    assert status == 2 and 'straight run ended with status 1' in err
    assert err.strip().endswith('RuntimeError: sizes of heat maps and targets differ')


@pytest.mark.parametrize('arguments, said', [
    (['--safe'], '--safe goes with --resume-drill'), (['--resume-drill', '--iterations', '0'], 'at least 1')])
def test_bad_arguments_are_refused(command, stock, arguments, said):
    status, _, err = command('quick-check', stock, *arguments)
    assert status == 2 and said in err


# Comparing and explaining ---------------------------------------------------------


def trace(begin, end, **changes):
    """A recorded run whose entries are equal but for ``changes``: part -> {completed iterations: text}."""

    def text(part, n):
        return changes.get(part.replace(' ', '_'), {}).get(n, f'{part} {n}')

    states = ('weights', 'buffers', 'optimizer', 'torch stream', 'hooks', 'message hub')
    run = {n: dict(state={part: {'entry': text(part, n)} for part in states}, batch=text('batch', n),
                   samples=text('samples', n), losses={'loss': text('losses', n)}) for n in range(begin, end)}
    run[end] = dict(state={part: {'entry': text(part, end)} for part in states})
    return run


RESUMED = dict(keeps_streams=True, exact_loop=True, loop='EpochBasedTrainLoop', workers=0, seeds_samples=False)


@pytest.mark.parametrize('changes, roots, first, cause', [
    (dict(torch_stream={2: 'x', 3: 'x'}, losses={2: 'x'}), ['torch stream'], 2,
     'something drew from it between the end of the resume'),
    (dict(buffers={2: 'x'}, losses={3: 'x'}), ['buffers'], 2, 'persistent=False'),
    (dict(optimizer={2: 'x'}), ['optimizer'], 2, 'save_optimizer'),
    (dict(hooks={2: 'x'}), ['hooks'], 2, 'look at its load_state_dict()'),
    (dict(samples={3: 'x'}, batch={3: 'x'}, losses={3: 'x'}), ['sample order', 'data batches'], 3, 'ResumableSampler'),
    (dict(batch={2: 'x'}, losses={2: 'x'}), ['data batches'], 2, 'draws from the global streams of this process'),
    (dict(losses={3: 'x'}, weights={4: 'x'}), ['losses'], 3, None),
    (dict(weights={4: 'x'}), ['weights'], 4, None)])
def test_what_differs_first_gives_the_cause(changes, roots, first, cause):
    found = compare(trace(0, 4), trace(2, 4, **changes), 2, 4)
    assert (found.roots, found.first) == (roots, first)
    causes = causes_of_difference(found, [], RESUMED)
    assert causes == [] if cause is None else len(causes) == 1 and cause in causes[0]


def test_streams_that_nothing_keeps_are_the_cause_of_other_data():
    found = compare(trace(0, 4), trace(2, 4, torch_stream={2: 'x'}, batch={2: 'x'}), 2, 4)
    [cause] = causes_of_difference(found, [], dict(RESUMED, keeps_streams=False))
    assert "Add dict(type='mmckpt.RNGStateHook')" in cause


def test_equal_runs_have_no_difference():
    found = compare(trace(0, 4), trace(2, 4), 2, 4)
    assert found.differing == [] and found.first is None


def test_the_last_state_counts():
    assert compare(trace(0, 4), trace(2, 4, optimizer={4: 'x'}), 2, 4).first == 4


def test_clocks_are_no_difference():
    straight, first = trace(0, 4), trace(0, 2, message_hub={1: '0.5 s'}, hooks={2: '12:00'})
    noise = noise_of(straight, first, 2)
    assert compare(straight, first, 0, 2, noise).differing == []
    assert [p.name for p in compare(straight, first, 0, 2).differing] == ['message hub', 'hooks']


def test_an_attribute_is_lost_only_if_both_halves_agree_on_it():
    straight = {'A.count': 'int 4', 'A.clock': 'float 1.0', 'A.same': 'int 1', 'model.g': 'generator ab'}
    lost = lost_attributes(straight, dict(straight, **{'A.clock': 'float 2.0'}),
                           {'A.clock': 'float 9.0', 'A.same': 'int 1', 'model.g': 'generator cd'})
    assert [str(a) for a in lost] == ['A.count (4, after the restart nothing)', 'model.g (a random generator)']


@pytest.mark.parametrize('path, advice', [
    ('model.body', 'register_generator'), ('WarmHook.rng', 'register_generator'),
    ('dataset.pipeline.transforms[0].rng', 'mmckpt.DeterministicDataset')])
def test_the_advice_is_that_for_the_owner_of_a_generator(path, advice):
    found = compare(trace(0, 4), trace(2, 4, losses={2: 'x'}), 2, 4)
    [cause] = causes_of_difference(found, [Attribute(path, 'generator a', 'generator b')], RESUMED)
    assert advice in cause


@pytest.mark.parametrize('changes, cause', [
    (dict(weights={0: 'x'}, losses={0: 'x'}), 'the initial weights differ'),
    (dict(samples={1: 'x'}, batch={1: 'x'}), 'the sampler gives other samples'),
    (dict(batch={1: 'x'}), 'a transform draws from a generator that nobody seeds'),
    (dict(torch_stream={1: 'x'}), 'draw different amounts from the torch stream')])
def test_chance_is_explained_by_what_differs_first(changes, cause):
    assert cause in causes_of_chance(compare(trace(0, 4), trace(0, 2, **changes), 0, 2), [])[0]


def test_kernels_are_named_by_pytorch_itself():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.]))
    finally:
        torch.use_deterministic_algorithms(False)
    kernels = nondeterministic_kernels([str(w.message) for w in caught])
    assert kernels == ['put_']
    found = compare(trace(0, 4), trace(2, 4, losses={3: 'x'}), 2, 4)
    assert 'put_. Set randomness=dict(deterministic=True)' in unexplained(found, kernels)
    assert 'equal until iteration 4' in unexplained(found, [])


# Sample order --------------------------------------------------------------------


@pytest.mark.parametrize('workers', [{}, dict(num_workers=2), dict(num_workers=2, persistent_workers=True)])
def test_sample_ids_are_those_of_the_batch_at_hand(workers):
    loader = DataLoader(list(range(10, 20)), batch_size=4, shuffle=True, **workers)
    ids, runner = SampleIds.of(loader), SimpleNamespace(train_loop=None)
    assert len(loader) == 3 and isinstance(loader, DataLoader)
    for _ in range(2):
        for i, batch in enumerate(loader):
            assert ids.next(runner) == str([value - 10 for value in batch.tolist()])
            if i == 1:
                break
