"""Digits as they come from a stream: an order from a shuffle buffer, no index, a place only the reader knows."""

import random

import numpy as np
import torch
from mmengine.registry import DATASETS
from sklearn.datasets import load_digits
from torch.utils.data import IterableDataset, get_worker_info

BUFFER = 50


@DATASETS.register_module()
class TinyStream(IterableDataset):
    """Keeps passes and place in its state, as torchdata asks; the disturbance is part of it."""

    def __init__(self, size=256):
        digits = load_digits()
        self.images = torch.from_numpy(digits.images[:size].astype(np.float32) / 16)[:, None]
        self.labels = torch.from_numpy(digits.target[:size])
        self.passes = 0

    def __len__(self):
        return len(self.labels)

    def __iter__(self):
        return ShuffledReader(self)

    def state_dict(self):
        return dict(passes=self.passes)

    def load_state_dict(self, state):
        self.passes = state['passes']

    def sample(self, index, noise):
        image = torch.roll(self.images[index], round(noise.random()), -1) + .1 * noise.random()
        return dict(inputs=image, labels=self.labels[index])


class ShuffledReader:
    """Reads this worker's share in order and hands out a random sample of the last ones read."""

    def __init__(self, stream):
        worker = get_worker_info()
        self.stream = stream
        self.first, self.step = (worker.id, worker.num_workers) if worker else (0, 1)
        self.draw = random.Random(1000 * stream.passes + self.first)
        self.read, self.buffer = self.first, []

    def __iter__(self):
        return self

    def __next__(self):
        while self.read < len(self.stream) and len(self.buffer) < BUFFER:
            self.buffer.append(self.read)
            self.read += self.step
        if not self.buffer:
            self.stream.passes += 1
            raise StopIteration
        index = self.buffer.pop(self.draw.randrange(len(self.buffer)))
        # Without workers the process's own streams are drawn from, which RNGStateHook restores.
        return self.stream.sample(index, self.draw if get_worker_info() else random)

    def state_dict(self):
        return dict(read=self.read, buffer=list(self.buffer), draw=self.draw.getstate())

    def load_state_dict(self, state):
        self.read, self.buffer = state['read'], list(state['buffer'])
        self.draw.setstate(state['draw'])


@DATASETS.register_module()
class PlainStream(TinyStream):
    """The usual data set of that kind: a generator function, and nobody knows where it stands."""

    state_dict = load_state_dict = property()

    def __iter__(self):
        worker = get_worker_info()
        for index in range(worker.id if worker else 0, len(self), worker.num_workers if worker else 1):
            yield self.sample(index, random.Random(index) if worker else random)
