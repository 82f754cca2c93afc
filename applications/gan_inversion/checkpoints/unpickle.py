"""Read pickles without Python's pickle module: an interpreter that cannot call anything.

A pickle is a program. Python's own reader, and every reader derived from it, runs that program on
live classes and functions and tries to keep the wrong ones out; lists of forbidden names and
checks of ``torch.load(weights_only=True)`` have been got round again and again. Here the
instructions work on lists, dicts, text and numbers only. A name such as ``os.system`` is a pair of
words, nothing is ever imported, and a "call" looks the pair up in a closed table of descriptions
(``recipes.py``) of tensors, arrays and a few containers. Any other call ends the reading.

Every instruction is bounded: lengths are compared with what is left of the file before memory is
taken, instructions and sets are counted, and work on bytes that could be repeated is paid for.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

from .limits import (
    MAX_ODD_KEYS,
    MAX_OPERATIONS,
    MAX_SETS,
    CutShort,
    Global,
    NotAPickle,
    Refused,
    Stream,
)
from .recipes import Instance, Recipes, make_instance

_KEYS = (str, bytes, bool, type(None))


class Machine:
    """Runs pickles of one file; limits count over all of them.

    Args:
        recipes: what may be "called".
    """

    def __init__(self, recipes: Recipes) -> None:
        self.recipes = recipes
        self.operations = self.odd_keys = self.sets = 0

    def run(self, stream: Stream, persistent: Callable[[Any], Any] | None = None) -> Any:
        """Execute one pickle from where the stream stands, and return what it made.

        Args:
            stream: of the file; stands behind the pickle afterwards.
            persistent: what a reference to outside the pickle stands for (torch's storages).

        Raises:
            Refused: damage, a call of anything but the recipes, too much of anything.
        """
        return _Run(self, stream, persistent).result()


class _Run:
    def __init__(
        self, machine: Machine, stream: Stream, persistent: Callable[[Any], Any] | None
    ) -> None:
        self.machine, self.stream, self.persistent = machine, stream, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        machine, read = self.machine, self.stream.read
        while True:
            machine.operations += 1
            if machine.operations > MAX_OPERATIONS:
                raise Refused(
                    f"its pickle has more than {MAX_OPERATIONS} instructions: no checkpoint has"
                )
            code = read(1)
            if code == pickle.STOP:
                break
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise NotAPickle(f"its pickle has an instruction {code!r} that means nothing here")
            instruction(self)
        if len(self.stack) != 1 or self.marks:
            raise Refused("its pickle ends with a stack that is not one value; it is damaged")
        return self.stack[0]

    # --- stack -------------------------------------------------------------------------------
    def pop(self) -> Any:
        if not self.stack:
            raise Refused("its pickle takes from an empty stack; it is damaged")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise Refused("its pickle takes from an empty stack; it is damaged")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise Refused("its pickle looks for a mark that is not there; it is damaged")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def push_from_top(self, count: int) -> None:
        if len(self.stack) < count:
            raise Refused("its pickle takes from an empty stack; it is damaged")
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(items)

    def discard(self) -> None:
        # As pickle does: POP on an empty stretch takes back the mark.
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    # --- numbers and text --------------------------------------------------------------------
    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.stream.read(struct.calcsize(layout)))[0]

    def text_number(self) -> str:
        line = self.stream.line()
        if len(line) > 100:
            raise Refused("its pickle has a number of more than 100 digits")
        return line.decode("ascii")

    def long(self, length: int) -> int:
        if not 0 <= length <= 64:
            raise Refused(f"its pickle has a whole number of {length} bytes")
        return int.from_bytes(self.stream.read(length), "little", signed=True)

    def push_int_line(self) -> None:
        text = self.text_number()
        self.stack.append(text == "01" if text in ("00", "01") else int(text))

    def push_long_line(self) -> None:
        self.stack.append(int(self.text_number().rstrip("L")))

    def push_text(self, length: int) -> None:
        self.stack.append(str(self.stream.read(length), "utf-8", "surrogatepass"))

    def push_old_text(self, length: int) -> None:
        # Python 2's text is bytes; latin-1 keeps every one of them.
        self.stack.append(self.stream.read(length).decode("latin1"))

    def push_quoted(self) -> None:
        line = self.stream.line()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            raise Refused("its pickle has text without quotes; it is damaged")
        text = line[1:-1].decode("latin1")
        if "\\" in text:
            # The escapes of Python 2's repr() are those of unicode_escape, but for \N, \u and \U.
            if any(mark in text for mark in ("\\N", "\\u", "\\U")):
                raise Refused("its pickle has text with an escape that Python 2 does not write")
            text = text.encode("latin1").decode("unicode_escape")
        self.stack.append(text)

    # --- containers --------------------------------------------------------------------------
    def check_key(self, key: Any) -> None:
        if isinstance(key, _KEYS) or (type(key) is int and abs(key) < 2**60):
            return
        flat = key if isinstance(key, tuple) else (key,)
        simple = all(isinstance(part, (*_KEYS, int, float)) for part in flat) and len(flat) <= 16
        if not simple:
            raise Refused(f"it has a dictionary key of type {type(key).__name__}")
        self.machine.odd_keys += 1
        if self.machine.odd_keys > MAX_ODD_KEYS:
            raise Refused(f"it has more than {MAX_ODD_KEYS} dictionary keys that are not names")

    def pairs(self, items: list[Any]) -> dict[Any, Any]:
        if len(items) % 2:
            raise Refused("its pickle has a key without a value; it is damaged")
        for key in items[::2]:
            self.check_key(key)
        return dict(zip(items[::2], items[1::2], strict=True))

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, dict):
            target.update(self.pairs(items))
        elif isinstance(target, Instance):
            target.items.update(self.pairs(items))
        else:
            raise Refused(f"its pickle stores items in a {type(target).__name__}")

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def append(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise Refused(f"its pickle appends to a {type(target).__name__}")
        target.extend(items)

    def add_items(self) -> None:
        items = self.pop_mark()
        target = self.top()
        if not isinstance(target, set):
            raise Refused(f"its pickle adds members to a {type(target).__name__}")
        target.update(self.members(items))

    def members(self, items: list[Any]) -> list[Any]:
        for item in items:
            self.check_key(item)
        return items

    def push_set(self, items: list[Any]) -> None:
        self.machine.sets += 1
        if self.machine.sets > MAX_SETS:
            raise Refused(f"its pickle makes more than {MAX_SETS} sets")
        self.stack.append(set(self.members(items)))

    # --- memo --------------------------------------------------------------------------------
    def put(self, index: int) -> None:
        if index < 0:
            raise Refused("its pickle remembers a value under a negative number; it is damaged")
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise Refused("its pickle recalls a value that it never stored; it is damaged")
        self.stack.append(self.memo[index])

    # --- names and calls ---------------------------------------------------------------------
    def global_line(self) -> Global:
        module, name = self.stream.line(), self.stream.line()
        return self.machine.recipes.named(module.decode("utf-8"), name.decode("utf-8"))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refused("its pickle refers to a name that is not text; it is damaged")
        self.stack.append(self.machine.recipes.named(module, name))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(self.machine.recipes.call(function, arguments, self.machine))

    def new_object(self) -> None:
        arguments, cls = self.pop(), self.pop()
        self.stack.append(make_instance(cls, arguments))

    def new_object_ex(self) -> None:
        if self.pop():
            raise Refused("it makes an object with named arguments, which no checkpoint needs")
        self.new_object()

    def old_object(self) -> None:
        arguments = self.pop_mark()
        if not arguments:
            raise Refused("its pickle makes an object of nothing; it is damaged")
        self.stack.append(make_instance(arguments[0], tuple(arguments[1:])))

    def old_instance(self) -> None:
        cls = self.global_line()
        self.stack.append(make_instance(cls, tuple(self.pop_mark())))

    def build(self) -> None:
        state = self.pop()
        self.machine.recipes.build(self.top(), state)

    def persist(self, key: Any) -> None:
        if self.persistent is None:
            raise Refused("its pickle refers to data outside itself, which it does not have")
        self.stack.append(self.persistent(key))

    # --- framing -----------------------------------------------------------------------------
    def protocol(self) -> None:
        version = self.stream.read(1)[0]
        if version > pickle.HIGHEST_PROTOCOL:
            raise Refused(f"its pickle has protocol {version}, which does not exist; it is damaged")

    def frame(self) -> None:
        # A frame only tells a reader how much to fetch at once.
        length = self.number("<Q")
        if length > self.stream.left:
            raise CutShort(f"it declares {length} bytes where {self.stream.left} are left")

    def refuse_extension(self) -> None:
        raise Refused("its pickle refers to an extension or to memory outside the file")


def _push(value: Callable[[_Run], Any]) -> Callable[[_Run], None]:
    def instruction(run: _Run) -> None:
        # In two lines: taking back a mark exchanges the stack.
        item = value(run)
        run.stack.append(item)

    return instruction


_INSTRUCTIONS: dict[bytes, Callable[[_Run], Any]] = {
    pickle.PROTO: _Run.protocol,
    pickle.FRAME: _Run.frame,
    # Values.
    pickle.NONE: _push(lambda run: None),
    pickle.NEWTRUE: _push(lambda run: True),
    pickle.NEWFALSE: _push(lambda run: False),
    pickle.INT: _Run.push_int_line,
    pickle.LONG: _Run.push_long_line,
    pickle.FLOAT: _push(lambda run: float(run.text_number())),
    pickle.BININT: _push(lambda run: run.number("<i")),
    pickle.BININT1: _push(lambda run: run.number("<B")),
    pickle.BININT2: _push(lambda run: run.number("<H")),
    pickle.LONG1: _push(lambda run: run.long(run.number("<B"))),
    pickle.LONG4: _push(lambda run: run.long(run.number("<i"))),
    pickle.BINFLOAT: _push(lambda run: run.number(">d")),
    pickle.STRING: _Run.push_quoted,
    pickle.UNICODE: _push(lambda run: str(run.stream.line(), "raw-unicode-escape")),
    pickle.BINSTRING: lambda run: run.push_old_text(run.number("<i")),
    pickle.SHORT_BINSTRING: lambda run: run.push_old_text(run.number("<B")),
    pickle.BINUNICODE: lambda run: run.push_text(run.number("<I")),
    pickle.SHORT_BINUNICODE: lambda run: run.push_text(run.number("<B")),
    pickle.BINUNICODE8: lambda run: run.push_text(run.number("<Q")),
    pickle.BINBYTES: _push(lambda run: run.stream.read(run.number("<I"))),
    pickle.SHORT_BINBYTES: _push(lambda run: run.stream.read(run.number("<B"))),
    pickle.BINBYTES8: _push(lambda run: run.stream.read(run.number("<Q"))),
    pickle.BYTEARRAY8: _push(lambda run: run.stream.read(run.number("<Q"))),
    # Stack and memo.
    pickle.MARK: _Run.mark,
    pickle.POP: _Run.discard,
    pickle.POP_MARK: _Run.pop_mark,
    pickle.DUP: _push(_Run.top),
    pickle.PUT: lambda run: run.put(int(run.text_number())),
    pickle.BINPUT: lambda run: run.put(run.number("<B")),
    pickle.LONG_BINPUT: lambda run: run.put(run.number("<I")),
    pickle.MEMOIZE: lambda run: run.put(len(run.memo)),
    pickle.GET: lambda run: run.get(int(run.text_number())),
    pickle.BINGET: lambda run: run.get(run.number("<B")),
    pickle.LONG_BINGET: lambda run: run.get(run.number("<I")),
    # Containers.
    pickle.EMPTY_LIST: _push(lambda run: []),
    pickle.EMPTY_TUPLE: _push(lambda run: ()),
    pickle.EMPTY_DICT: _push(lambda run: {}),
    pickle.EMPTY_SET: lambda run: run.push_set([]),
    pickle.LIST: _push(_Run.pop_mark),
    pickle.TUPLE: _push(lambda run: tuple(run.pop_mark())),
    pickle.TUPLE1: lambda run: run.push_from_top(1),
    pickle.TUPLE2: lambda run: run.push_from_top(2),
    pickle.TUPLE3: lambda run: run.push_from_top(3),
    pickle.DICT: _push(lambda run: run.pairs(run.pop_mark())),
    pickle.FROZENSET: lambda run: run.push_set(run.pop_mark()),
    pickle.APPEND: lambda run: run.append([run.pop()]),
    pickle.APPENDS: lambda run: run.append(run.pop_mark()),
    pickle.SETITEM: _Run.set_item,
    pickle.SETITEMS: lambda run: run.set_items(run.pop_mark()),
    pickle.ADDITEMS: _Run.add_items,
    # Names, and what is done with them.
    pickle.GLOBAL: _push(_Run.global_line),
    pickle.STACK_GLOBAL: _Run.stack_global,
    pickle.REDUCE: _Run.reduce,
    pickle.NEWOBJ: _Run.new_object,
    pickle.NEWOBJ_EX: _Run.new_object_ex,
    pickle.OBJ: _Run.old_object,
    pickle.INST: _Run.old_instance,
    pickle.BUILD: _Run.build,
    pickle.PERSID: lambda run: run.persist(run.stream.line().decode("ascii")),
    pickle.BINPERSID: lambda run: run.persist(run.pop()),
    pickle.EXT1: _Run.refuse_extension,
    pickle.EXT2: _Run.refuse_extension,
    pickle.EXT4: _Run.refuse_extension,
    pickle.NEXT_BUFFER: _Run.refuse_extension,
    pickle.READONLY_BUFFER: _Run.refuse_extension,
}
