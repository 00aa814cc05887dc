from __future__ import annotations

import pytest
from mmengine.hooks import EarlyStoppingHook

from mmckpt.policy.selection.rules import (
    GREATER_SUBSTRINGS,
    GREATER_WORDS,
    LESS_SUBSTRINGS,
    LESS_WORDS,
    infer_rule,
)

GREATER = [
    'AP', 'coco/AP', 'coco/AP50', 'coco/AP@50', 'AP .5', 'coco/AP (M)', 'coco/AR', 'AR@50', 'PCK', 'PCK@0.2',
    'PCKh', 'nyu/PCKh@0.5', 'auc', 'AUC', 'AUROC', 'mIoU', 'IoU', 'val_iou', 'mAP', 'bbox_mAP_50', 'acc',
    'ACC', 'accuracy/top1', 'mAcc', 'aAcc', 'mDice', 'Dice', 'dice_score', 'single-label/f1-score', 'F1',
    'mFscore', 'precision', 'delta1', 'depth/delta_2', 'depth/delta3', 'PSNR', 'MS-SSIM', 'NDCG@100', 'ndcg',
    'a/MRR@10']
LESS = [
    'loss', 'Loss', 'ce_loss', 'val/loss', 'loss_cls', 'heatmap_loss', 'loss_heatmap', 'loss_map', 'loss_acc',
    'valLoss', 'top1_error', 'acc_err', 'NME', 'EPE', 'keypoint/EPE', 'MPJPE', 'P-MPJPE', 'abs_rel', 'AbsRel',
    'absrel', 'depth-abs_rel0', 'sq_rel', 'rmse', 'RMSE', 'rmse_log', 'mae', 'depth/MAE', 'mse', 'mape',
    'MAPE', 'heatmap_mse', 'silog', 'log10', 'FID', 'perplexity', 'val_perplexity', 'LPIPS']
UNKNOWN = ['recall', 'D1', 'coco/recall', 'Recall@20', 'arch', 'arc/pear', 'score', 'epeirogeny', 'conf1',
           'delta', 'delta12', 'rel', '', '0']


@pytest.mark.parametrize('metric', GREATER)
def test_more_of_it_is_better(metric):
    assert infer_rule(metric) == 'greater'


@pytest.mark.parametrize('metric', LESS)
def test_less_of_it_is_better(metric):
    assert infer_rule(metric) == 'less'


@pytest.mark.parametrize('metric', UNKNOWN)
def test_a_name_that_tells_nothing_is_refused_with_the_way_out(metric):
    with pytest.raises(ValueError, match=r"Cannot infer the rule for .*rule='greater' or rule='less'"):
        infer_rule(metric)


@pytest.mark.parametrize('metric, meant', [('val/PKC', "'PCK'"), ('coco/APP', "'AP'"), ('NDGC', "'NDCG'")])
def test_a_misspelled_name_is_answered_with_what_may_be_meant(metric, meant):
    with pytest.raises(ValueError, match=f"Did you mean .*{meant}.*If not, set rule='greater'"):
        infer_rule(metric)


@pytest.mark.parametrize('metric', GREATER + LESS)
def test_stock_agrees_wherever_it_infers_and_no_loss_or_error_word_is_there(metric):
    corrected = {'heatmap_loss', 'loss_heatmap', 'loss_map', 'loss_acc', 'top1_error', 'acc_err', 'mape',
                 'MAPE', 'heatmap_mse'}
    try:
        stock = EarlyStoppingHook(monitor=metric).rule
    except ValueError:
        return
    assert (infer_rule(metric) == stock) == (metric not in corrected)


def test_mmengine_keys_are_all_there():
    assert list(GREATER_SUBSTRINGS) == EarlyStoppingHook._default_greater_keys
    assert list(LESS_SUBSTRINGS) == EarlyStoppingHook._default_less_keys


def test_no_word_is_on_both_sides():
    assert not {w.lower() for w in GREATER_WORDS} & {w.lower() for w in LESS_WORDS}


@pytest.mark.parametrize('given', ['greater', 'less'])
def test_a_rule_that_is_given_wins(given):
    assert infer_rule('loss', given) == given
    assert infer_rule('nonsense', given) == given


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="'greater', 'less' or None.*'the world' for the metric 'AP'"):
        infer_rule('AP', 'the world')


@pytest.mark.parametrize('metric, greater, less, expected', [
    ('val/my_loss', ['my_loss'], LESS_SUBSTRINGS, 'greater'),  # own keys come before the default words
    ('gap', ['AP'], ['gap'], 'less'),  # the whole name before a part of it
    ('x_score_y', ['SCORE'], ['x_score'], 'greater'),  # greater before less, in any case
    ('x_score_y', [], ['score'], 'less'),
    ('FID', [], ['fid'], 'less'),
])
def test_own_keys_match_as_in_mmengine(metric, greater, less, expected):
    assert infer_rule(metric, None, greater, less) == expected


def test_own_keys_replace_the_default_ones():
    with pytest.raises(ValueError, match='Cannot infer'):
        infer_rule('coco/PSNR', greater_keys=['AP'])
