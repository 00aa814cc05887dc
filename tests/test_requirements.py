"""Every requirement that the project was begun with is shown by named tests, or the README says that it is not."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
README = (TESTS.parent / 'README.md').read_text()
LAST = 36

# What is asked for, and the tests that show it: paths below tests/ and names of functions.
SHOWN = {
    'R1': ('quick_check: forward, backward, finite losses, every term computed', [
        'cli/test_quick_check.py::test_a_healthy_config_passes_and_leaves_nothing',
        'cli/test_quick_check.py::test_a_broken_config_is_found',
        'cli/test_findings.py::test_every_loss_term_must_be_computed_and_finite',
        'integration/test_pose_distill.py::test_quick_check_sees_every_term_before_the_training']),
    'R2': ('training on one device and on N', [
        'cli/test_train.py::test_resume_goes_on_where_the_run_ended',
        'cli/test_processes.py::test_two_processes_train_one_model_and_evaluate_it']),
    'R3': ('loss spikes: current value, recent average, ratio', [
        'monitor/test_spike.py::test_a_finding_prints_current_value_recent_average_and_ratio',
        'monitor/test_spike.py::test_an_explicit_factor_alone_decides',
        'hooks/test_training_monitor_hook.py::test_a_jump_of_the_loss_is_warned_of_with_the_settings_of_the_run']),
    'R4': ('performance drops: current value, best, drop', [
        'monitor/test_performance_drop.py::test_a_finding_prints_current_value_best_and_drop',
        'monitor/test_performance_drop.py::test_it_fires_beyond_the_threshold_under_the_best',
        'hooks/test_training_monitor_hook.py::test_a_metric_that_falls_under_its_best_is_warned_of']),
    'R5': ('a line with every loss term to six decimals', [
        'hooks/test_detailed_loss_log_hook.py::test_the_format_is_the_one_that_scripts_parse',
        'hooks/test_detailed_loss_log_hook.py::test_the_line_of_an_iteration_holds_its_own_values_in_order',
        'integration/test_pose_distill.py::'
        'test_the_short_terms_are_four_orders_below_the_long_one_and_logged_to_six_decimals']),
    'R6': ('diagnosis with advice: loss stands still, metric at 0, a jump then NaN, terms out of proportion', [
        'monitor/test_round_detectors.py::test_plateaus',
        'monitor/test_round_detectors.py::test_metrics_at_zero',
        'integration/test_pose_distill.py::test_an_ap_that_stays_at_zero_is_warned_of_with_what_to_look_at',
        'monitor/test_divergence.py::test_a_jump_that_ends_in_nan_is_said_at_the_first_nan_and_once',
        'monitor/test_block_detectors.py::test_loss_terms',
        'monitor/test_advice.py::test_advice_names_the_present_values',
        'monitor/test_advice.py::test_every_kind_of_finding_has_advice_with_or_without_settings']),
    'R7': ('interval=10, max_keep_ckpts=3, save_last=True: the newest is kept and found', [
        'hooks/test_checkpoint_hook.py::test_newest_are_kept_and_the_end_is_saved',
        'integration/test_pose_distill.py::test_ap_comes_every_five_epochs_and_files_are_kept_as_the_config_says']),
    'R8': ('resume from a periodic and from a best file, with the full state', [
        'cli/test_train.py::test_resume_from_is_resume_with_a_path',
        'integration/test_kill_and_resume.py::test_resume_from_best_continues_with_full_state',
        'integration/test_pose_distill.py::'
        'test_resumed_from_a_best_and_then_from_a_periodic_file_it_is_the_same_run']),
    'R9': ('training_stats.txt and .json, whatever the end', [
        'hooks/test_training_monitor_hook.py::'
        'test_a_healthy_run_ends_with_statistics_that_agree_with_its_own_losses',
        'hooks/test_training_monitor_hook.py::test_an_exception_in_the_training_leaves_statistics_that_name_it',
        'hooks/test_training_monitor_hook.py::test_a_signal_leaves_statistics_that_say_so',
        'monitor/test_report.py::test_the_text_holds_every_number_of_the_run']),
    'R10': ('date and description in the config name the work directory', [
        'demo/test_pose_configs.py::test_the_work_directory_is_named_by_literals_of_the_config']),
    'R11': ('NaN and infinity afterwards: which iteration, which term', [
        'hooks/test_training_monitor_hook.py::'
        'test_nan_is_reported_with_term_and_iteration_and_does_not_stop_the_training',
        'monitor/test_monitor_on_real_training.py::test_a_nan_in_one_loss_names_that_term_and_its_iteration']),
    'R12': ('model, optimizer, scheduler, epoch, config, statistics, bests, counters, random states', [
        'hooks/test_checkpoint_hook.py::test_file_has_what_stock_writes_and_one_key_more',
        'hooks/test_stateful_classes.py::test_next_answers_after_save_and_load_are_those_of_the_original',
        'state/test_rng.py::test_streams_continue_after_a_round_trip_through_a_file',
        'state/test_rng.py::test_cuda_streams_come_back']),
    'R13': ('a worse epoch never replaces the best after a resume, a better one does', [
        'hooks/test_hook_resume.py::test_worse_epoch_after_a_resume_never_replaces_the_best',
        'hooks/test_hook_resume.py::test_better_epoch_after_a_resume_replaces_the_best',
        'integration/test_pose_episodic.py::'
        'test_the_best_of_epoch_67_survives_a_resume_at_100_until_a_better_one_comes']),
    'R14': ('a resumed run is the uninterrupted one, to the bit', [
        'integration/test_exact_resume.py::test_killed_and_resumed_run_is_the_same_run',
        'integration/test_kill_and_resume.py::test_killed_run_ends_bit_identical',
        'integration/test_pose_episodic.py::test_killed_inside_an_epoch_it_resumes_to_the_same_bit']),
    'R15': ('old checkpoints resume, with a message that says what they lack', [
        'hooks/test_hook_resume.py::test_stock_checkpoint_resumes_and_the_banner_names_what_it_lacks']),
    'R16': ('best loss and best PCK, one file each', [
        'hooks/test_checkpoint_hook.py::test_each_metric_has_its_own_best_and_rule',
        'integration/test_pose_episodic.py::'
        'test_the_best_of_epoch_67_survives_a_resume_at_100_until_a_better_one_comes']),
    'R17': ('early stopping: patience, a line each time, a counter that survives', [
        'hooks/test_early_stopping_hook.py::test_training_ends_after_patience_validations_without_improvement',
        'hooks/test_early_stopping_hook.py::test_each_validation_without_improvement_prints_count_best_and_now',
        'hooks/test_early_stopping_hook.py::test_the_counter_survives_a_resume',
        'integration/test_pose_episodic.py::'
        'test_the_best_of_epoch_67_survives_a_resume_at_100_until_a_better_one_comes']),
    'R18': ('names of files carry values', [
        'hooks/test_save_best.py::test_names_carry_values',
        'hooks/test_save_best.py::test_names_that_collide_are_told_apart',
        'integration/test_pose_episodic.py::test_killed_inside_an_epoch_it_resumes_to_the_same_bit',
        'integration/test_depth_topk.py::test_names_carry_epoch_and_score']),
    'R19': ('a banner of what was restored and what was not there', [
        'hooks/test_hook_resume.py::test_banner_lists_what_was_restored',
        'hooks/test_hook_resume.py::test_stock_checkpoint_resumes_and_the_banner_names_what_it_lacks']),
    'R20': ('the wish list: atomic, clean-up, disk check, crash in a save, checksums, place in the data, scores', [
        'faults/test_failing_disk.py::test_a_crash_at_any_step_keeps_what_was_saved_and_the_next_start_cleans_up',
        'faults/test_failing_disk.py::'
        'test_the_bytes_are_on_the_device_before_the_name_and_the_name_before_the_record',
        'faults/test_failing_disk.py::test_a_really_full_disk_costs_no_file_and_training_goes_on',
        'faults/test_kill.py::test_a_killed_process_loses_nothing_that_was_saved',
        'faults/test_rotten_bytes.py::test_a_flipped_bit_is_found_wherever_it_is',
        'hooks/test_checkpoint_hook.py::test_a_run_that_will_fill_the_disk_is_told_before_it_starts',
        'hooks/test_checkpoint_hook.py::test_old_best_goes_when_the_new_one_is_there',
        'integration/test_exact_resume.py::test_killed_and_resumed_run_is_the_same_run',
        'hooks/test_save_best.py::test_a_smoothed_score_and_the_metric_are_both_in_the_record',
        'hooks/test_save_best.py::test_a_combined_score_chooses_and_is_in_the_record_with_its_metrics']),
    'R21': ('the k best by a monitored metric, min or max; -1 keeps all', [
        'hooks/test_save_best.py::test_the_best_steps_are_kept',
        'integration/test_depth_topk.py::test_the_three_best_are_kept_by_each_metric',
        'integration/test_depth_topk.py::test_killed_and_resumed_it_keeps_the_same_files']),
    'R22': ('a metric that validation does not produce is named with those that it does; 0.0 is a value', [
        'hooks/test_checkpoint_hook.py::test_unknown_metric_lists_those_that_exist',
        'hooks/test_checkpoint_hook.py::test_zero_is_a_score_and_nan_and_none_are_not',
        'cli/test_quick_check.py::test_validation_is_dry_and_lists_its_metrics',
        'cli/test_findings.py::test_a_metric_that_is_not_produced_is_named_with_near_ones',
        'integration/test_depth_topk.py::test_a_wrong_monitor_is_found_before_the_training',
        'integration/test_depth_topk.py::'
        'test_without_that_check_the_first_validation_says_so_and_nothing_is_saved']),
    'R23': ('the validation loss as a metric, over all batches and ranks', [
        'hooks/test_val_loss_hook.py::'
        'test_it_is_the_mean_over_samples_in_total_and_by_term_also_with_an_uneven_last_batch',
        'hooks/test_val_loss_hook.py::test_numbers_lists_and_terms_that_are_rare_count_as_they_are',
        'hooks/test_val_loss_hook.py::test_two_ranks_give_the_value_of_one']),
    'R24': ('several validation loaders: metrics by name or index', [
        'loops/test_multi_val_loop.py::test_each_loaders_metrics_have_its_name_or_index',
        'loops/test_multi_val_loop.py::test_the_validation_loss_is_the_mean_over_the_samples_of_all_loaders',
        'integration/test_depth_topk.py::test_each_loaders_metrics_are_those_of_its_data_alone']),
    'R25': ('bytes saved by retention', [
        'store/test_store.py::test_retention_drops_the_record_and_the_file_and_reports_the_bytes',
        'store/test_store.py::test_freed_bytes_count_a_file_once_when_all_its_names_go']),
    'R26': ('what a file holds, as a tree, for MMEngine, Lightning and plain dicts, without running it', [
        'cli/test_inspect.py::test_a_file_of_mmengine_is_a_tree_with_progress_best_and_sizes',
        'cli/test_inspect.py::test_a_file_of_lightning_shows_callbacks_schedulers_and_hyper_parameters',
        'files/test_content.py::test_the_parts_of_hand_written_files_are_found',
        'files/test_hostile_files.py::test_it_runs_nothing_and_costs_little']),
    'R27': ('the model is rebuilt from what the file says; another number of items is named', [
        'test_loading.py::test_the_model_is_built_from_the_config_in_the_file',
        'test_loading.py::test_another_number_of_items_is_named_with_both_values_and_what_to_pass',
        'test_loading.py::test_a_lightning_module_is_built_from_its_hyper_parameters',
        'integration/test_recsys.py::test_the_model_is_rebuilt_from_its_file_with_overrides_and_num_items_must_fit',
        'integration/test_recsys.py::'
        'test_another_num_items_is_refused_by_name_with_both_values_and_what_to_pass']),
    'R28': ('names from templates with metric values: multi-vae-{epoch:02d}-{val_loss:.4f}', [
        'hooks/test_save_best.py::test_names_carry_values',
        'integration/test_recsys.py::test_the_file_of_the_least_loss_is_the_only_one',
        'integration/test_depth_topk.py::test_names_carry_epoch_and_score']),
    'R29': ('"last" where none was kept is the newest or best valid file, and is named', [
        'cli/test_resume.py::test_a_last_that_was_not_kept_is_the_newest_best_and_is_named',
        'store/test_find.py::test_the_nearest_valid_one_is_taken_and_named',
        'integration/test_recsys.py::test_last_gives_the_best_where_no_last_was_kept_and_says_so']),
    'R30': ('weights_only=True reads our files and those of stock MMEngine', [
        'test_safe_loading.py::test_a_file_of_stock_mmengine_loads_safely_and_whole',
        'test_safe_loading.py::test_import_mmckpt_is_enough_for_a_stock_runner_to_resume',
        'hooks/test_checkpoint_hook.py::test_file_has_what_stock_writes_and_one_key_more']),
    'R31': ('weights and training state of a Lightning checkpoint, also with other names', [
        'integration/test_converted_resume.py::test_a_lightning_training_goes_on_in_a_runner_to_the_bit',
        'integration/test_converted_resume.py::test_a_runner_resumes_from_a_lightning_file_itself',
        'cli/test_convert.py::'
        'test_lightning_becomes_mmengine_with_best_score_counter_and_what_is_lost']),
    'R32': ('several ranks, one that writes; wrapped and unwrapped nets load each other', [
        'integration/test_depth_ddp.py::'
        'test_every_fifth_epoch_and_the_last_are_saved_by_one_rank_that_also_logs',
        'integration/test_depth_ddp.py::test_wrapped_and_unwrapped_nets_go_on_from_each_others_files',
        'integration/test_two_ranks.py::test_the_sample_order_is_that_of_any_number_of_ranks']),
    'R33': ('adepth, rdepth and multi-scale rgrad, each logged; five input channels', [
        'demo/test_depth_demo.py::test_losses_are_those_of_numpy_with_holes_left_out',
        'demo/test_depth_demo.py::test_the_total_is_adepth_plus_rdepth_plus_half_rgrad_each_by_its_name',
        'demo/test_depth_demo.py::test_missing_depth_is_a_hole_for_the_model_and_not_sampled',
        'integration/test_depth_ddp.py::test_each_term_is_logged_and_the_total_is_their_sum']),
    'R34': ('depth metrics on valid pixels, weighted by sample, right over ranks', [
        'evaluation/test_depth_metric.py::test_errors_are_those_of_scikit_learn_averaged_over_samples',
        'evaluation/test_depth_metric.py::test_every_metric_by_hand',
        'evaluation/test_depth_metric.py::'
        'test_a_sample_weighs_the_same_whatever_its_number_of_valid_pixels',
        'evaluation/test_metrics_over_ranks.py::'
        'test_two_ranks_with_an_odd_number_of_samples_give_the_values_of_one',
        'integration/test_depth_ddp.py::test_one_process_gets_the_metrics_of_two_ranks_from_their_file']),
    'R35': ('gradient clipping is optional, and its norm is followed', [
        'integration/test_depth_ddp.py::'
        'test_the_rate_falls_in_steps_and_the_norm_of_gradients_is_followed',
        'integration/test_depth_ddp.py::test_clipping_is_optional',
        'monitor/test_block_detectors.py::test_gradients']),
    'R36': ('saving every 5 epochs, steps of the learning rate, start_epoch after a resume', [
        'integration/test_depth_ddp.py::'
        'test_every_fifth_epoch_and_the_last_are_saved_by_one_rank_that_also_logs',
        'integration/test_depth_ddp.py::'
        'test_the_rate_falls_in_steps_and_the_norm_of_gradients_is_followed',
        'integration/test_depth_ddp.py::test_wrapped_and_unwrapped_nets_go_on_from_each_others_files']),
}


def numbers(names):
    return sorted(int(name[1:]) for name in names)


def not_done():
    """Requirements under the README's heading "Not done", with what it says of each."""
    section = re.search(r'^#+ Not done\n(.*?)(?=^#|\Z)', README, re.M | re.S)
    return dict(re.findall(r'^- (R\d+): (.+(?:\n  .+)*)', section[1], re.M)) if section else {}


@functools.cache
def functions_of(path):
    """Names of the test functions of a file, also of those in classes."""
    nodes = ast.walk(ast.parse((TESTS / path).read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith('test_')}


@pytest.mark.parametrize('requirement', [f'R{number}' for number in range(1, LAST + 1)])
def test_a_requirement_is_shown_by_tests_or_the_readme_says_why_it_is_not(requirement):
    assert (requirement in SHOWN) != (requirement in not_done()), (
        f'{requirement} must be in SHOWN of this file, or under "Not done" in the README, and not in both')


@pytest.mark.parametrize('requirement', SHOWN)
def test_the_tests_that_are_named_exist(requirement):
    _, named = SHOWN[requirement]
    assert named and len(set(named)) == len(named)
    for name in named:
        path, _, function = name.partition('::')
        assert (TESTS / path).is_file(), f'{requirement} names {path}, which is not there'
        assert function in functions_of(path), f'{requirement} names {function}, which {path} does not have'


def test_nothing_else_is_listed():
    assert set(numbers([*SHOWN, *not_done()])) <= set(range(1, LAST + 1))
    assert numbers(SHOWN) == [int(name[1:]) for name in SHOWN], 'keep the table in order'
    assert all(len(reason.split()) >= 3 for reason in not_done().values()), 'say why'
