"""Real training processes without the seconds of a start: forked from one that has imported everything."""

import functools
import gc
import importlib
import multiprocessing
import os
import socket
import sys
from pathlib import Path

import matplotlib.pyplot  # noqa: F401
import mmengine.device.utils
import mmengine.runner.runner
import torch
import torch._dynamo
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

import mmckpt.cli.launch
import mmckpt.data
import mmckpt.hooks
import mmckpt.loops
import mmckpt.optim_wrapper
from mmckpt.cli.config import build_runner

PROJECT = Path(__file__).parent / 'project'

# Every Runner asks compilers and drivers for their versions, for seconds; the answer stays the same.
mmengine.runner.runner.collect_env = functools.lru_cache(mmengine.runner.runner.collect_env)


def fork(function, *args, out, **environment):
    """Call a function in a process of its own; return the process, which has begun.

    Args:
        function (callable): What it does; its result is the exit status.
        *args: Arguments of the function.
        out (Path): The file that gets what it prints.
        **environment (str): Environment variables.
    """
    mmengine.runner.runner.collect_env()
    # What the parent has imported is nothing for the child's garbage collector to walk, and copy, again.
    gc.freeze()
    process = multiprocessing.get_context('fork').Process(target=_begin, args=(function, args, out, environment))
    process.start()
    return process


def join(process):
    """Wait for a process to end; return its exit status, negative for a signal."""
    process.join(200)
    assert process.exitcode is not None, 'the process hangs'
    return process.exitcode


def fork_ranks(number, function, *args, out):
    """Call a function on some ranks, each a process that is told of the others as torchrun would tell it.

    Args:
        number (int): Processes.
        function (callable): What each does.
        *args: Arguments of the function.
        out (Path): The file that gets what all print, anew.

    Returns:
        str: What they printed; all of them must end with exit status 0.
    """
    out.write_text('')
    job = dict(WORLD_SIZE=str(number), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    ranks = [fork(function, *args, out=out, RANK=str(rank), LOCAL_RANK=str(rank), **job) for rank in range(number)]
    try:
        statuses = [join(rank) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert statuses == [0] * number, f'{statuses}\n{out.read_text()[-6000:]}'
    return out.read_text()


def on_two_ranks(function, folder):
    """Call ``function(folder)`` on two ranks that have joined a gloo group; return what they printed."""
    return fork_ranks(2, _in_group, function, folder, out=folder / 'ranks.out')


def free_port():
    """Return a port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def train_forked(config, work_dir, *, resume=False, kill=None, load_from=None, hooks=(), **overrides):
    """Train in a process of its own.

    Args:
        config (str or Path): Name of a config of the test project, or the path of another.
        work_dir (Path): Where the run lives.
        resume (bool): As the Runner's.
        kill (tuple, optional): Event and count at which the process ends by SIGKILL, or a third
            entry that says how.
        load_from (Path, optional): As the Runner's.
        hooks (Sequence[dict]): Further custom hooks.
        **overrides: Config entries; dots become nested keys, given with ``__``. With
            ``launcher='pytorch'`` the process joins a group, as the environment tells it.

    Returns:
        int: Exit status; negative for a signal.
    """
    return join(fork(_train, config, work_dir, resume, kill, load_from, hooks, overrides, out=_out_of(work_dir)))


def log_of(work_dir):
    """Return what all processes of a run printed."""
    return _out_of(work_dir).read_text()


def _out_of(work_dir):
    return work_dir.parent / f'{work_dir.name}.out'


def _begin(function, args, out, environment):
    file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1), os.dup2(file, 2)
    sys.stdout = sys.stderr = os.fdopen(1, 'w', buffering=1)
    for kind in (MMLogger, MessageHub, DefaultScope, Visualizer):
        kind._instance_dict.clear()
    # A forked process cannot use CUDA once its parent has; what is tested here needs none.
    torch.cuda.is_available = lambda: False
    mmengine.device.utils.DEVICE = 'cpu'
    torch.set_num_threads(1)
    sys.path.insert(0, str(PROJECT))
    os.environ.update(environment)
    sys.exit(function(*args))


def _in_group(function, folder):
    with mmckpt.cli.launch.process_group(Config(), 'pytorch'):
        function(folder)


def _train(config, work_dir, resume, kill, load_from, hooks, overrides):
    cfg = Config.fromfile(PROJECT / config)
    cfg.work_dir, cfg.resume, cfg.load_from = str(work_dir), resume, load_from and str(load_from)
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in overrides.items()})
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), *hooks]
    if kill is not None:
        # KillHook lives there; configs of the test project have imported it already.
        importlib.import_module('tiny_project')
        event, nth, *how = kill
        cfg.custom_hooks.append(dict(type='KillHook', event=event, nth=nth, how=how[0] if how else 'kill'))
    with mmckpt.cli.launch.process_group(cfg, cfg.get('launcher', 'none')):
        build_runner(cfg).train()
