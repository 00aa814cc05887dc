"""``mmckpt quick-check --resume-drill``: is the resumed run the run that was never stopped?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import torch

from mmckpt.cli.console import print_table, say, shown_path
from mmckpt.cli.drill_causes import causes_of_chance, causes_of_difference, unexplained
from mmckpt.cli.drill_compare import (
    Attribute,
    Comparison,
    Part,
    compare,
    lost_attributes,
    noise_of,
    unlike_generators,
)
from mmckpt.cli.drill_process import Plan
from mmckpt.errors import MMCkptError, UsageError
from mmckpt.state.preflight import some_of

# One digest stands for all of it.
_WHOLE = ('sample order', 'data batches')


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
        noise = noise_of(straight['trace'], first['trace'], cut)
        chance = compare(straight['trace'], first['trace'], 0, cut, noise)
        if chance.differing:
            return self._report_chance(straight, first, chance)
        try:
            resumed = self._process('resumed', 'from there on in a new process')
            _check_place(resumed, cut)
        except ProcessFailed as error:
            print(f'{error}\nresume drill: THE RESUME FAILED')
            return 1
        found = compare(straight['trace'], resumed['trace'], cut, 2 * cut, noise)
        lost = lost_attributes(*(result['attributes'] for result in (straight, first, resumed)))
        return self._report(straight, resumed, found, lost)

    def _process(self, role: str, what: str) -> dict[str, Any]:
        folder = 'interrupted' if role in ('first', 'resumed') else role
        result, plan_file = (self.directory / f'{role}.{kind}' for kind in ('result', 'plan'))
        plan = Plan(self.config, self.options, self.safe, self.iterations, role,
                    str(self.directory / folder), str(result))
        plan.write(plan_file)
        started, log = time.monotonic(), self.directory / f'{role}.log'
        # The process imports what this one can, a project's own modules above all.
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        with open(log, 'wb') as output:
            done = subprocess.run([sys.executable, '-m', 'mmckpt.cli.drill_process', str(plan_file)],
                                  env=dict(os.environ, PYTHONPATH=paths), stdout=output,
                                  stderr=subprocess.STDOUT)
        if done.returncode != 0:
            lines = log.read_text(errors='replace').splitlines()[-30:]
            raise ProcessFailed('\n'.join([f'the process that trains the {what} ended with status '
                                           f'{done.returncode}; its last lines:', *lines]))
        say(f'{what}: {time.monotonic() - started:.1f} s')
        return torch.load(result, weights_only=True)

    def _report(self, straight: dict[str, Any], resumed: dict[str, Any], found: Comparison,
                lost: list[Attribute]) -> int:
        cut = straight['cut']
        self._print_parts(f'{2 * cut} iterations straight, against {cut} + {cut} with a new process between',
                          straight, found)
        if not found.differing:
            if lost:
                print(f'note: the restart lost {some_of(lost)}; these iterations do not depend on it')
            print(f'resume drill: IDENTICAL: {cut} + {cut} iterations are the {2 * cut} of the straight run, '
                  'to the bit', flush=True)
            return 0
        self._print_causes(causes_of_difference(found, lost, resumed), found)
        print('resume drill: NOT IDENTICAL: the resumed run is another one from iteration '
              f'{found.first + 1} on', flush=True)
        return 1

    def _report_chance(self, straight: dict[str, Any], first: dict[str, Any], found: Comparison) -> int:
        self._print_parts(f"the first {straight['cut']} iterations, run twice", straight, found)
        unlike = unlike_generators(straight['attributes'], first['attributes'])
        self._print_causes(causes_of_chance(found, unlike), found)
        print('resume drill: NOT REPRODUCIBLE: two runs that are started alike part at iteration '
              f'{found.first + 1}, so no resume can be exact', flush=True)
        return 1

    def _print_parts(self, what: str, straight: dict[str, Any], found: Comparison) -> None:
        rows = [[p.name, '' if p.name in _WHOLE else str(p.entries), _result(p, found)]
                for p in found.parts if p.entries]
        print_table(f'Resume drill of {shown_path(self.config)}: {what}',
                    ['part', 'entries', 'at each iteration'], rows)
        print(_circumstances(straight))

    def _print_causes(self, causes: list[str], found: Comparison) -> None:
        if not causes:
            kernels = self._process('kernels', 'once more, listening for kernels that are not deterministic')
            causes = [unexplained(found, kernels['kernels'])]
        for cause in causes:
            print(textwrap.fill(f'cause: {cause}', 110, subsequent_indent='       ', break_on_hyphens=False))


def drill(config: str, options: dict[str, Any] | None, iterations: int, safe: bool, work_dir: str) -> int:
    """Run a :class:`ResumeDrill` in a new folder inside ``work_dir``."""
    directory = tempfile.mkdtemp(prefix='resume-drill-', dir=work_dir)
    return ResumeDrill(config, options, iterations, safe, directory).run()


def _check_length(straight: dict[str, Any], needed: int, asked: int) -> None:
    done = max(straight['trace'], default=0)
    if needed not in straight['trace']:
        epochs = '' if straight['cuts_inside'] else (
            f" ({straight['loop']} resumes between epochs only, so the drill needs 2)")
        raise UsageError(f'--iterations {asked} needs a training of {needed} iterations or more{epochs}, but '
                         f'this one ended after {done + 1}. Pass fewer --iterations, or a longer train_cfg.')


def _check_place(resumed: dict[str, Any], cut: int) -> None:
    begun = min(resumed['trace'], default=None)
    if begun != cut:
        raise ProcessFailed(f'the resumed process did not go on at iteration {cut + 1}, but at '
                            f'{None if begun is None else begun + 1}: the checkpoint of iteration {cut} was '
                            'not written, or not found')


def _result(part: Part, found: Comparison) -> str:
    if part.parted is None:
        return 'identical'
    where = '' if part.name in _WHOLE else some_of(part.where, most=1)
    differs = 'DIFFERS FIRST,' if part.name in found.roots else 'differs'
    return f'{differs} from iteration {part.parted + 1} on' + (f': {where}' if where else '')


def _circumstances(straight: dict[str, Any]) -> str:
    cut, length = straight['cut'], straight['epoch_length']
    if straight['cuts_inside']:
        place = f"the restart lies {'inside an epoch' if length and cut % length else 'between two epochs'}"
    else:
        place = f"epochs cut after {cut} iterations, since {straight['loop']} resumes between epochs only"
    return (f"Drilled: {place}; {straight['workers']} data worker(s); {straight['device']}; validation left "
            'out')
