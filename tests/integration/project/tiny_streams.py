"""Digits as they come from a stream: an order from a shuffle buffer, no index, a place only the reader knows."""

import random

import numpy as np
import torch
from digits_file import load_digits
from mmengine.dist import get_dist_info
from mmengine.registry import DATASETS
from torch.utils.data import IterableDataset, get_worker_info

BUFFER = 50


@DATASETS.register_module()
class PlainStream(IterableDataset):
    """The usual data set of that kind: a generator function, and nobody knows where it stands."""

    def __init__(self, size=256):
        digits = load_digits()
        self.images = torch.from_numpy(digits.images[:size].astype(np.float32) / 16)[:, None]
        self.labels = torch.from_numpy(digits.target[:size])
        self.rank, self.world_size = get_dist_info()

    def __len__(self):
        return len(self.labels) // self.world_size

    def share(self):
        """Samples of this worker of this rank."""
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        return range(self.rank * workers + number, len(self.labels), self.world_size * workers)

    def __iter__(self):
        for index in self.share():
            yield self.sample(index, random.Random(index) if get_worker_info() else random)

    def sample(self, index, noise):
        image = torch.roll(self.images[index], round(noise.random()), -1) + .1 * noise.random()
        return dict(inputs=image, labels=self.labels[index])


@DATASETS.register_module()
class TinyStream(PlainStream):
    """Keeps passes and place in its state, as torchdata asks; the disturbance is part of it."""

    passes = 0

    def __iter__(self):
        return ShuffledReader(self)

    def state_dict(self):
        return dict(passes=self.passes)

    def load_state_dict(self, state):
        self.passes = state['passes']


class ShuffledReader:
    """Reads this worker's share in order and hands out a random sample of the last ones read."""

    def __init__(self, stream):
        self.stream, self.share = stream, stream.share()
        self.draw = random.Random(1000 * stream.passes + self.share[0])
        self.read, self.buffer = 0, []

    def __iter__(self):
        return self

    def __next__(self):
        while self.read < len(self.share) and len(self.buffer) < BUFFER:
            self.buffer.append(self.share[self.read])
            self.read += 1
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
