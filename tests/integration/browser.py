"""A headless Chromium that may reach this machine only, or the reason why there is none."""

import importlib.util
import os
import shutil
from contextlib import contextmanager

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
DRIVER = shutil.which('chromedriver')
FLAGS = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync')
MISSING = ('needs a browser: apt-get install chromium chromium-driver' if not CHROMIUM or not DRIVER else
           'needs pip install selenium' if importlib.util.find_spec('selenium') is None else '')


@contextmanager
def chromium(profile):
    """Yield a driver of a browser with a new profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f'--user-data-dir={profile}'):
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    # Selenium asks nobody for a driver when it is told where one is.
    driver = webdriver.Chrome(options=options, service=Service(DRIVER, env=dict(os.environ, SE_OFFLINE='true')))
    try:
        yield driver
    finally:
        driver.quit()


def look(driver, address, width=1280, height=900, scheme='light', scripts=True):
    """Open a page in a window of some size and colour scheme."""
    driver.execute_cdp_cmd('Emulation.setScriptExecutionDisabled', dict(value=not scripts))
    driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride',
                           dict(width=width, height=height, deviceScaleFactor=1, mobile=width < 500))
    driver.execute_cdp_cmd('Emulation.setEmulatedMedia',
                           dict(features=[dict(name='prefers-color-scheme', value=scheme)]))
    driver.get(address)
