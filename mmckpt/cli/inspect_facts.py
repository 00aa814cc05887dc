"""What ``mmckpt inspect`` says about a file besides its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmckpt.cli.checkpoint_table import shown_bytes, shown_number
from mmckpt.files import Content, tensors_in
from mmckpt.files.anatomy import Anatomy, number
from mmckpt.files.outline import clean, shown_value

_SHOWN = ('lr', 'initial_lr', 'momentum', 'betas', 'weight_decay')
_LONGEST_LIST = 12


def facts_of(content: Content, parts: Anatomy) -> dict[str, Any]:
    """Return what is known of a file in values that JSON has.

    Args:
        content (Content): The opened file.
        parts (Anatomy): Which part is what.
    """
    return dict(
        path=str(content.path), container=content.container, form=parts.form, versions=parts.versions,
        epoch=parts.epoch, iter=parts.iter,
        best={name: dict(score=best.score, path=best.path) for name, best in parts.best.items()},
        early_stopping={key: shown_value(value) for key, value in parts.stopping.items()},
        optimizers=[_optimizer(state) for state in parts.optimizers],
        schedulers=[{str(k): shown_value(v) for k, v in s.items()} for s in parts.schedulers],
        callbacks=[clean(name) for name in parts.callbacks],
        hyper_parameters={clean(k): shown_value(v) for k, v in parts.hyper_parameters.items()},
        config=parts.config is not None, metadata=content.metadata, guesses=parts.guesses,
        parts=[dict(zip(('name', 'tensors', 'bytes', 'share'), part)) for part in part_sizes(content.tree)],
        notes=content.notes, classes=content.classes, hostile=content.dangerous)


def summary_lines(content: Content, parts: Anatomy) -> Iterator[str]:
    """Yield the lines above the outline."""
    kind = {'unknown': 'no checkpoint that is known', 'weights': 'weights only'}.get(parts.form, parts.form)
    yield f'{content.path}: {kind}, {content.container}, {shown_bytes(content.size)}'
    rows = dict(_rows(parts))
    if content.metadata:
        rows['metadata'] = shown_value(content.metadata)
    width = max(map(len, rows), default=0)
    for name, text in rows.items():
        yield f'  {name.ljust(width)}  {text}'
    for text in parts.guesses:
        yield f'  guessed: {text}'


def part_sizes(tree: Any) -> list[tuple[str, int, int, float]]:
    """Return name, tensors, bytes and share of each top-level part that holds tensors."""
    found = []
    for key, value in tree.items() if isinstance(tree, dict) else [('', tree)]:
        refs = [ref for _, ref in tensors_in(value)]
        if refs:
            found.append((clean(key), len(refs), sum(ref.nbytes for ref in refs)))
    total = sum(size for _, _, size in found)
    return [(name, n, size, round(size / total, 4) if total else 0.0) for name, n, size in found]


def _rows(parts: Anatomy) -> Iterator[tuple[str, str]]:
    if parts.versions:
        yield 'written by', ', '.join(f'{clean(k)} {clean(v)}' for k, v in parts.versions.items())
    if parts.epoch is not None or parts.iter is not None:
        yield 'progress', f'{_count(parts.epoch)} epochs and {_count(parts.iter)} iterations completed'
    if parts.raw is not None:
        yield 'EMA', 'the weights are an average; those of the model in training are kept too'
    elif parts.averaged is not None:
        yield 'EMA', 'averaged weights are kept besides those of the model'
    for name, best in list(parts.best.items())[:_LONGEST_LIST]:
        yield f'best {clean(name)}', f'{shown_number(best.score)}{f" ({clean(best.path)})" if best.path else ""}'
    for i, state in enumerate(parts.optimizers[:_LONGEST_LIST]):
        yield f'optimizer{i if len(parts.optimizers) > 1 else ""}', _shown_optimizer(_optimizer(state))
    for i, state in enumerate(parts.schedulers[:_LONGEST_LIST]):
        plain = {k: v for k, v in state.items() if not str(k).startswith('_') and v is not None}
        yield f'scheduler{i if len(parts.schedulers) > 1 else ""}', ', '.join(
            f'{clean(k)} {shown_value(v)}' for k, v in list(plain.items())[:8])
    if parts.stopping:
        yield 'early stopping', ', '.join(f'{clean(k)} {shown_value(_number(v))}' for k, v in parts.stopping.items())
    if parts.callbacks:
        yield 'callbacks', ', '.join(clean(str(name).split('{')[0]) for name in list(parts.callbacks)[:_LONGEST_LIST])
    if parts.hyper_parameters:
        yield 'hyper-parameters', shown_value(parts.hyper_parameters)
    if parts.config is not None:
        yield 'config', f'{parts.config.count(chr(10)) + 1} lines'
    if parts.rest and parts.form not in ('weights', 'unknown'):
        yield 'also', ', '.join(map(clean, parts.rest[:_LONGEST_LIST]))


def _optimizer(state: dict) -> dict[str, Any]:
    groups = [g for g in state['param_groups'] if isinstance(g, dict)]
    entries = state.get('state')
    entries = entries if isinstance(entries, dict) else {}
    kept = {str(key): None for entry in list(entries.values())[:100] if isinstance(entry, dict) for key in entry}
    settings = {key: shown_value(groups[0][key]) for key in _SHOWN if groups and key in groups[0]}
    sizes = [len(g['params']) for g in groups if isinstance(g.get('params'), list)]
    return dict(groups=len(groups), parameters=sum(sizes), with_state=len(entries), keeps=list(kept)[:10], **settings)


def _shown_optimizer(facts: dict[str, Any]) -> str:
    settings = ', '.join(f'{key} {facts[key]}' for key in _SHOWN if key in facts)
    keeps = f", keeps {', '.join(map(clean, facts['keeps']))}" if facts['keeps'] else ''
    return (f"{facts['parameters']} parameters in {facts['groups']} group(s), {facts['with_state']} with state{keeps}"
            f'{"; " if settings else ""}{settings}')


def _count(value: int | None) -> str:
    return '?' if value is None else str(value)


def _number(value: Any) -> Any:
    found = number(value)
    return value if found is None or isinstance(value, (int, float)) else found
