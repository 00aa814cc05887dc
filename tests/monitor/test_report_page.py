"""The page is one file that asks nobody for anything, escapes what it is told, and does not grow with the run."""

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser

import pytest

from mmckpt.monitor.run_report import Run, to_html
from mmckpt.monitor.run_report.curve import Curve
from mmckpt.monitor.run_report.figures import figures_of
from mmckpt.monitor.run_report.page import STYLE
from mmckpt.monitor.run_report.run import AttemptSpan, Best, Checkpoint, FindingNote, Mark

HOSTILE = '</script><script>alert(1)</script>"\'&<img src=x onerror=alert(2)>'
VOID = {'meta', 'link', 'br'}


def curve(values, stride=10):
    made = Curve()
    for step, value in enumerate(values, 1):
        made.append(step * stride, value)
    return made


def run_of(name='run', points=50, **changes):
    content = dict(
        status='finished', reason='finished', epoch=5, iter=500, iters_per_epoch=100,
        train={'loss': curve(100 / (n + 1) for n in range(points)), 'lr': curve([0.1] * points),
               'grad_norm': curve([1.0] * points), 'time': curve([0.1] * points), 'acc': curve([0.5] * points),
               'data_time': curve([0.01] * points), 'memory': curve([900.0] * points)},
        val={'AP': curve([0.1, 0.6, 0.4], 100)}, best={'AP': Best(0.6, 200, 'greater')},
        marks=[Mark('spike', 70, 'spike in loss', ('loss',), 'train'), Mark('resume', 200, 'resumed'),
               Mark('nan', 300, 'loss is nan')],
        attempts=[AttemptSpan(1, 1000.0, 1050.0, 'killed', 'host:1', 10),
                  AttemptSpan(2, 1100.0, 1200.0, 'finished', 'host:2', 210)],
        checkpoints=[Checkpoint('epoch_1.pth', 1, 100, 1010.0, 5_000_000, ('periodic',), False, 0.5),
                     Checkpoint('epoch_2.pth', 2, 200, 1020.0, 5_000_000, ('periodic', 'best:AP'), True, 0.4)],
        findings=[FindingNote('loss_spike', 'warning', 70, 90, 3, 'spike in loss', 'it was 9', ('lower the lr',))],
        statistics={'loss': {'mean': 1.0, 'final': 'NaN', 'non_finite': 1}}, config='lr = 0.1\n')
    return Run(name, 'work_dirs/' + name, **{**content, **changes})


class Reader(HTMLParser):
    """Collects text, the names of elements, attributes, and whether elements are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.found, self.attributes = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (['script'], ['style']):
            self.text.append(data)


def test_everything_asked_for_can_be_read_without_a_script():
    read = Reader(to_html([run_of()], now=2000.0))
    assert not read.open
    text = ' '.join(read.text)
    for words in ('finished', 'epoch 5', 'time in training, 2 attempts', 'spike in loss', 'lower the lr', 'it was 9',
                  'epoch_2.pth', 'dropped since', '0.5 s', 'killed', 'lr = 0.1', 'learning rate', 'gradient norm',
                  'memory', 'time of an iteration',
                  'best of run: 0.6 at iteration 200 (epoch 2); greater is better', 'resumed'):
        assert words in text, words
    # A drawing for each chart, the timeline, and nothing that needs another file.
    assert read.found.count('figure') == 9
    assert not {'img', 'iframe', 'object', 'embed'} & set(read.found)


@pytest.mark.parametrize('live', [False, True])
def test_the_page_names_no_address_and_its_policy_allows_only_its_own_script(live):
    page = to_html([run_of()], live=live)
    read = Reader(page)
    links = [value for tag, name, value in read.attributes if name in ('src', 'href', 'action', 'data')]
    assert all(link.startswith(('#m-', 'data:,')) for link in links)
    assert not re.search(r'(?<!")https?://(?!www\.w3\.org/2000/svg)', page)
    script = re.search(r'<script>(.*?)</script>', page, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and "default-src 'none'" in page


@pytest.mark.parametrize('runs', [1, 2])
def test_hostile_names_are_text(runs):
    hostile = run_of(
        HOSTILE, train={HOSTILE: curve([1.0, 2.0]), 'loss': curve([1.0, math.nan])}, val={HOSTILE: curve([1.0])},
        best={HOSTILE: Best(1.0, 10, HOSTILE)}, marks=[Mark('nan', 10, HOSTILE)], config=HOSTILE,
        attempts=[AttemptSpan(1, 1.0, 2.0, HOSTILE, HOSTILE, 1)], notes=[HOSTILE], status=HOSTILE,
        checkpoints=[Checkpoint(HOSTILE, 1, 1, 1.5, 1, (HOSTILE, f'best:{HOSTILE}'), True)],
        findings=[FindingNote(HOSTILE, 'error', 1, 1, 2, HOSTILE, HOSTILE, (HOSTILE,))],
        statistics={HOSTILE: {'final': HOSTILE}})
    read = Reader(to_html([hostile] * runs))
    assert 'img' not in read.found and not read.open
    assert not any(name.startswith('on') for _, name, _ in read.attributes)
    # Its own script, and the data of each chart.
    assert read.found.count('script') == 1 + read.found.count('figure')


def test_the_data_of_a_chart_are_those_that_were_logged_with_gaps_for_what_is_not_finite():
    page = to_html([run_of(train={'loss': curve([4.0, math.nan, math.inf, 2.0])})])
    data = json.loads(re.search(r'id="train-loss".*?<script type="application/json">(.*?)</script>', page, re.S)[1])
    assert data['lines'][0]['x'] == [10, 20, 30, 40]
    assert data['lines'][0]['y'] == [4.0, None, None, 2.0]
    assert [mark['k'] for mark in data['marks']] == ['spike', 'resume', 'nan']


def test_the_page_of_a_long_run_is_bounded():
    small, large = (len(to_html([run_of(points=n)])) for n in (2000, 200_000))
    assert large < 1.3 * small and large < 700_000


def test_runs_are_compared_in_one_chart_each():
    runs = [run_of('one'), run_of('two', val={}, best={}, config='lr = 0.2\n')]
    charts = {chart.key: chart for _, charts in figures_of(runs) for chart in charts}
    assert [line.name for line in charts['train-loss'].lines] == ['one', 'two']
    assert [line.colour for line in charts['train-loss'].lines] == [0, 1]
    assert [line.name for line in charts['val-AP'].lines] == ['one']
    page = to_html(runs)
    assert 'What differs in the config of two' in page and '+lr = 0.2' in page


def test_losses_over_decades_are_logarithmic_and_metrics_never():
    run = run_of(val={'AP': curve([1e-4, 0.9])})
    charts = {chart.key: chart for _, charts in figures_of([run]) for chart in charts}
    assert charts['train-loss'].log and not charts['val-AP'].log and not charts['train-lr'].log


def test_a_run_without_anything_has_a_page_that_says_so():
    text = ' '.join(Reader(to_html([Run('empty', 'x')])).text)
    assert 'There is no scalars.json' in text and 'No checkpoint was written' in text


def luminance(colour):
    channels = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize('part', [0, 1, 2])
def test_colours_stand_out_from_their_surface_in_light_dark_and_print(part):
    block = re.findall(r':root \{(.*?)\}', STYLE, re.S)[part]
    colours = dict(re.findall(r'--([\w]+): (#[0-9a-f]{6})', block))
    assert len(colours) == 17
    for name, least in {'text': 7, 'quiet': 4.5, 'good': 4.5, 'bad': 4.5, 'warn': 4.5, 'event': 3, 'back': 3,
                        **{f's{n}': 3 for n in range(6)}}.items():
        pair = sorted((luminance(colours[name]), luminance(colours['surface'])))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= least, name
