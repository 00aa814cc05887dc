"""The report of a run that was killed and resumed, looked at in a real browser."""

import base64
import io
import json
import threading
import time

import numpy as np
import pytest
from browser import MISSING, chromium, look
from forked import train_forked
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from PIL import Image

from mmckpt.cli.watch_server import ReportServer
from mmckpt.monitor.run_report import Run, RunReader, to_html
from mmckpt.monitor.run_report.curve import Curve
from mmckpt.monitor.run_report.run import Mark

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
KEYS = 'figure.chart'


@HOOKS.register_module()
class OneNaN(Hook):
    """Lets one loss term be NaN, once."""

    priority = 'HIGHEST'

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            outputs['loss_norm'] = outputs['loss_norm'] * float('nan')


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """Epochs of 8 iterations; killed in the fourth, resumed after the third; a NaN at 30."""
    path = tmp_path_factory.mktemp('report') / 'run'
    nan = dict(type='OneNaN', at=30)
    assert train_forked('tiny_epochs.py', path, kill=('after_train_iter', 29), hooks=[nan]) == -9
    assert train_forked('tiny_epochs.py', path, resume=True, hooks=[nan]) == 0
    return path


@pytest.fixture(scope='module')
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp('profile')) as driver:
        yield driver


@pytest.fixture
def page(driver, work_dir):
    """The report, opened from the disk."""
    look(driver, (work_dir / 'report.html').as_uri())
    yield driver
    assert driver.get_log('browser') == []


def js(driver, code, *arguments):
    return driver.execute_script(f'return {code}', *arguments)


def tick_texts(driver, key, axis='text-anchor="end"'):
    return js(driver, f"""[...document.querySelectorAll('#{key} svg text[{axis}]')].map(t => t.textContent)""")


def logged(work_dir, name):
    """What the resumed run logged of a scalar, by iteration."""
    found = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in map(json.loads, path.read_text().splitlines()):
            if 'iter' in line:
                found[line['iter']] = line[name]
    return found


def drag(driver, key, first, last):
    """Drag the mouse over a chart from one share of its plot to another."""
    from selenium.webdriver.common.action_chains import ActionChains

    plot = driver.find_element('css selector', f'#{key} .plot')
    driver.execute_script('arguments[0].scrollIntoView({block: "center"})', plot)
    width = plot.size['width'] - 54 - 14
    at = [int(54 + share * width - plot.size['width'] / 2) for share in (first, last)]
    ActionChains(driver, duration=0).move_to_element_with_offset(plot, at[0], 0).click_and_hold() \
        .move_to_element_with_offset(plot, sum(at) // 2, 0).move_to_element_with_offset(plot, at[1], 0) \
        .release().perform()


def test_everything_is_on_the_page(page):
    headings = js(page, "[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert headings == ['Findings', 'Training loss', 'Validation', 'Optimiser and machine', 'Saving',
                        'Attempts and checkpoints over time', 'Statistics over all iterations', 'Config']
    keys = js(page, f"[...document.querySelectorAll('{KEYS}')].map(f => f.id)")
    assert {'train-loss', 'train-loss_cls', 'train-loss_norm', 'val-acc', 'val-loss', 'train-lr', 'train-grad_norm',
            'time', 'blocked', 'sizes'} <= set(keys)
    marks = js(page, "[...document.querySelectorAll('#train-loss .mark')].map(m => m.classList[1])")
    assert marks == ['resume', 'nan']
    assert js(page, "document.querySelectorAll('#val-acc .peak').length") == 1
    text = page.find_element('tag name', 'body').text
    assert 'loss_norm is nan' in text and 'killed' in text and 'dropped since' in text
    assert js(page, "document.querySelectorAll('.timeline .bar').length") == 2


def test_hovering_shows_the_values_that_were_logged(page, work_dir):
    from selenium.webdriver.common.action_chains import ActionChains

    plot = page.find_element('css selector', '#train-loss .plot')
    ActionChains(page, duration=0).move_to_element(plot).perform()
    lines = page.find_element('id', 'tip').text.splitlines()
    iteration = int(lines[0].split()[1].rstrip(','))
    assert lines[0] == f'iteration {iteration}, epoch {iteration / 8:.2f}'
    value = logged(work_dir, 'loss')[iteration]
    assert float(lines[1]) == pytest.approx(value, rel=1e-3)
    ActionChains(page, duration=0).move_to_element(page.find_element('tag name', 'h1')).perform()
    assert not page.find_element('id', 'tip').is_displayed()


def test_dragging_zooms_all_charts_and_a_button_goes_back(page):
    before = {key: tick_texts(page, key, 'class="tick x"') for key in ('train-loss', 'val-acc')}
    drag(page, 'train-loss', 0.5, 0.9)
    for key, ticks in before.items():
        zoomed = tick_texts(page, key, 'class="tick x"')
        assert zoomed != ticks and min(map(int, zoomed)) >= 18 and max(map(int, zoomed)) <= 38
    [button] = [b for b in page.find_elements('css selector', '#val-acc button') if b.text == 'Reset zoom']
    page.execute_script('arguments[0].scrollIntoView({block: "center"})', button)
    button.click()
    assert {key: tick_texts(page, key, 'class="tick x"') for key in before} == before
    assert not button.is_displayed()


def test_the_keyboard_moves_the_cursor(page, work_dir):
    from selenium.webdriver.common.keys import Keys

    figure = page.find_element('id', 'train-loss')
    steps = sorted(logged(work_dir, 'loss'))
    figure.send_keys(Keys.END)
    assert page.find_element('id', 'tip').text.startswith(f'iteration {steps[-1]},')
    figure.send_keys(Keys.ARROW_LEFT)
    assert page.find_element('id', 'tip').text.startswith(f'iteration {steps[-2]},')
    figure.send_keys(Keys.ESCAPE)
    assert not page.find_element('id', 'tip').is_displayed()


def test_without_scripts_the_same_charts_are_there(driver, work_dir):
    address = (work_dir / 'report.html').as_uri()
    scales = []
    for scripts in (False, True):
        look(driver, address, scripts=scripts)
        keys = [figure.get_attribute('id') for figure in driver.find_elements('css selector', KEYS)]
        scales.append({key: [t.text for t in driver.find_elements('css selector', f'[id="{key}"] [text-anchor="end"]')]
                       for key in keys})
        assert all(figure.find_elements('css selector', '.line, .dot')
                   for figure in driver.find_elements('css selector', KEYS))
    # Two programs draw them, with the same scales.
    assert scales[0] == scales[1] and all(scales[0].values())


def test_it_fits_a_phone(driver, work_dir):
    look(driver, (work_dir / 'report.html').as_uri(), width=360, height=740)
    assert js(driver, 'document.documentElement.scrollWidth') == 360
    sizes = js(driver, "[...document.querySelectorAll('.chart .tick')].map(t => t.getBoundingClientRect().height)")
    assert min(sizes) > 10
    assert driver.get_log('browser') == []


def test_a_tap_shows_the_values_and_a_tap_elsewhere_hides_them(driver, work_dir):
    look(driver, (work_dir / 'report.html').as_uri(), width=360, height=740)
    plot = driver.find_element('css selector', '#train-loss .plot')
    driver.execute_script('arguments[0].scrollIntoView({block: "center"})', plot)
    box = js(driver, 'arguments[0].getBoundingClientRect().toJSON()', plot)
    tip = driver.find_element('id', 'tip')
    for x, y, shown in [(box['x'] + 200, box['y'] + 100, True), (box['x'] + 100, box['y'] - 25, False)]:
        driver.execute_cdp_cmd('Input.dispatchTouchEvent', dict(type='touchStart', touchPoints=[dict(x=x, y=y)]))
        driver.execute_cdp_cmd('Input.dispatchTouchEvent', dict(type='touchEnd', touchPoints=[]))
        assert tip.is_displayed() == shown
    assert driver.get_log('browser') == []


HOSTILE = '</script><script>window.hacked=1</script>"\'><img src=x onerror=window.hacked=1>' + 'x' * 80


def test_hostile_and_long_names_do_nothing_and_fit_a_phone(driver, tmp_path):
    curve = Curve()
    for step in range(1, 900):
        curve.append(step, 1 / step)
    runs = [Run(HOSTILE + str(n), HOSTILE, train={HOSTILE: curve, 'loss': curve}, val={HOSTILE: curve},
                marks=[Mark('nan', 5, HOSTILE)], notes=[HOSTILE], config=HOSTILE) for n in range(8)]
    (tmp_path / 'page.html').write_text(to_html(runs))
    look(driver, (tmp_path / 'page.html').as_uri(), width=360, height=740)
    assert js(driver, 'window.hacked') is None
    assert js(driver, 'document.documentElement.scrollWidth') == 360
    # Eight runs are eight lines that differ, in colour or in dash, each over its dense curve.
    styles = js(driver, "[...document.querySelectorAll('#train-loss .line:not(.thin)')].map(l => l.className.baseVal)")
    assert len(styles) == 8 + 8 and len(set(styles)) == 8
    assert driver.get_log('browser') == []


def picture(driver):
    return np.asarray(Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert('RGB')).astype(float)


def test_light_and_dark_follow_the_system_and_print_is_light(driver, work_dir):
    address = (work_dir / 'report.html').as_uri()
    levels = {}
    for scheme in ('light', 'dark'):
        look(driver, address, scheme=scheme)
        shown = picture(driver)
        levels[scheme] = np.median(shown)
        # Something is drawn in colour.
        assert (np.ptp(shown, axis=2) > 60).sum() > 300
    assert levels['light'] > 230 and levels['dark'] < 50
    driver.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(
        media='print', features=[dict(name='prefers-color-scheme', value='dark')]))
    assert np.median(picture(driver)) > 250
    driver.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(media=''))
    paper = base64.b64decode(driver.execute_cdp_cmd('Page.printToPDF', dict(printBackground=False))['data'])
    assert paper.startswith(b'%PDF') and len(paper) > 20_000


@pytest.fixture
def server(work_dir, tmp_path):
    """The page that follows a run, and the file that the run writes to."""
    stamp = time.strftime('%Y%m%d_%H%M%S')
    live = tmp_path / 'live' / stamp / 'vis_data' / 'scalars.json'
    live.parent.mkdir(parents=True)
    live.write_text(''.join(path.read_text() for path in sorted(work_dir.glob('*/vis_data/scalars.json'))))
    with ReportServer(RunReader(tmp_path / 'live'), 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.05))
        thread.start()
        yield server.url, live
        server.shutdown()
        thread.join()


def test_a_page_that_follows_a_run_grows_and_keeps_its_zoom(driver, server):
    from selenium.webdriver.support.wait import WebDriverWait

    url, live = server
    look(driver, url)
    drag(driver, 'train-loss', 0.5, 1.0)
    zoomed = tick_texts(driver, 'train-loss', 'class="tick x"')
    points = "JSON.parse(document.querySelector('#train-loss script').textContent).lines[0].x.length"
    before = js(driver, points)
    with open(live, 'a') as file:
        file.write('{"loss": 0.5, "lr": 0.1, "epoch": 6, "iter": 44, "step": 44}\n')
    WebDriverWait(driver, 10, poll_frequency=0.1).until(lambda d: js(d, points) == before + 1)
    assert tick_texts(driver, 'train-loss', 'class="tick x"') == zoomed
    assert driver.get_log('browser') == []


