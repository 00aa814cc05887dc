"""From files and options to a config."""

import re
import sys

import pytest
from mmengine.config import Config

from mmckpt.cli.config import check_writable, merge_options, read_config, set_work_dir
from mmckpt.cli.safe import asks_for_safety
from mmckpt.errors import UsageError


@pytest.fixture
def configs(tmp_path):
    (tmp_path / 'resnet50.py').write_text('a = 1\n')
    (tmp_path / 'notes.txt').write_text('a = 1\n')
    return tmp_path


@pytest.mark.parametrize('name, said', [
    ('resnet5O.py', "Did you mean 'resnet50.py'"), ('', 'is a directory'), ('notes.txt', 'ends in .py'),
    ('nowhere/resnet50.py', 'nor does the directory')])
def test_a_path_that_is_no_config_is_named_with_what_is_there(configs, name, said):
    with pytest.raises(UsageError, match=said):
        read_config(str(configs / name))


@pytest.mark.parametrize('text, said', [
    ('a = 1\nb = dict(', 'resnet50.py, line 2: .* was never closed: b = dict'),
    ("_base_ = './broken.py'", 'a base of .*resnet50.py, line 1: invalid syntax: a = = 1')])
def test_a_config_that_is_no_python_is_named_with_the_line(configs, text, said):
    (configs / 'broken.py').write_text('a = = 1\n')
    (configs / 'resnet50.py').write_text(text)
    with pytest.raises(UsageError, match=said):
        read_config(str(configs / 'resnet50.py'))


def test_modules_of_the_project_are_found_where_the_command_is_started(configs, monkeypatch):
    (configs / 'the_model_of_my_project.py').write_text('')
    (configs / 'resnet50.py').write_text("custom_imports = dict(imports=['the_model_of_my_project'])\n")
    monkeypatch.setattr(sys, 'path', [path for path in sys.path if path])
    monkeypatch.chdir(configs)
    read_config('resnet50.py')
    assert sys.modules.pop('the_model_of_my_project') and sys.path[-1] == str(configs)


@pytest.mark.parametrize('options, expected', [
    ({'a': 2}, dict(a=2)),
    ({'hooks.0.type': 'B'}, dict(hooks=[dict(type='B')])),
    ({'hooks.1.type': 'B', 'hooks.1.n': 3}, dict(hooks=[dict(type='A'), dict(type='B', n=3)])),
    ({'steps': [9]}, dict(steps=[9])),
    ({'new.key': 1}, dict(new=dict(key=1)))])
def test_options_are_merged_and_append_to_lists(options, expected):
    cfg = Config(dict(a=1, hooks=[dict(type='A')], steps=[1, 5]))
    merge_options(cfg, options)
    assert {key: cfg[key] for key in expected} == expected


@pytest.mark.parametrize('options', [
    {'hooks.2.type': 'B'}, {'hooks.first.type': 'B'}, {'a.b.c': 1}, {'steps.1': 9}])
def test_an_option_that_does_not_fit_is_named(options):
    cfg = Config(dict(a=1, steps=[1, 5], hooks=[dict(type='A')]))
    with pytest.raises(UsageError, match='does not fit the config'):
        merge_options(cfg, options)


@pytest.mark.parametrize('argument, configured, expected', [
    ('from_argument', 'from_config', 'from_argument'), (None, 'from_config', 'from_config'),
    (None, None, 'work_dirs/resnet50')])
def test_work_dir_is_the_arguments_else_the_configs(configs, argument, configured, expected):
    cfg = read_config(str(configs / 'resnet50.py'), {'work_dir': configured})
    set_work_dir(cfg, argument)
    assert cfg.work_dir == expected


def test_a_work_dir_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UsageError, match='cannot write into the work directory .*Pass another one'):
        check_writable(str(tmp_path / 'file' / 'run'))


def test_checking_a_work_dir_leaves_nothing_in_it(tmp_path):
    check_writable(str(tmp_path / 'run'))
    assert list((tmp_path / 'run').iterdir()) == []


@pytest.mark.parametrize('name, said', [
    ('mmckptt::_base_/safe.py', "no configs of mmckptt. Did you mean 'mmckpt'"),
    ('mmrotate::a/b.py', 'mmrotate is not installed here'),
    ('mmckpt::_base_/saef.py', "Did you mean 'safe.py'"),
    ('mmckpt::nowhere/safe.py', 'has no directory'),
    ('mmckpt::safe.py', 'package name and relative config path')])
def test_a_config_that_no_package_has_is_named_with_what_there_is(name, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        read_config(name)


def test_a_config_of_a_package_is_read_and_names_the_work_directory():
    cfg = read_config('mmckpt::pose/digits_keypoints_text.py', {'train_cfg.max_epochs': 2})
    assert cfg.model.type == 'KeypointNet' and cfg.train_cfg.max_epochs == 2


def test_a_text_config_asks_for_safety_among_bases_that_set_hooks(tmp_path):
    (tmp_path / 'runtime.py').write_text("default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=5))\n")
    (tmp_path / 'cfg.py').write_text("_base_ = ['runtime.py', 'mmckpt::_base_/safe.py']\n")
    cfg = read_config(str(tmp_path / 'cfg.py'))
    assert asks_for_safety(cfg) and cfg.default_hooks.checkpoint.interval == 5
