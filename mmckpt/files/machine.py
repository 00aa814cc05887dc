"""Reads a pickle without running it: names stay names, calls become placeholders."""

from __future__ import annotations

import codecs
import struct
from typing import Any, Callable

from mmckpt.errors import CorruptCheckpointError
from mmckpt.files.budget import Budget
from mmckpt.files.meaning import Meaning, text_of
from mmckpt.files.nodes import ArrayRef, Named, Opaque

_LONGEST_LINE = 1 << 16
# Turning longer ones into text takes time that grows with the square.
_LONGEST_INT = 64
# Larger runs of bytes are looked at where they lie.
_COPIED = 1 << 16
# A placeholder takes as much memory as so many numbers.
_WEIGHT_OF_OBJECT = 6
_MARK = object()


class PickleMachine:
    """Carries out the operations of a pickle on placeholders.

    It knows all of pickle's protocols and imports, calls and looks up
    nothing: what a file can do is build dicts, lists, numbers and texts, in
    the bounds of a :class:`Budget`. Nesting costs no recursion.

    Args:
        data (bytes or mmap): Holds the pickle.
        start (int): Its first byte.
        stop (int): The byte behind the last that may belong to it.
        meaning (Meaning): Turns calls of well-known functions into data.
        persistent (callable): Gives the value that a persistent id stands for.
        budget (Budget): What it may cost.
    """

    def __init__(self, data: Any, start: int, stop: int, meaning: Meaning,
                 persistent: Callable[[Any], Any], budget: Budget) -> None:
        self._data, self._at, self._stop = data, start, stop
        self._meaning, self._persistent, self._budget = meaning, persistent, budget
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> tuple[Any, int]:
        """Return what the pickle holds, and the position behind it.

        Raises:
            CorruptCheckpointError: If it is no whole pickle, or costs too much.
        """
        step, operations = self._budget.step, _OPERATIONS
        try:
            while True:
                step()
                code = self._take(1)[0]
                if code == 0x2e:
                    return self._pop(), self._at
                operations[code](self)
        except KeyError as error:
            raise CorruptCheckpointError(f'byte {self._at - 1} is no operation of a pickle ({error})') from error
        except (IndexError, ValueError, TypeError, struct.error, OverflowError) as error:
            raise CorruptCheckpointError(f'its pickle is broken at byte {self._at}: {error}'[:300]) from error

    def _take(self, count: int) -> bytes:
        at, end = self._at, self._at + count
        if count < 0 or end > self._stop:
            raise ValueError(f'{count} bytes are asked for, and {self._stop - at} are left')
        self._at = end
        return self._data[at:end]

    def _line(self) -> bytes:
        end = self._data.find(b'\n', self._at, min(self._stop, self._at + _LONGEST_LINE))
        if end < 0:
            raise ValueError(f'a line has no end within {_LONGEST_LINE} bytes')
        line = self._data[self._at:end]
        self._at = end + 1
        return line

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _push(self, value: Any) -> None:
        self._budget.value()
        self._stack.append(value)

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError('a value is missing')
        return value

    def _to_mark(self) -> list[Any]:
        values = []
        while True:
            self._budget.step()
            value = self._stack.pop()
            if value is _MARK:
                values.reverse()
                return values
            values.append(value)

    def _text(self, count: int, encoding: str = 'utf-8') -> None:
        self._budget.take(min(count, self._stop))
        self._push(self._take(count).decode(encoding, 'replace'))

    def _blob(self, count: int) -> None:
        if count <= _COPIED:
            self._budget.take(count)
            self._push(self._take(count))
            return
        start = self._at
        if count > self._stop - start:
            raise ValueError(f'{count} bytes are asked for, and {self._stop - start} are left')
        self._at += count
        self._push(memoryview(self._data)[start:start + count])

    def _long(self, count: int) -> None:
        if count > _LONGEST_INT:
            self._blob(count)
            self._pop()
            self._call(Named('', 'int'), (f'{count} bytes',))
        else:
            self._push(int.from_bytes(self._take(count), 'little', signed=True))

    def _decimal(self, line: bytes) -> None:
        line = line.rstrip(b'L')
        if line in (b'00', b'01'):
            self._push(line == b'01')
        elif len(line) > 2 * _LONGEST_INT:
            self._call(Named('', 'int'), (f'{len(line)} digits',))
        else:
            self._push(int(line))

    def _string(self) -> None:
        line = self._line().strip()
        if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"'):
            raise ValueError('a text has no quotes around it')
        self._budget.take(len(line))
        self._push(codecs.escape_decode(line[1:-1])[0].decode('latin-1'))

    def _remember(self, index: int) -> None:
        if index < 0:
            raise ValueError(f'a memo has the number {index}')
        value = self._stack[-1]
        if value is _MARK:
            raise ValueError('a value is missing')
        self._budget.value()
        self._memo[index] = value

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            raise ValueError(f'there is no memo {index}')
        self._push(self._memo[index])

    def _call(self, function: Any, args: Any) -> None:
        self._budget.value(_WEIGHT_OF_OBJECT)
        made = self._meaning.call(function, args if isinstance(args, tuple) else (args,))
        self._charge(made.items if isinstance(made, Opaque) else made)
        self._push(made)

    def _charge(self, made: Any) -> None:
        """Count a copy: a file may ask again and again for one of the same large value."""
        if isinstance(made, (str, bytes)):
            self._budget.take(len(made))
        elif isinstance(made, (dict, list, tuple)):
            self._budget.value(len(made))

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        target = target.items if isinstance(target, Opaque) else target
        if not isinstance(target, list):
            raise ValueError(f'entries are put into a {type(target).__name__}')
        target.extend(values)

    def _set(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        if len(pairs) % 2:
            raise ValueError('a key has no value')
        for key, value in zip(pairs[::2], pairs[1::2]):
            # Keys that were made to collide cost more and more, each.
            self._budget.step()
            if isinstance(target, Opaque):
                target.items.append((key, value))
            elif isinstance(target, dict):
                target[as_key(key)] = value
            else:
                raise ValueError(f'keys are put into a {type(target).__name__}')

    # One short method an operation would be 60 names that are used once; the table below is the list.

    def _reduce(self) -> None:
        args = self._pop()
        self._call(self._pop(), args)

    def _new_with_names(self) -> None:
        names, args, kind = self._pop(), self._pop(), self._pop()
        if names and isinstance(args, tuple):
            self._charge(args)
            args = (*args, names)
        self._call(kind, args)

    def _instance(self) -> None:
        module, name = self._name(self._line()), self._name(self._line())
        self._call(self._meaning.named(Named(module, name)), tuple(self._to_mark()))

    def _object(self) -> None:
        kind, *args = self._to_mark()
        self._call(kind, tuple(args))

    def _global(self) -> None:
        module, name = self._name(self._line()), self._name(self._line())
        self._push(self._meaning.named(Named(module, name)))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._push(self._meaning.named(Named(text_of(module)[:500], text_of(name)[:500])))

    def _build(self) -> None:
        state = self._pop()
        self._meaning.build(self._stack[-1], state)
        if isinstance(self._stack[-1], ArrayRef) and isinstance(state[-1], str):
            self._charge(self._stack[-1].data)

    def _skip(self, count: int) -> None:
        self._take(count)

    def _set_one(self) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _tuple(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(values)))

    @staticmethod
    def _name(line: bytes) -> str:
        return line[:500].decode('utf-8', 'replace')


def as_key(value: Any) -> Any:
    """Return a value that can be the key of a dict without costing more than it looks like."""
    if value is None or isinstance(value, (str, int, float, bytes, Opaque, Named)):
        return value
    if isinstance(value, tuple) and len(value) <= 8 and all(
            isinstance(item, (str, int, float, bool)) or item is None for item in value):
        return value
    return Opaque(type(value).__name__, (value,))


def _mapping(pairs: list[Any]) -> dict:
    return {as_key(key): value for key, value in zip(pairs[::2], pairs[1::2])}


_Operation = Callable[[PickleMachine], Any]
_OPERATIONS: dict[int, _Operation] = {
    0x80: lambda m: m._skip(1), 0x95: lambda m: m._skip(8),                                      # PROTO FRAME
    ord('('): lambda m: m._push(_MARK), ord('0'): lambda m: m._stack.pop(),              # MARK POP
    ord('1'): lambda m: m._to_mark(), ord('2'): lambda m: m._push(m._stack[-1]),                 # POP_MARK DUP
    ord('N'): lambda m: m._push(None), 0x88: lambda m: m._push(True), 0x89: lambda m: m._push(False),
    ord('I'): lambda m: m._decimal(m._line()), ord('L'): lambda m: m._decimal(m._line()),        # INT LONG
    ord('J'): lambda m: m._push(m._number('<i')), ord('K'): lambda m: m._push(m._number('<B')),  # BININT
    ord('M'): lambda m: m._push(m._number('<H')),                                                # BININT2
    0x8a: lambda m: m._long(m._number('<B')), 0x8b: lambda m: m._long(m._number('<i')),          # LONG1 LONG4
    ord('F'): lambda m: m._push(float(m._line()[:100])), ord('G'): lambda m: m._push(m._number('>d')),
    ord('S'): lambda m: m._string(),                                                             # STRING
    ord('T'): lambda m: m._text(m._number('<i'), 'latin-1'),                                     # BINSTRING
    ord('U'): lambda m: m._text(m._number('<B'), 'latin-1'),
    ord('V'): lambda m: m._push(m._line().decode('raw-unicode-escape', 'replace')),              # UNICODE
    ord('X'): lambda m: m._text(m._number('<I')), 0x8c: lambda m: m._text(m._number('<B')),      # BINUNICODE
    0x8d: lambda m: m._text(m._number('<Q')),
    ord('B'): lambda m: m._blob(m._number('<I')), ord('C'): lambda m: m._blob(m._number('<B')),  # BINBYTES
    0x8e: lambda m: m._blob(m._number('<Q')), 0x96: lambda m: m._blob(m._number('<Q')),
    ord(']'): lambda m: m._push([]), ord('}'): lambda m: m._push({}), ord(')'): lambda m: m._push(()),
    0x8f: lambda m: m._call(Named('builtins', 'set'), ()),                                       # EMPTY_SET
    0x91: lambda m: m._call(Named('builtins', 'frozenset'), (m._to_mark(),)),
    ord('l'): lambda m: m._push(m._to_mark()), ord('t'): lambda m: m._push(tuple(m._to_mark())),
    ord('d'): lambda m: m._push(_mapping(m._to_mark())),                                         # DICT
    0x85: lambda m: m._tuple(1), 0x86: lambda m: m._tuple(2), 0x87: lambda m: m._tuple(3),
    ord('a'): lambda m: m._append([m._pop()]), ord('e'): lambda m: m._append(m._to_mark()),      # APPEND(S)
    0x90: lambda m: m._append(m._to_mark()),                                                     # ADDITEMS
    ord('s'): lambda m: m._set_one(), ord('u'): lambda m: m._set(m._to_mark()),                  # SETITEM(S)
    ord('p'): lambda m: m._remember(int(m._line()[:20])), ord('q'): lambda m: m._remember(m._number('<B')),
    ord('r'): lambda m: m._remember(m._number('<I')), 0x94: lambda m: m._remember(len(m._memo)),
    ord('g'): lambda m: m._recall(int(m._line()[:20])), ord('h'): lambda m: m._recall(m._number('<B')),
    ord('j'): lambda m: m._recall(m._number('<I')),                                              # LONG_BINGET
    ord('P'): lambda m: m._push(m._persistent(m._name(m._line()))),                              # PERSID
    ord('Q'): lambda m: m._push(m._persistent(m._pop())),                                        # BINPERSID
    ord('c'): lambda m: m._global(), 0x93: lambda m: m._stack_global(),                          # GLOBAL
    ord('R'): lambda m: m._reduce(), ord('b'): lambda m: m._build(),                             # REDUCE BUILD
    0x81: lambda m: m._reduce(), 0x92: lambda m: m._new_with_names(),                            # NEWOBJ(_EX)
    ord('i'): lambda m: m._instance(), ord('o'): lambda m: m._object(),                          # INST OBJ
    0x82: lambda m: m._call(Named('', 'extension'), (m._number('<B'),)),                            # EXT1 EXT2 EXT4
    0x83: lambda m: m._call(Named('', 'extension'), (m._number('<H'),)),
    0x84: lambda m: m._call(Named('', 'extension'), (m._number('<I'),)),
    0x97: lambda m: m._call(Named('', 'buffer outside the pickle'), ()), 0x98: lambda m: None,
}
