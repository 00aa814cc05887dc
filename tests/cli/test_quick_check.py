"""``mmckpt quick-check`` on healthy and on broken configs."""

import pytest

LONG = 'train_cfg.max_epochs=5'


@pytest.fixture
def broken(stock):
    return stock.replace('stock.py', 'broken.py')


def test_a_healthy_config_passes_and_leaves_nothing(command, stock, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = command('quick-check', stock, '--iterations', '6', '--cfg-options', LONG)
    assert status == 0 and 'forward, backward and validation work' in out
    assert '6 training iterations' in out and 'loss_cls' in out and '6 of 6' in out
    assert 'Whole training: 20 iterations' in out and 'Gradient norm' in out
    assert list(tmp_path.iterdir()) == []


def test_validation_is_dry_and_lists_its_metrics(command, stock):
    _, out, _ = command('quick-check', stock, '--iterations', '6', '--cfg-options', LONG)
    name, value = out[out.index('Metrics that the validation produces'):].splitlines()[2].split()
    # One batch holds 50 of the 128 samples.
    assert name == 'acc' and float(value) * 50 == pytest.approx(round(float(value) * 50))


@pytest.mark.parametrize('options, said', [
    (['default_hooks.checkpoint.save_best=Acc'], ["CheckpointHook monitors 'Acc'", "Did you mean 'acc'"]),
    (['custom_hooks.0.monitor=AP'], ["EarlyStoppingHook monitors 'AP'"]),
    (['optim_wrapper.optimizer.lr=1e9'], ['PROBLEM: NaN or Inf in loss', 'the gradient is NaN or Inf']),
    (['val_dataloader=None', 'val_cfg=None', 'val_evaluator=None'], ['but the config has no validation']),
    (['model.type=ForgetfulNet'], ['PROBLEM: loss_masked is 0 in every iteration',
                                   'PROBLEM: loss_now_and_then was computed in 5 of 10',
                                   'note: no gradient reached 2 parameter(s): forgotten_head.weight, forg']),
    (['model.type=FailingNet'], ['training failed in iteration 1: RuntimeError: sizes of heat maps']),
    (['model.type=UnpredictiveNet'], ['validation failed: NotImplementedError: predict'])])
def test_a_broken_config_is_found(command, broken, options, said):
    status, out, _ = command('quick-check', broken, '--cfg-options', *options)
    assert status == 1
    assert [text for text in said if text not in out] == []


def test_gradient_accumulation_is_run_to_its_step(command, broken):
    status, out, _ = command('quick-check', broken, '--iterations', '2', '--cfg-options',
                             'optim_wrapper.accumulative_counts=4')
    assert status == 0 and '4 training iterations' in out and 'Gradient norm' in out


def test_the_gradient_norm_is_that_before_clipping(command, broken):
    _, out, _ = command('quick-check', broken, '--cfg-options', 'optim_wrapper.clip_grad.max_norm=1e-3')
    line = next(line for line in out.splitlines() if line.startswith('Gradient norm before clipping: '))
    assert float(line.split()[-1]) > 0.1


def test_iterations_must_be_positive(command, stock):
    status, _, err = command('quick-check', stock, '--iterations', '0')
    assert status == 2 and 'at least 1' in err
