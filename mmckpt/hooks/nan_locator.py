"""Finds where a value stops being finite, by running one batch again with hooks on every module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from mmckpt.state.rng import preserved_rng


@dataclass(frozen=True)
class Located:
    """Where a batch is not finite first.

    Args:
        kind (str): ``'batch'``, ``'parameter'``, ``'buffer'``, ``'module'``,
            ``'loss'``, ``'gradient'``; ``'nothing'`` if all was finite, or
            ``'error'`` if the batch could not be run again.
        name (str): The entry, parameter, module or loss term.
        facts (list[str]): What was seen, in the order of cause and effect.
    """

    kind: str
    name: str
    facts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """One sentence for a log."""
        return '; '.join(self.facts)


def locate(model: nn.Module, wrapper: Any, batch: Any) -> Located:
    """Run a batch forward and backward and return what was not finite first.

    The training keeps no trace: random streams, gradients and buffers are put
    back. Masks of minus infinity are passed over, unless nothing else is found.

    Args:
        model (BaseModel): MMEngine's, without a wrapper such as DDP.
        wrapper (OptimWrapper, optional): Gives the context of mixed precision.
        batch (Any): As the data loader gave it.

    Returns:
        Located: The first in the order batch, parameters, buffers, modules, loss terms, gradients.
    """
    seen = [('batch', name, f'{name} of the batch is {what}') for name, what in non_finite_entries(batch)]
    for kind, tensors in (('parameter', model.named_parameters()), ('buffer', model.named_buffers())):
        seen += [(kind, name, f'{kind} {name} is {_what(value)} before the batch')
                 for name, value in tensors if _what(value)]
    probe = _Probe(wrapper)
    with undisturbed(model), _watched(model) as watch:
        try:
            terms = model.train_step(batch, optim_wrapper=probe)
        except Exception as error:  # Whatever a model raises on bad numbers; the training itself went on.
            terms = {}
            watch.error = f'running the batch again failed: {type(error).__name__}: {error}'
    first = watch.first_output()
    if first is not None:
        seen.append(first)
    bad = [name for name, value in (terms or {}).items() if name != 'loss' and _what(value)]
    if bad:
        seen.append(('loss', bad[0], f"loss term {', '.join(bad)} is {_what(terms[bad[0]])}"
                                     + ('' if first else ', but no module has such an output')))
    if watch.gradients:
        name, what = watch.gradients[0]
        seen.append(('gradient', name, f'the gradient of {name} is {what}, the first on the way back from the loss'))
    if watch.error:
        seen.append(('error', '', watch.error))
    if not seen:
        return Located('nothing', '', ['all outputs and gradients of the batch are finite when it runs again'])
    return Located(seen[0][0], seen[0][1], [text for _, _, text in seen[:6]])


def non_finite_entries(tree: Any, path: str = '') -> Iterator[tuple[str, str]]:
    """Yield the path of each entry of a batch that is not finite, and what it is.

    Example:
        >>> batch = {'inputs': [torch.zeros(2), torch.tensor([1., float('nan')])], 'size': 3.0}
        >>> list(non_finite_entries(batch))
        [('inputs[1]', 'nan')]
    """
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from non_finite_entries(value, f'{path}.{key}' if path else str(key))
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            if isinstance(value, torch.Tensor):
                # One sample, unlike a tensor of the whole batch.
                value = value.flatten()
            yield from non_finite_entries(value, f'{path}[{i}]')
    elif hasattr(tree, 'all_items'):
        # MMEngine's data elements.
        yield from non_finite_entries(dict(tree.all_items()), path)
    elif isinstance(tree, torch.Tensor) and tree.dim() > 1 and _what(tree):
        for i, part in enumerate(tree):
            if _what(part):
                yield f'{path}[{i}]', _what(part)
    elif _what(tree):
        yield path, _what(tree)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put gradients, buffers and random streams back after the body."""
    gradients = [(p, p.grad) for p in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        with preserved_rng():
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


class _Probe:
    """Stands in for an optimizer wrapper, and goes no further than the backward pass."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapper, name)

    def optim_context(self, model: nn.Module) -> Any:
        return nullcontext() if self._wrapper is None else self._wrapper.optim_context(model)

    def update_params(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward()

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        loss.backward(**kwargs)

    def step(self, *args: Any, **kwargs: Any) -> None:
        pass

    zero_grad = step


class _Watch:
    def __init__(self) -> None:
        self.outputs: list[tuple[str, str, str, bool]] = []
        self.gradients: list[tuple[str, str]] = []
        self.error = ''

    def first_output(self) -> tuple[str, str, str] | None:
        if not self.outputs:
            return None
        first = self.outputs[0]
        # Minus infinity alone may be a mask; if it were the cause, what follows would have bad inputs.
        if first[2].startswith('-inf'):
            first = next((o for o in self.outputs if not o[2].startswith('-inf') and o[3]), first)
        name, kind, what, sound_inputs = first
        inputs = 'its inputs are finite' if sound_inputs else 'its inputs are not finite either'
        return 'module', name, f'the first module with such an output is {name} ({kind}): {what}, {inputs}'


@contextmanager
def _watched(model: nn.Module) -> Iterator[_Watch]:
    watch, handles = _Watch(), []

    def on_output(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            what = _in_tree(output)
            if what:
                dtype = next((str(t.dtype).replace('torch.', '') for t in _tensors(output)), '')
                largest = max((float(t.detach().abs().max()) for t in _tensors(inputs) if t.numel()), default=0.0)
                watch.outputs.append((name, type(module).__name__, f'{what} in {dtype}, largest input {largest:.3g}',
                                      not _in_tree(inputs)))
        return hook

    def on_gradient(name: str) -> Any:
        def hook(gradient: torch.Tensor) -> None:
            what = _what(gradient)
            if what:
                watch.gradients.append((name, what))
        return hook

    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_hook(on_output(name)))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            handles.append(parameter.register_hook(on_gradient(name)))
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        if tree.is_floating_point():
            yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _tensors(value)


def _in_tree(tree: Any) -> str:
    return next(filter(None, map(_what, _tensors(tree))), '')


def _what(value: Any) -> str:
    """Say what a value holds that is not finite, or ''."""
    if isinstance(value, (float, np.floating)) or (isinstance(value, np.ndarray) and value.dtype.kind == 'f'):
        value = torch.as_tensor(np.asarray(value, dtype=np.float64))
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.is_sparse:
        return ''
    value = value.detach()
    if bool(value.isfinite().all()):
        return ''
    if bool(value.isnan().any()):
        return 'nan'
    return 'inf' if bool(value.isposinf().any()) else '-inf'
