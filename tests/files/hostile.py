"""Files that try to run something or to use up the machine; each is written by the function of its name."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import torch

MOST_BYTES, MOST_SECONDS = 10 ** 9, 10.0


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


def archive(path, data, entries=(), compress=zipfile.ZIP_STORED, name='archive/data.pkl'):
    with zipfile.ZipFile(path, 'w', compress) as file:
        file.writestr(name, data)
        for entry, content in entries:
            file.writestr(entry, content)


def os_system(path, victim):
    torch.save({'state_dict': {'w': torch.ones(2)}, 'x': Call(os.system, f'touch {victim}')}, path)


def eval_by_reduce(path, victim):
    torch.save({'x': Call(eval, f'open({victim!r}, "w")')}, path)


def nested_in_an_optimizer(path, victim):
    call = Call(subprocess.call, ['touch', victim])
    torch.save({'model': {'w': torch.ones(2)}, 'optimizer': {'state': {0: {'m': [({'a': call},)]}}}}, path)


def call_of_what_a_call_returns(path, victim):
    # getattr(__import__('os'), 'system')('touch ...'), by hand: no Python class pickles like that.
    data = (b'\x80\x02cbuiltins\ngetattr\n(cbuiltins\n__import__\n(U\x02ostR' + b'U\x06systemtR'
            + b'(X' + struct.pack('<I', len(f'touch {victim}')) + f'touch {victim}'.encode() + b'tR.')
    archive(path, data)


def in_the_persistent_id(path, victim):
    text = f'touch {victim}'.encode()
    archive(path, b'\x80\x02cos\nsystem\n(X' + struct.pack('<I', len(text)) + text + b'tRQ.')


def old_instance_operation(path, victim):
    path.write_bytes(b"(S'touch " + victim.encode() + b"'\nios\nsystem\n.")


def in_an_old_torch_file(path, victim):
    torch.save({'x': Call(os.system, f'touch {victim}')}, path, _use_new_zipfile_serialization=False)


def in_the_state_of_an_object(path, victim):
    text = f'touch {victim}'.encode()
    call = b'cposix\nsystem\n(X' + struct.pack('<I', len(text)) + text + b'tR'
    archive(path, b'\x80\x02ccollections\nOrderedDict\n)R}U\x01k' + call + b'sb.')


def zip_bomb_in_the_pickle(path, victim):
    archive(path, b'\x80\x02' + b']' * (70 << 20) + b'.', compress=zipfile.ZIP_DEFLATED)


def zip_bomb_in_a_tensor(path, victim):
    good = io.BytesIO()
    torch.save({'w': torch.zeros(4)}, good)
    with zipfile.ZipFile(good) as file:
        data = file.read('archive/data.pkl')
    archive(path, data, [('archive/data/0', bytes(200 << 20))], zipfile.ZIP_DEFLATED)


def names_that_point_out(path, victim):
    torch.save({'w': torch.ones(2)}, path)
    with zipfile.ZipFile(path, 'a') as file:
        file.writestr(f'archive/../../..{victim}', 'x')
        file.writestr(victim, 'x')


def gigantic_shapes(path, victim):
    class Huge:
        def __reduce__(self):
            storage = torch.storage.TypedStorage(wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32,
                                                 _internal=True)
            return torch._utils._rebuild_tensor_v2, (storage, 0, (10 ** 12, 10 ** 9), (1, 1), False, {})

    torch.save({'state_dict': {'w': Huge(), 'ok': torch.ones(2)}}, path)


def a_shape_of_many_dimensions(path, victim):
    shape = tuple([2] * 100_000)

    class Deep:
        def __reduce__(self):
            storage = torch.storage.TypedStorage(wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32,
                                                 _internal=True)
            return torch._utils._rebuild_tensor_v2, (storage, 0, shape, shape, False, {})

    torch.save({'state_dict': {'w': Deep()}}, path)


def deep_recursion(path, victim):
    archive(path, b'\x80\x02' + b']' * 300_000 + b'a' * 299_999 + b'.')


def deep_tuples_as_a_key(path, victim):
    archive(path, b'\x80\x02}' + b')' + b'\x85' * 300_000 + b'K\x01s.')


def doubling_lists(path, victim):
    # Fifty lists, each of which holds the one before twice.
    data = b'\x80\x02]q\x00' + b''.join(
        b'](' + b'h' + bytes([i]) + b'h' + bytes([i]) + b'e' + b'q' + bytes([i + 1]) for i in range(50)) + b'.'
    archive(path, data)


def a_list_in_itself(path, victim):
    archive(path, b'\x80\x02}q\x00U\x04selfh\x00s.')


def many_empty_objects(path, victim):
    archive(path, b'\x80\x02' + b'}' * 60_000_000 + b'.')


def many_memos(path, victim):
    archive(path, b'\x80\x02N' + b''.join(b'r' + struct.pack('<I', i) for i in range(3_500_000)) + b'.')


def a_memo_far_away(path, victim):
    archive(path, b'\x80\x02Nr\xff\xff\xff\xff.')


def a_long_number(path, victim):
    archive(path, b'\x80\x02L' + b'9' * 60_000 + b'L\n.')


def a_number_of_many_bytes(path, victim):
    archive(path, b'\x80\x02\x8b' + struct.pack('<i', 100 << 20) + b'\x7f' * (100 << 20) + b'.')


def bytes_that_are_not_there(path, victim):
    archive(path, b'\x80\x02\x8e' + struct.pack('<Q', 1 << 40) + b'x.')


def keys_that_collide(path, victim):
    keys = b''.join(b'\x8a\x0d' + (i * (2 ** 61 - 1)).to_bytes(13, 'little', signed=True) + b'N'
                    for i in range(1, 150_000))
    archive(path, b'\x80\x02}(' + keys + b'u.')


def a_long_list_of_names(path, victim):
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('archive/data.pkl', b'\x80\x02}.')
    data = path.read_bytes()
    start = data.index(b'PK\x01\x02')
    entry = data[start:data.index(b'PK\x05\x06')]
    many = entry * 700_000
    end = struct.pack('<4s4H2LH', b'PK\x05\x06', 0, 0, 0xffff, 0xffff, len(many), start, 0)
    path.write_bytes(data[:start] + many + end)


def a_nested_header(path, victim):
    header = b'{"a":' + b'[' * 1_000_000
    path.write_bytes(struct.pack('<Q', len(header)) + header)


def a_header_that_lies(path, victim):
    header = json.dumps({'w': {'dtype': 'F32', 'shape': [10 ** 9, 10 ** 9], 'data_offsets': [0, 4 * 10 ** 18]}})
    path.write_bytes(struct.pack('<Q', len(header)) + header.encode() + bytes(16))


def control_characters(path, victim):
    torch.save({'state_dict': {'\x1b]0;owned\x07\x1b[2Jw': torch.ones(2), 'ok': torch.ones(1)},
                '\x1b[31m': '\x1b[2J' * 3}, path)


def metadata_of_shards(path, victim):
    path.mkdir()
    (path / '.metadata').write_bytes(pickle.dumps({'x': Call(os.system, f'touch {victim}')}))


def the_text_of_doubled_tuples(path, victim):
    # A small file; the text of its forty tuples would be a terabyte.
    doubled = b'K\x01' + b''.join(b'q' + bytes([i]) + b'h' + bytes([i]) + b'\x86' for i in range(40))
    calls = [b'cpathlib\nPosixPath\n' + doubled + b'\x85R', b'cnumpy\ndtype\n' + doubled + b'\x85R',
             b'ccollections\nOrderedDict\n]' + doubled + b'N\x86a\x85R', doubled + b'U\x01x\x93']
    archive(path, b'\x80\x04(' + b''.join(calls) + b'l.')


def paths_made_again_and_again(path, victim):
    part = b'X' + struct.pack('<I', 1000) + b'a' * 1000
    archive(path, b'\x80\x02cpathlib\nPosixPath\nq\x00(' + part * 100 + b'tq\x01' + b'h\x00h\x01R' * 100_000 + b'.')


def a_dict_copied_again_and_again(path, victim):
    entries = b''.join(b'J' + struct.pack('<i', i) + b'N' for i in range(300_000))
    calls = b'h\x00h\x01R' * 2000
    archive(path, b'\x80\x02ccollections\nOrderedDict\nq\x00}(' + entries + b'u\x85q\x01' + calls + b'.')


def arguments_copied_again_and_again(path, victim):
    archive(path, b'\x80\x02cfoo\nBar\nq\x00(' + b'N' * 1_000_000 + b'tq\x01K\x01\x85q\x02'
            + b'h\x00h\x01h\x02\x92' * 2000 + b'.')


RUNS_CODE = [os_system, eval_by_reduce, nested_in_an_optimizer, call_of_what_a_call_returns, in_the_persistent_id,
             old_instance_operation, in_an_old_torch_file, in_the_state_of_an_object]
BOMBS = [zip_bomb_in_the_pickle, zip_bomb_in_a_tensor, names_that_point_out, gigantic_shapes,
         a_shape_of_many_dimensions, deep_recursion, deep_tuples_as_a_key, doubling_lists, a_list_in_itself,
         many_empty_objects, many_memos, a_memo_far_away, a_long_number, a_number_of_many_bytes,
         bytes_that_are_not_there, keys_that_collide, a_long_list_of_names, a_nested_header, a_header_that_lies,
         control_characters, metadata_of_shards, the_text_of_doubled_tuples, paths_made_again_and_again,
         a_dict_copied_again_and_again, arguments_copied_again_and_again]


def measure(directory, with_values):
    """Run ``mmckpt inspect --stats`` on every file of a directory, each in a process of its own.

    Prints a line a file: name, exit status, seconds of the processor and peak
    bytes. The processes are forked, so that torch is imported once. The files
    ``with_values`` are compared with themselves and converted as well.
    """
    from mmckpt.cli.main import main

    for name in sorted(os.listdir(directory)):
        if name.startswith('victim') or name.endswith('.out'):
            continue
        out = os.path.join(directory, f'{name}.out')
        child = os.fork()
        if not child:
            with open(out, 'w') as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                os._exit(_status(main, os.path.join(directory, name), name in with_values))
        _, status, used = os.wait4(child, 0)
        print(json.dumps([name, os.waitstatus_to_exitcode(status),
                          used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]), flush=True)


def _status(main, path, with_values):
    import resource
    import traceback

    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    try:
        status = main(['inspect', '--stats', path])
        if with_values:
            assert main(['diff', path, path]) in (0, 1, 2)
            assert main(['convert', path, f'{path}.converted']) in (0, 2)
    except BaseException:
        traceback.print_exc()
        status = 70
    sys.stdout.flush()
    return status


if __name__ == '__main__':
    measure(sys.argv[1], sys.argv[2:])
