"""Key-point AP against pycocotools, called directly on files."""

from __future__ import annotations

import contextlib
import io
import json
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmckpt.evaluation import KeypointAP
from mmckpt.evaluation.keypoint_ap import evaluate_oks

SIGMAS = [0.05, 0.08, 0.1, 0.07]


def random_persons(count=60, pictures=25, seed=0):
    """Persons with 4 key points, some of them hidden, and predictions that are more or less off."""
    rng = np.random.RandomState(seed)
    persons = []
    for number in range(count):
        corner, size = rng.uniform(0, 300, 2), rng.uniform(20, 150, 2)
        truth = corner + rng.uniform(0, 1, (4, 2)) * size
        visible = rng.choice([0, 1, 2], 4, p=[0.2, 0.3, 0.5]).astype(float)
        visible[0] = 2
        noise = rng.normal(0, rng.choice([0.01, 0.05, 0.15]) * size.mean(), (4, 2))
        persons.append(dict(
            img_id=int(rng.randint(pictures)), id=number, truth=truth, visible=visible,
            box=[*corner, *(corner + size)], area=float(size.prod()), found=truth + noise,
            scores=rng.uniform(0.2, 1, 4)))
    return persons


def as_sample(person):
    return dict(
        img_id=person['img_id'], id=person['id'],
        pred_instances=dict(keypoints=person['found'][None], keypoint_scores=person['scores'][None]),
        gt_instances=dict(keypoints=person['truth'][None], keypoints_visible=person['visible'][None],
                          bboxes=np.array([person['box']]), areas=np.array([person['area']])))


def annotation(person):
    x1, y1, x2, y2 = person['box']
    return dict(
        id=person['id'] + 1, image_id=person['img_id'], category_id=1, iscrowd=0,
        keypoints=np.column_stack([person['truth'], person['visible']]).ravel().tolist(),
        num_keypoints=int((person['visible'] > 0).sum()), bbox=[x1, y1, x2 - x1, y2 - y1],
        area=person['area'])


def write_truth(path, annotations):
    path.write_text(json.dumps(dict(
        images=[dict(id=i) for i in sorted({a['image_id'] for a in annotations})],
        categories=[dict(id=1, name='thing')], annotations=annotations)))
    return str(path)


def reference(truth_file, persons, path):
    """What pycocotools says about two files on disk."""
    path.write_text(json.dumps([
        dict(image_id=p['img_id'], category_id=1, score=float(p['scores'].mean()),
             keypoints=np.column_stack([p['found'], p['scores']]).ravel().tolist()) for p in persons]))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(truth_file)
        evaluation = COCOeval(truth, truth.loadRes(str(path)), 'keypoints')
        evaluation.params.kpt_oks_sigmas = np.array(SIGMAS)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(('AP', 'AP50', 'AP75', 'AR'), evaluation.stats[[0, 1, 2, 5]].tolist()))


def evaluate(metric, samples):
    metric.process(None, samples)
    return metric.evaluate(size=len(samples))


@pytest.mark.parametrize('seed', range(3))
def test_values_are_those_of_pycocotools_on_files(tmp_path, seed):
    persons = random_persons(seed=seed)
    truth = write_truth(tmp_path / 'truth.json', [annotation(p) for p in persons])
    expected = reference(truth, persons, tmp_path / 'found.json')
    assert 0.1 < expected['AP'] < 0.9
    assert evaluate(KeypointAP(sigmas=SIGMAS), [as_sample(p) for p in persons]) == expected


def test_with_an_annotation_file_missed_and_crowded_instances_count_as_in_coco(tmp_path):
    persons = random_persons()
    annotations = [annotation(p) for p in persons]
    annotations[3]['iscrowd'] = 1
    truth = write_truth(tmp_path / 'truth.json', annotations)
    kept = persons[:50]
    expected = reference(truth, kept, tmp_path / 'found.json')
    samples = [as_sample(p) for p in kept]
    assert evaluate(KeypointAP(sigmas=SIGMAS, ann_file=truth), samples) == expected
    assert evaluate(KeypointAP(sigmas=SIGMAS), samples)['AR'] > expected['AR']


def test_a_sample_that_was_repeated_for_another_rank_counts_once():
    samples = [as_sample(p) for p in random_persons()]
    once = evaluate(KeypointAP(sigmas=SIGMAS), samples)
    assert evaluate(KeypointAP(sigmas=SIGMAS), samples + samples[:7]) == once


def test_the_order_of_samples_does_not_matter():
    samples = [as_sample(p) for p in random_persons()]
    forth, back = (evaluate(KeypointAP(sigmas=SIGMAS), s) for s in (samples, samples[::-1]))
    assert forth == pytest.approx(back, abs=1e-12)


def test_perfect_predictions_are_worth_one_and_far_ones_zero():
    persons = random_persons()
    for person in persons:
        person['found'] = person['truth']
    perfect = evaluate(KeypointAP(sigmas=SIGMAS), [as_sample(p) for p in persons])
    assert perfect == pytest.approx(dict(AP=1, AP50=1, AP75=1, AR=1))
    for person in persons:
        person['found'] = person['truth'] + 5000
    far = evaluate(KeypointAP(sigmas=SIGMAS), [as_sample(p) for p in persons])
    assert far == dict(AP=0, AP50=0, AP75=0, AR=0)


@pytest.mark.parametrize('oks, expected', [(0.72, 0.5), (0.97, 1.0), (0.52, 0.1), (0.47, 0.0)])
def test_one_key_point_worked_out_by_hand(oks, expected):
    # OKS is exp(-d^2 / (2 area (2 sigma)^2)): one of ten thresholds from 0.50 on for each 0.05.
    area, sigma = 400.0, 0.1
    distance = math.sqrt(-2 * area * (2 * sigma)**2 * math.log(oks))
    person = dict(img_id=1, id=1, truth=np.zeros((1, 2)), visible=np.ones(1), box=[0, 0, 20, 20], area=area,
                  found=np.array([[distance, 0]]), scores=np.ones(1))
    assert evaluate(KeypointAP(sigmas=[sigma]), [as_sample(person)]) == pytest.approx(
        dict(AP=expected, AP50=float(oks > 0.5), AP75=float(oks > 0.75), AR=expected))


def test_sigmas_come_from_the_data_set_and_matter():
    samples = [as_sample(p) for p in random_persons()]
    metric = KeypointAP()
    metric.dataset_meta = dict(sigmas=SIGMAS)
    assert evaluate(metric, samples) == evaluate(KeypointAP(sigmas=SIGMAS), samples)
    wide = evaluate(KeypointAP(sigmas=[3 * s for s in SIGMAS]), samples)
    assert wide['AP'] > evaluate(metric, samples)['AP']


def test_a_detectors_box_scores_weigh_in():
    persons = random_persons()
    samples = [as_sample(p) for p in persons]
    for sample, person in zip(samples, persons):
        good = np.linalg.norm(person['found'] - person['truth'], axis=1).mean() < 5
        sample['pred_instances']['bbox_scores'] = np.array([1.0 if good else 1e-3])
    ranked = evaluate(KeypointAP(sigmas=SIGMAS), samples)
    plain = evaluate(KeypointAP(sigmas=SIGMAS), [as_sample(p) for p in persons])
    assert ranked['AP'] > plain['AP'] and ranked['AR'] == plain['AR']


def test_samples_without_ids_are_pictures_of_their_own():
    samples = [as_sample(dict(p, img_id=None, id=None)) for p in random_persons()]
    single = [as_sample(dict(p, img_id=p['id'])) for p in random_persons()]
    assert evaluate(KeypointAP(sigmas=SIGMAS), samples) == evaluate(KeypointAP(sigmas=SIGMAS), single)


@pytest.mark.parametrize('sigmas, meta, found', [(None, None, 'None'), ([0.1], None, r'\[0.1\]'),
                                                 (None, dict(sigmas=[0.1] * 5), '0.1, 0.1')])
def test_sigmas_that_do_not_fit_are_an_error_that_says_how_to_give_them(sigmas, meta, found):
    metric = KeypointAP(sigmas=sigmas)
    metric.dataset_meta = meta
    with pytest.raises(ValueError, match=rf'expected 4 OKS sigmas.*found .*{found}.*metainfo'):
        evaluate(metric, [as_sample(p) for p in random_persons()])


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(ValueError, match='at least one sample'):
        KeypointAP(sigmas=SIGMAS).compute_metrics([])


def test_a_prefix_goes_before_every_name():
    metric = KeypointAP(sigmas=SIGMAS, prefix='coco')
    assert set(evaluate(metric, [as_sample(p) for p in random_persons()])) == {
        'coco/AP', 'coco/AP50', 'coco/AP75', 'coco/AR'}


def test_pycocotools_prints_nothing_into_the_training_log(capsys):
    evaluate(KeypointAP(sigmas=SIGMAS), [as_sample(p) for p in random_persons(count=5)])
    assert capsys.readouterr().out == ''


def test_the_evaluation_can_be_used_without_the_metric(tmp_path):
    persons = random_persons()
    path = write_truth(tmp_path / 'truth.json', [annotation(p) for p in persons])
    expected = reference(path, persons, tmp_path / 'found.json')
    detections = json.loads((tmp_path / 'found.json').read_text())
    assert evaluate_oks(COCO(path), detections, SIGMAS) == expected
