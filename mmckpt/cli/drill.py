"""``mmckpt quick-check --resume-drill``: is the resumed run the run that was never stopped?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from mmckpt.cli.console import print_table, say, shown_path
from mmckpt.cli.drill_causes import causes_of_chance, causes_of_difference
from mmckpt.cli.drill_compare import Comparison, Part, compare, hub_noise, lost_attributes
from mmckpt.cli.drill_process import Plan
from mmckpt.errors import MMCkptError, UsageError


class ProcessFailed(MMCkptError):
    """A training process of the drill ended with an error."""


class ResumeDrill:
    """Trains a config straight, and again with a new process in the middle, and compares.

    Every process is a real one, started as a user would start it; the config
    is left as it is but for the place and time of saving, the validation
    (left out) and visualization backends (none).

    Args:
        config (str): The user's config file.
        options (dict or None): Its ``--cfg-options``.
        iterations (int): Iterations before the restart, and after it.
        safe (bool): Whether the config is made safe first, as ``--safe`` does.
        directory (str): Where the processes write.
    """

    def __init__(self, config: str, options: dict[str, Any] | None, iterations: int, safe: bool,
                 directory: str) -> None:
        self.config, self.options, self.safe = config, options or {}, safe
        self.iterations = iterations
        self.directory = Path(directory)

    def run(self) -> int:
        """Run the drill and print what it found.

        Returns:
            int: 0 if the two runs are the same to the bit, else 1.

        Raises:
            UsageError: If the config trains for too few iterations.
            ProcessFailed: If it does not train at all.
        """
        straight = self._process('straight', 'straight run')
        cut = straight['cut']
        _check_length(straight, 2 * cut, self.iterations)
        first = self._process('first', 'up to the restart')
        chance = compare(straight['trace'], first['trace'], 0, cut, hub_noise(straight['trace'], first['trace'], cut))
        if _substantial(chance):
            return self._report_chance(straight, chance)
        try:
            resumed = self._process('resumed', 'from there on in a new process')
        except ProcessFailed as error:
            print(f'{error}\nresume drill: THE RESUME FAILED')
            return 1
        return self._report(straight, first, resumed)

    def _process(self, role: str, what: str) -> dict[str, Any]:
        name = 'interrupted' if role in ('first', 'resumed') else role
        result, plan_file = (self.directory / f'{role}.{kind}' for kind in ('result', 'plan'))
        plan = Plan(self.config, self.options, self.safe, self.iterations, role, str(self.directory / name),
                    str(result))
        plan.write(plan_file)
        started, log = time.monotonic(), self.directory / f'{role}.log'
        # The process imports what this one can, a project's own modules above all.
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path or os.getcwd() for path in sys.path))
        with open(log, 'wb') as output:
            done = subprocess.run([sys.executable, '-m', 'mmckpt.cli.drill_process', str(plan_file)],
                                  env=environment, stdout=output, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            lines = log.read_text(errors='replace').splitlines()[-30:]
            raise ProcessFailed('\n'.join([f'the process of the drill that trains the {what} ended with status '
                                           f'{done.returncode}; its last lines:', *lines]))
        say(f'{what}: {time.monotonic() - started:.1f} s')
        return torch.load(result, weights_only=True)

    def _report(self, straight: dict[str, Any], first: dict[str, Any], resumed: dict[str, Any]) -> int:
        cut, traces = straight['cut'], (straight['trace'], resumed['trace'])
        _check_place(resumed, cut)
        noise = hub_noise(straight['trace'], first['trace'], cut)
        found = compare(*traces, cut, 2 * cut, noise)
        lost = lost_attributes(*(result['attributes'] for result in (straight, first, resumed)))
        print_table(f'Resume drill of {shown_path(self.config)}: {2 * cut} iterations straight, and {cut} + {cut} with '
                    'a new process in between', ['part', 'compared', 'result'],
                    [[p.name, _entries(p, cut), _result(p, cut)] for p in found.parts if p.entries])
        print(_circumstances(straight))
        if not found.differing:
            if lost:
                print(f"note: the restart lost {', '.join(lost[:3])}; these iterations do not depend on it")
            print(f'resume drill: IDENTICAL: {cut} + {cut} iterations are the {2 * cut} of the straight run, to the bit',
                  flush=True)
            return 0
        for cause in causes_of_difference(found, lost, resumed | {'kernels': self._kernels(found)}):
            print(f'cause: {cause}')
        print(f'resume drill: NOT IDENTICAL: the resumed run is another one from iteration {found.first + 1} on '
              f'({found.differing[0].name})', flush=True)
        return 1

    def _report_chance(self, straight: dict[str, Any], found: Comparison) -> int:
        cut = straight['cut']
        print_table(f'Resume drill of {shown_path(self.config)}: the first {cut} iterations, run twice',
                    ['part', 'compared', 'result'],
                    [[p.name, _entries(p, cut), _result(p, None)] for p in found.parts if p.entries])
        print(_circumstances(straight))
        for cause in causes_of_chance(found, straight, self._kernels(found)):
            print(f'cause: {cause}')
        print('resume drill: NOT REPRODUCIBLE: two runs that are started alike part at iteration '
              f'{found.first + 1} ({found.differing[0].name}), so no resume can be exact', flush=True)
        return 1

    def _kernels(self, found: Comparison) -> list[str]:
        """Ask PyTorch for kernels that are not deterministic, where nothing but they can explain what differs."""
        if set(found.at(found.first)) - {'losses', 'weights', 'buffers', 'optimizer', 'gradients', 'EMA'}:
            return []
        return self._process('kernels', 'once more, listening for kernels that are not deterministic')['kernels']


def drill(config: str, options: dict[str, Any] | None, iterations: int, safe: bool, work_dir: str) -> int:
    """Run a :class:`ResumeDrill` in a new folder inside ``work_dir``."""
    directory = tempfile.mkdtemp(prefix='resume-drill-', dir=work_dir)
    return ResumeDrill(config, options, iterations, safe, directory).run()


def _check_length(straight: dict[str, Any], needed: int, asked: int) -> None:
    done = max(straight['trace'], default=0)
    if needed not in straight['trace']:
        epochs = '' if straight['cuts_inside'] else (
            f" ({straight['loop']} resumes at the end of an epoch only, so the drill needs 2 epochs)")
        raise UsageError(f'--iterations {asked} needs a training of {needed} iterations or more{epochs}, but this '
                         f'one ended after {done + 1}. Pass fewer --iterations, or a longer train_cfg.')


def _check_place(resumed: dict[str, Any], cut: int) -> None:
    begun = min(resumed['trace'], default=None)
    if begun != cut:
        raise ProcessFailed(f'the resumed process did not go on at iteration {cut + 1}, but at '
                            f'{None if begun is None else begun + 1}: the checkpoint of iteration {cut} was not '
                            'written, or not found')


def _substantial(found: Comparison) -> bool:
    return any(p.name not in ('message hub', 'hooks') for p in found.differing)


def _entries(part: Part, cut: int) -> str:
    if part.name in ('sample order', 'data batches'):
        return f'{cut} batches'
    return f'{part.entries} term(s) x {cut}' if part.name == 'losses' else f'{part.entries} x {cut + 1}'


def _result(part: Part, cut: int | None) -> str:
    if part.parted is None:
        return 'identical'
    where = '' if part.name in ('sample order', 'data batches') else ': ' + _shown(part.where)
    if part.parted == cut and part.name not in ('losses', 'sample order', 'data batches'):
        return f'NOT RESTORED{where}'
    return f'DIFFERS from iteration {part.parted + 1} on{where}'


def _shown(paths: tuple[str, ...]) -> str:
    return paths[0] if len(paths) == 1 else f'{paths[0]} and {len(paths) - 1} more'


def _circumstances(straight: dict[str, Any]) -> str:
    cut, length = straight['cut'], straight['epoch_length']
    if straight['cuts_inside']:
        place = 'the restart lies inside an epoch' if length and cut % length else 'the restart lies between two epochs'
    else:
        place = f"{straight['loop']} resumes at the end of an epoch only: an epoch was shortened to {cut} iterations"
    workers = straight['workers']
    return f"Drilled: {place}; {workers} data worker(s); {straight['device']}; validation left out"
