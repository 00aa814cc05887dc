"""``mmckpt report`` writes one file for one run or several."""

import shutil

import pytest


def test_the_report_of_a_real_stock_run_lies_in_its_directory(trained, mmckpt, tmp_path):
    work_dir = shutil.copytree(trained, tmp_path / 'run')
    status, out, err = mmckpt('report', work_dir)
    page = (work_dir / 'report.html').read_text()
    assert (status, err) == (0, '') and 'report.html' in out
    assert page.startswith('<!doctype html>') and 'id="train-loss"' in page


def test_several_runs_are_told_apart_by_their_path(trained, mmckpt, tmp_path):
    for name in ('a', 'b'):
        shutil.copytree(trained, tmp_path / name / 'run')
    out = tmp_path / 'both.html'
    assert mmckpt('report', tmp_path / 'a/run', tmp_path / 'b/run', '--out', out)[0] == 0
    page = out.read_text()
    assert '<title>a/run, b/run' in page


@pytest.mark.parametrize('path, message', [('missing', 'does not exist'), ('file', 'is a file')])
def test_a_directory_that_is_none_is_an_error_that_says_what_to_pass(mmckpt, tmp_path, path, message):
    (tmp_path / 'file').touch()
    status, out, err = mmckpt('report', tmp_path / path)
    assert status == 2 and message in err and 'pass the work directory' in err


def test_a_place_that_cannot_be_written_is_named(mmckpt, tmp_path):
    status, _, err = mmckpt('report', tmp_path, '--out', tmp_path / 'no/such/file.html')
    assert status == 2 and '--out' in err


def test_a_directory_without_curves_gives_a_warning(mmckpt, tmp_path):
    status, _, err = mmckpt('report', tmp_path)
    assert status == 0 and 'holds no scalars.json' in err
