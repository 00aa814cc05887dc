"""What well-known names in a pickle mean, as data; all other names stay names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Callable

from mmckpt.files.nodes import ArrayRef, Named, Opaque, Storage, TensorRef
from mmckpt.files.special import QuantizedRef, sparse_ref

# Dicts with other manners; what they hold is in their items.
_DICTS = {
    'collections.OrderedDict', 'collections.defaultdict', 'collections.Counter', 'mmengine.config.config.ConfigDict',
    'mmcv.utils.config.ConfigDict', 'addict.addict.Dict', 'lightning.fabric.utilities.data.AttributeDict',
    'lightning_fabric.utilities.data.AttributeDict', 'lightning.pytorch.utilities.parsing.AttributeDict',
    'pytorch_lightning.utilities.parsing.AttributeDict'}
_NAMESPACES = {'argparse.Namespace', 'types.SimpleNamespace'}
_DTYPES = {
    'DoubleStorage': 'float64', 'FloatStorage': 'float32', 'HalfStorage': 'float16', 'BFloat16Storage': 'bfloat16',
    'LongStorage': 'int64', 'IntStorage': 'int32', 'ShortStorage': 'int16', 'CharStorage': 'int8',
    'ByteStorage': 'uint8', 'BoolStorage': 'bool', 'ComplexDoubleStorage': 'complex128',
    'ComplexFloatStorage': 'complex64', 'QInt8Storage': 'qint8', 'QUInt8Storage': 'quint8', 'QInt32Storage': 'qint32',
    'UntypedStorage': 'uint8'}
# What MMEngine's own files call.
_HARMLESS_ATTRIBUTES = {
    'mmengine.logging.history_buffer.HistoryBuffer': {'min', 'max', 'current', 'mean'},
    'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler': {'_annealing_cos', '_annealing_linear'}}
_DANGEROUS_MODULES = {
    'os', 'posix', 'nt', 'posixpath', 'subprocess', 'sys', 'shutil', 'socket', 'runpy', 'pty', 'importlib', 'ctypes',
    'webbrowser', 'code', 'commands', 'codeop', 'pickle', '_pickle', 'dill', 'cloudpickle', 'marshal', 'timeit',
    'asyncio', 'multiprocessing', 'threading', 'http', 'urllib', 'requests', 'tempfile', 'signal', 'platform', 'pip',
    'pdb', 'bdb', 'cProfile', 'profile', 'trace', 'pydoc', 'operator', 'functools', 'types', 'inspect'}
_DANGEROUS_NAMES = re.compile(
    r'(builtins|__builtin__|)\.(eval|exec|execfile|compile|open|__import__|getattr|setattr|delattr|globals|input|'
    r'breakpoint|vars|map|filter)$'
    r'|torch\.(load|hub\..*|jit\..*|utils\.cpp_extension\..*|distributed\..*|_dynamo\..*)$'
    r'|numpy\.(load|save|fromfile|memmap|testing\..*|f2py\..*|distutils\..*)$'
    r'|.*\.(system|popen|Popen|check_output|check_call|run_module|run_path|tofile)$')
# NumPy's limit and torch's.
_MOST_DIMENSIONS = 64
# Plain classes that live in modules which hold dangerous functions as well.
_PLAIN = {'types.SimpleNamespace', 'functools.partial', 'multiprocessing.context.TimeoutError'}


class Meaning:
    """Turns what a pickle would call into data, and keeps a list of it.

    Attributes:
        called (dict[str, str]): Functions and classes that unpickling would
            call and that are not plain data, with the first arguments as text.
    """

    def __init__(self) -> None:
        self.called: dict[str, str] = {}

    @property
    def dangerous(self) -> dict[str, str]:
        """Those of ``called`` that can run code of the file's choice."""
        return {name: args for name, args in self.called.items() if is_dangerous(name)}

    def named(self, name: Named) -> Named:
        """Return the placeholder of a class or function; being named does no harm."""
        return name

    def call(self, function: Any, args: tuple) -> Any:
        """Return what a call makes: data for well-known functions, else a placeholder."""
        name = str(function) if isinstance(function, Named) else f'what {_short(function)} returns'
        name = re.sub(r'^__builtin__\.', 'builtins.', name)
        try:
            if name in _DICTS:
                return _as_dict(args)
            if name in _CALLS:
                return _CALLS[name](self, *args)
        except (TypeError, ValueError, IndexError, AttributeError, OverflowError):
            return Opaque(name, args)
        if name == 'builtins.getattr' and _is_harmless_attribute(args):
            return Named(text_of(args[0]), text_of(args[1]))
        if isinstance(function, Named) and function.module:
            self.called.setdefault(name, _short(args))
        elif not isinstance(function, Named):
            self.called.setdefault(name, _short(args))
        return Opaque(name, args)

    def build(self, target: Any, state: Any) -> None:
        """Set a state on an object, as ``__setstate__`` would."""
        if isinstance(target, ArrayRef):
            _fill_array(target, state)
        elif isinstance(target, _DType):
            target.order = text_of(state[1])[:1] if isinstance(state, tuple) and len(state) > 1 else '<'
        elif isinstance(target, Opaque):
            target.state = state


def is_dangerous(name: str) -> bool:
    """Whether a call of that name can run code that the file chooses.

    Example:
        >>> is_dangerous('os.system'), is_dangerous('mmpose.structures.PoseDataSample')
        (True, False)
    """
    if name in _PLAIN:
        return False
    return name.split('.')[0] in _DANGEROUS_MODULES or bool(_DANGEROUS_NAMES.match(name)) or name.startswith('what ')


def dtype_of_storage(kind: Any) -> str:
    """Return the dtype that a storage class stands for: ``torch.FloatStorage`` is ``float32``."""
    name = text_of(kind).rpartition('.')[2]
    return _DTYPES.get(name, name[:40])


class _DType:
    """A NumPy dtype on its way into arrays."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code[:20], '<'

    def __str__(self) -> str:
        return self.code if self.order == '|' or self.code[1:] == '1' else f'{self.order}{self.code}'


def text_of(value: Any) -> str:
    """Return the text of a leaf, and no more than the class of anything else.

    Forty tuples, each of which holds the one before twice, are a small file
    and a text that no memory holds.

    Example:
        >>> text_of('cpu'), text_of(3), text_of((('a', 'a'), ('a', 'a')))
        ('cpu', '3', 'tuple')
    """
    return str(value) if isinstance(value, (str, int, float, Named, _DType)) else type(value).__name__


def _as_dict(args: tuple) -> dict:
    entries = args[0] if args and isinstance(args[0], (dict, list, tuple)) else ()
    return dict(entries.items() if isinstance(entries, dict) else [(text_of(k), v) for k, v in entries])


def _ints(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or len(values) > _MOST_DIMENSIONS or not all(
            type(value) is int for value in values):
        raise ValueError('no shape')
    return values


def _tensor(meaning: Meaning, storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> TensorRef:
    if not isinstance(storage, Storage) or type(offset) is not int:
        raise ValueError('no storage')
    # _rebuild_tensor_v3 keeps an untyped storage and names the dtype.
    named = [str(item)[6:] for item in more if isinstance(item, Named) and item.module == 'torch']
    return TensorRef(named[0] if named else storage.dtype, _ints(size), _ints(stride), offset, storage)


def _parameter(meaning: Meaning, data: Any, *_: Any) -> Any:
    if not isinstance(data, TensorRef):
        raise ValueError('no tensor')
    return replace(data, kind='parameter') if type(data) is TensorRef else data


def _from_type(meaning: Meaning, function: Any, kind: Any, args: Any, state: Any = None) -> Any:
    if not isinstance(args, tuple):
        raise ValueError('no arguments')
    return meaning.call(function, args)


def _meta_tensor(meaning: Meaning, dtype: Any, size: Any, stride: Any, *_: Any) -> TensorRef:
    return TensorRef(text_of(dtype)[6:], _ints(size), _ints(stride), 0, None, 'meta tensor')


def _sparse(meaning: Meaning, layout: Any, data: Any) -> TensorRef:
    found = sparse_ref(text_of(layout)[:60].rpartition('.')[2], data)
    _ints(found.shape)
    return found


def _quantized(meaning: Meaning, storage: Any, offset: Any, size: Any, stride: Any, params: Any, *_: Any) -> TensorRef:
    if not isinstance(storage, Storage) or type(offset) is not int:
        raise ValueError('no storage')
    scheme, scale, zero_point, *axis = params
    return QuantizedRef(storage.dtype, _ints(size), _ints(stride), offset, storage, 'quantized tensor',
                        text_of(scheme)[:60].rpartition('.')[2], scale, zero_point, *_ints(tuple(axis[:1])))


def _array(meaning: Meaning, kind: Any, shape: Any, code: Any) -> ArrayRef:
    return ArrayRef('|i1', _ints(shape), False, b'')


def _array_of_buffer(meaning: Meaning, data: Any, dtype: Any, shape: Any, order: Any = 'C', *_: Any) -> ArrayRef:
    if not isinstance(data, (bytes, memoryview)) or not isinstance(dtype, _DType):
        raise ValueError('no array')
    return ArrayRef(text_of(dtype), _ints(shape), order == 'F', data)


def _fill_array(array: ArrayRef, state: Any) -> None:
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _DType):
        raise ValueError('the state of an array is broken')
    _, shape, dtype, fortran, data = state
    array.shape, array.dtype, array.fortran = _ints(shape), str(dtype), bool(fortran)
    data = data.encode('latin-1', 'replace') if isinstance(data, str) else data
    array.data = data if isinstance(data, (bytes, memoryview)) else None


def _scalar(meaning: Meaning, dtype: Any, data: Any = b'') -> Any:
    import numpy as np

    data = data.encode('latin-1') if isinstance(data, str) else bytes(data)
    code = text_of(dtype)
    if not re.fullmatch(r'[<>|]?[biufcSU]\d{1,5}', code) or len(data) != np.dtype(code).itemsize:
        raise ValueError('no scalar')
    return np.frombuffer(data, code)[0].item()


def _encode(meaning: Meaning, text: str, encoding: str = 'latin1') -> bytes:
    if encoding not in ('latin1', 'latin-1') or not isinstance(text, str):
        raise ValueError('no bytes')
    return text.encode('latin-1')


def _bytes(meaning: Meaning, *args: Any) -> bytes:
    if args and not isinstance(args[0], (bytes, str)):
        # A number there would ask for that many bytes.
        raise ValueError('no bytes')
    return b'' if not args else args[0].encode('latin-1', 'replace') if isinstance(args[0], str) else args[0]


def _set(meaning: Meaning, values: Any = ()) -> Opaque:
    return Opaque('set', items=list(values) if isinstance(values, (list, tuple)) else [])


def _path(meaning: Meaning, *parts: Any) -> str:
    return '/'.join(text_of(part)[:1000] for part in parts[:100]).replace('//', '/')


def _namespace(meaning: Meaning, *args: Any) -> Opaque:
    return Opaque('argparse.Namespace', args)


def _dtype(meaning: Meaning, code: Any = 'V', *_: Any) -> _DType:
    return _DType(text_of(code))


_CALLS: dict[str, Callable] = {
    'torch._utils._rebuild_tensor': _tensor, 'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _tensor, 'torch._utils._rebuild_parameter': _parameter,
    'torch._utils._rebuild_parameter_with_state': _parameter, 'torch._tensor._rebuild_from_type_v2': _from_type,
    'torch._utils._rebuild_meta_tensor_no_storage': _meta_tensor, 'torch._utils._rebuild_sparse_tensor': _sparse,
    'torch._utils._rebuild_qtensor': _quantized, 'torch.Size': lambda meaning, size=(): _ints(tuple(size)),
    'torch.device': lambda meaning, *parts: ':'.join(text_of(part)[:20] for part in parts[:2]),
    'torch.serialization._get_layout': lambda meaning, name: Named('', text_of(name)[:60]),
    'numpy.dtype': _dtype, '_codecs.encode': _encode, 'builtins.bytes': _bytes, 'builtins.bytearray': _bytes,
    'builtins.set': _set, 'builtins.frozenset': _set, **dict.fromkeys(_NAMESPACES, _namespace)}
_CALLS.update((f'{module}.multiarray._reconstruct', _array) for module in ('numpy.core', 'numpy._core'))
_CALLS.update((f'{module}.multiarray.scalar', _scalar) for module in ('numpy.core', 'numpy._core'))
_CALLS.update((f'{module}.numeric._frombuffer', _array_of_buffer) for module in ('numpy.core', 'numpy._core'))
_CALLS.update((f'{module}.{kind}', _path) for module in ('pathlib', 'pathlib._local') for kind in (
    'PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath', 'Path'))


def _is_harmless_attribute(args: tuple) -> bool:
    return len(args) == 2 and args[1] in _HARMLESS_ATTRIBUTES.get(text_of(args[0]), ())


def _short(value: Any, depth: int = 2) -> str:
    """A text of at most some hundred characters, whatever the value is."""
    if isinstance(value, (str, bytes, int, float)) or value is None:
        return repr(value[:80] if isinstance(value, (str, bytes)) else value)
    if isinstance(value, (tuple, list)):
        inner = ', '.join(_short(item, depth - 1) for item in value[:3]) if depth else '...'
        return f"({inner}{', ...' if len(value) > 3 and depth else ''})"
    if isinstance(value, Opaque):
        return f'{value.name[:80]}{_short(value.args, depth - 1) if depth else "(...)"}'
    return str(value)[:80] if isinstance(value, Named) else f'a {type(value).__name__}'
