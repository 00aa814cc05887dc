"""The entries of loss terms that a model gives as lists, before MMEngine sums them up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch


class RawLosses:
    """Looks over the shoulder of ``model.parse_losses``, the one place where lists of losses are seen whole.

    MMEngine sums a list of losses (one a stage or a level) before any hook
    sees them. While it is armed, the means of the entries are kept, on their
    device and without gradient; nothing is synchronised and nothing changes.

    Example:
        >>> import torch
        >>> from mmengine.model import BaseModel
        >>> class Net(BaseModel):
        ...     def forward(self, inputs): ...
        >>> raw, net = RawLosses(), Net()
        >>> raw.install(net)
        >>> raw.arm()
        >>> _ = net.parse_losses({'loss_aux': [torch.tensor(1.0), torch.tensor(2.0)]})
        >>> raw.take()
        {'loss_aux': {'loss_aux[0]': tensor(1.), 'loss_aux[1]': tensor(2.)}}
        >>> raw.remove()
    """

    def __init__(self) -> None:
        self._model: Any = None
        self._entries: dict[str, dict[str, Any]] | None = None

    def install(self, model: Any) -> None:
        """Begin to look at a model that has ``parse_losses``; at another one nothing is ever seen."""
        self.remove()
        parse = getattr(model, 'parse_losses', None)
        if parse is None:
            return
        self._model = model
        # An attribute of the instance hides the method of its class, and is gone without a trace when deleted.
        model.parse_losses = _Watched(parse, self)

    def remove(self) -> None:
        """Look no longer."""
        if self._model is not None:
            del self._model.parse_losses
        self._model = self._entries = None

    def arm(self) -> None:
        """Keep what the next forward pass gives."""
        self._entries = {}

    def take(self) -> dict[str, dict[str, Any]]:
        """Return the entries by term, as ``{'loss_aux': {'loss_aux[0]': tensor}}``, and be armed no longer."""
        entries, self._entries = self._entries or {}, None
        return entries

    def keep(self, losses: Mapping[str, Any]) -> None:
        """Keep the means of the entries of lists, if it is armed."""
        if self._entries is None:
            return
        for name, value in losses.items():
            if isinstance(value, (list, tuple)):
                # A model's own parse_losses may take other things than tensors.
                self._entries[name] = {
                    f'{name}[{number}]': entry.detach().float().mean() for number, entry in enumerate(value)
                    if isinstance(entry, torch.Tensor)}


class _Watched:
    """``parse_losses`` with a watcher; a class, since a model that holds a local function could not be pickled."""

    def __init__(self, parse: Callable[..., Any], watcher: RawLosses) -> None:
        self.parse = parse
        self.watcher = watcher

    def __call__(self, losses: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        self.watcher.keep(losses)
        return self.parse(losses, *args, **kwargs)
