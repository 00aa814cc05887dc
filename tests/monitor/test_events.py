"""EventLog says each event once and sums up its repeats."""

from mmckpt.monitor import Finding
from mmckpt.monitor.events import EventLog
from mmckpt.progress import Progress


def finding(step, subject='loss', magnitude=3.0, kind='loss_spike'):
    message = f'{subject} at {step}: {magnitude:g}'
    return Finding(kind, 'warning', subject, message, Progress(0, step), magnitude, advice=['look there'])


def feed(log, steps, **kwargs):
    """Feed a finding at each of the given steps and nothing at the others; return (step, text) said."""
    said = []
    for step in range(1, max(steps) + 1):
        found = [finding(step, **kwargs)] if step in steps else []
        said += [(step, announcement.text) for announcement in log.update(found)]
    return said


def test_a_single_finding_is_said_once_and_not_summed_up():
    log = EventLog(quiet=5)
    assert feed(log, [3]) == [(3, 'loss at 3: 3')]
    assert [log.update([]) for _ in range(10)] == [[]] * 10
    assert log.close() == []


def test_repeats_are_summed_up_when_the_event_is_over():
    log = EventLog(quiet=5)
    said = feed(log, [3, 4, 6])
    said += [a.text for _ in range(6) for a in log.update([])]
    assert said == [(3, 'loss at 3: 3'), 'Loss spikes: seen 3 times from iter 3 to 6 in loss.']


def test_a_long_event_is_mentioned_after_10_100_and_1000_repeats():
    said = feed(EventLog(quiet=5), range(1, 2001))
    assert [step for step, _ in said] == [1, 11, 101, 1001]
    assert said[2][1] == 'loss at 101: 3 Seen 101 times since iter 1.'


def test_findings_after_the_quiet_time_are_a_new_event():
    log = EventLog(quiet=5)
    assert [step for step, _ in feed(log, [1, 6, 12])] == [1, 6 + 5, 12]
    assert log.totals == {'loss_spike': 2}


def test_an_event_that_gets_twice_as_bad_is_said_again():
    log = EventLog(quiet=5)
    said = [[a.text for a in log.update([finding(step, magnitude=m)])]
            for step, m in enumerate([2.0, 3.9, 4.1, 8.0, 9.0], 1)]
    assert said == [['loss at 1: 2'], [], ['loss at 3: 4.1 Seen 3 times since iter 1.'], [],
                    ['loss at 5: 9 Seen 5 times since iter 1.']]
    (event,) = log.events()
    assert (event['worst'], event['count'], event['last_iter']) == ('loss at 5: 9', 5, 5)
    (summary,) = log.close()
    assert summary.text.endswith('Worst: loss at 5: 9')


def test_another_term_is_said_although_the_event_goes_on():
    log = EventLog(quiet=5)
    log.update([finding(1)])
    (announcement,) = log.update([finding(2), finding(2, subject='loss_b')])
    assert announcement.text.startswith('loss_b at 2: 3 At the same time: loss.')
    assert log.events()[0]['subjects'] == ['loss', 'loss_b']


def test_findings_of_one_step_and_kind_are_one_message_with_the_advice():
    (announcement,) = EventLog(quiet=5).update([finding(1), finding(1, subject='loss_b')])
    assert announcement.text == 'loss at 1: 3 At the same time: loss_b.'
    assert announcement.advice == ['look there']


def test_kinds_are_events_of_their_own():
    log = EventLog(quiet=5)
    said = log.update([finding(1, kind='non_finite'), finding(1)])
    assert [a.text for a in said] == ['loss at 1: 3', 'loss at 1: 3']
    assert log.totals == {'non_finite': 1, 'loss_spike': 1}


def test_memory_is_bounded_and_all_events_are_counted():
    log = EventLog(quiet=1, keep=3)
    feed(log, range(1, 21, 2))
    log.close()
    assert log.totals == {'loss_spike': 10}
    assert [event['first_iter'] for event in log.events()] == [15, 17, 19]
