"""Files whose tensors are made of others, and whose values try to use up the machine when they are read."""

from __future__ import annotations

import torch
from hostile import Call


def memory(dtype):
    """Sixteen bytes or more, as a tensor's memory."""
    return torch.storage.TypedStorage(wrap_storage=torch.zeros(4, dtype=torch.float64).untyped_storage(), dtype=dtype,
                                      _internal=True)


def repeated(count, dtype=torch.float32):
    """A tensor of very many elements, all of which are the same few bytes."""
    return Call(torch._utils._rebuild_tensor_v2, memory(dtype), 0, (count,), (0,), False, {})


def sparse(layout, *parts):
    return Call(torch._utils._rebuild_sparse_tensor, layout, parts)


def sparse_indices_that_lie_outside(path, victim):
    indices = torch.tensor([[0, 10 ** 15], [0, -(10 ** 15)]])
    torch.save({'state_dict': {'w': sparse(torch.sparse_coo, indices, torch.ones(2), (4, 4), True)}}, path)


def sparse_indices_that_lie_outside_of_rows(path, victim):
    rows, columns = torch.tensor([0, 10 ** 12, -5, 10 ** 12, 2]), torch.tensor([0, 10 ** 14])
    torch.save({'state_dict': {'w': sparse(torch.sparse_csr, rows, columns, torch.ones(2), (4, 4))}}, path)


def a_gigantic_sparse_shape(path, victim):
    one = torch.zeros(2, 1, dtype=torch.int64)
    torch.save({'state_dict': {'w': sparse(torch.sparse_coo, one, torch.ones(1), (10 ** 12, 10 ** 12)),
                               'x': sparse(torch.sparse_coo, one, torch.ones(1), (10 ** 9, 10 ** 9)),
                               'y': sparse(torch.sparse_csr, one[0], one[0], torch.ones(1), (10 ** 18, 5))}}, path)


def sparse_parts_that_repeat_themselves(path, victim):
    count = 10 ** 11
    indices = Call(torch._utils._rebuild_tensor_v2, memory(torch.int64), 0, (1, count), (0, 0), False, {})
    rows, columns = repeated(count + 1, torch.int64), repeated(count, torch.int64)
    torch.save({'state_dict': {'w': sparse(torch.sparse_coo, indices, repeated(count), (count,)),
                               'x': sparse(torch.sparse_csr, rows, columns, repeated(count), (count, 3))}}, path)


def a_sparse_tensor_of_sparse_tensors(path, victim):
    inner = sparse(torch.sparse_coo, torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), (5,))
    for _ in range(12):
        inner = sparse(torch.sparse_coo, inner, inner, (5,))
    torch.save({'state_dict': {'w': inner}}, path)


def quantized_tensors_that_repeat_themselves(path, victim):
    def quantized(shape, stride, *parameters):
        return Call(torch._utils._rebuild_qtensor, memory(torch.qint8), 0, shape, stride, parameters, False, {})

    affine = torch.per_tensor_affine, torch.per_channel_affine
    torch.save({'state_dict': {
        'w': quantized((10 ** 6, 10 ** 6), (0, 0), affine[0], 0.5, 0),
        'x': quantized((10 ** 6, 3), (0, 1), affine[1], repeated(10 ** 6), repeated(10 ** 6), 0),
        'y': quantized((20_000,), (0,), affine[1], [0.5] * 20_000, [0] * 20_000, 0),
        'z': quantized((4,), (1,), affine[1], [0.5] * 4, [0] * 3, -7)}}, path)


def strides(memory, offset, shape, stride):
    return Call(torch._utils._rebuild_tensor_v2, memory, offset, shape, stride, False, {})


def wide(dtype, nbytes):
    storage = torch.zeros(nbytes, dtype=torch.uint8).untyped_storage()
    return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


def thousands_of_tensors_of_the_same_bytes(path, victim):
    shared = wide(torch.float32, 10_000_000)
    torch.save({'state_dict': {f'w{i}': strides(shared, i, (2_400_000,), (1,)) for i in range(6000)}}, path)


def thousands_of_tensors_that_reach_far(path, victim):
    shared = wide(torch.float32, 10_000_000)
    torch.save({'state_dict': {f'w{i}': strides(shared, i, (2,), (2_400_000,)) for i in range(6000)}}, path)


def channels_that_reach_far(path, victim):
    numbers, count = wide(torch.qint8, 10_000_000), 10_000
    parameters = torch.per_channel_affine, [0.5] * count, [0] * count, 1
    torch.save({'state_dict': {'w': Call(torch._utils._rebuild_qtensor, numbers, 0, (1000, count), (count, 1),
                                         parameters, False, {})}}, path)


def strides_beyond_all_numbers(path, victim):
    numbers = wide(torch.float32, 4_000_000)
    torch.save({'state_dict': {'w': strides(numbers, 0, (1,), (10 ** 30,)), 'x': strides(numbers, 0, (0,), (10 ** 30,)),
                               'y': strides(numbers, 0, (2,) + (1,) * 63, (900_000,) + (1,) * 63)}}, path)


def half_numbers_again_and_again(path, victim):
    torch.save({'state_dict': {'w': repeated(120_000_000, torch.float16)}}, path)


def strange_dtypes(path, victim):
    def quantized(scales):
        return Call(torch._utils._rebuild_qtensor, memory(torch.qint8), 0, (2, 2), (2, 1),
                    (torch.per_channel_affine, scales, torch.zeros(2, dtype=scales.dtype), 0), False, {})

    twice, small = torch.zeros(1, 2, dtype=torch.int64), strides(memory(torch.qint8), 0, (2,), (1,))
    torch.save({'state_dict': {
        'w': quantized(torch.ones(2, dtype=torch.bool)), 'x': quantized(torch.ones(2, dtype=torch.complex64)),
        'y': sparse(torch.sparse_coo, twice, small, (4,)), 'z': small,
        'u': sparse(torch.sparse_coo, twice, torch.ones(2, dtype=torch.uint64), (4,))}}, path)


def one_number_a_thousand_million_times(path, victim):
    torch.save({'state_dict': {'w': repeated(10 ** 12)}}, path)


ALL = [sparse_indices_that_lie_outside, sparse_indices_that_lie_outside_of_rows, a_gigantic_sparse_shape,
       sparse_parts_that_repeat_themselves, a_sparse_tensor_of_sparse_tensors,
       quantized_tensors_that_repeat_themselves, one_number_a_thousand_million_times,
       thousands_of_tensors_of_the_same_bytes, thousands_of_tensors_that_reach_far, channels_that_reach_far,
       half_numbers_again_and_again, strange_dtypes, strides_beyond_all_numbers]
