"""The part of ctypes that calling the C library takes, from ctypes' own C half (2 ms of a start).

`import ctypes` makes classes for byte orders, callbacks and Windows, and loads three more modules, before the first call. The classes
here are the same in kind: what _ctypes gives, with the type codes that ctypes gives them. Where there is no _ctypes, ctypes serves.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import (
        CDLL,
        PyDLL,
        Structure,
        addressof,
        byref,
        c_char_p,
        c_int,
        c_long,
        c_size_t,
        c_uint,
        c_uint64,
        c_ulong,
        c_ushort,
        c_void_p,
        create_string_buffer,
        get_errno,
        sizeof,
    )  # fmt: skip
else:
    try:
        import _ctypes
        from _ctypes import Structure, _SimpleCData, addressof, byref, get_errno, sizeof
    except ImportError:  # pragma: no cover  (another interpreter than CPython)
        from ctypes import (
            CDLL,
            PyDLL,
            Structure,
            addressof,
            byref,
            c_char_p,
            c_int,
            c_long,
            c_size_t,
            c_uint,
            c_uint64,
            c_ulong,
            c_ushort,
            c_void_p,
            create_string_buffer,
            get_errno,
            sizeof,
        )  # fmt: skip
    else:

        def _simple(name, code):
            return type(name, (_SimpleCData,), {"_type_": code})

        # struct's codes; long is as long as a pointer on every Linux
        c_ushort, c_int, c_uint, c_long, c_ulong = (
            _simple(*pair) for pair in (("c_ushort", "H"), ("c_int", "i"), ("c_uint", "I"), ("c_long", "l"), ("c_ulong", "L"))
        )
        c_uint64, c_char, c_char_p, c_void_p = (
            _simple(*pair) for pair in (("c_uint64", "Q"), ("c_char", "c"), ("c_char_p", "z"), ("c_void_p", "P"))
        )
        c_size_t = c_ulong

        class CDLL:
            """A shared library; a function is an attribute, looked up when it is first asked for. `None` is the program itself."""

            _flags = _ctypes.FUNCFLAG_CDECL

            def __init__(self, name, use_errno=False):
                flags = self._flags | (_ctypes.FUNCFLAG_USE_ERRNO if use_errno else 0)
                self._handle = _ctypes.dlopen(name, 2)  # RTLD_NOW
                self._function = type("function", (_ctypes.CFuncPtr,), {"_flags_": flags, "_restype_": c_int})

            def __getattr__(self, name):
                function = self._function((name, self))
                setattr(self, name, function)
                return function

        class PyDLL(CDLL):
            """The same, keeping the interpreter's lock over the call."""

            _flags = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI

        def create_string_buffer(init, size=None):
            """A writable buffer of `init` bytes, or with the bytes `init` in it (and a NUL, unless `size` says otherwise)."""
            if isinstance(init, int):
                return (c_char * init)()
            buffer = (c_char * (len(init) + 1 if size is None else size))()
            if init:
                buffer[: len(init)] = init
            return buffer


__all__ = [
    "CDLL", "PyDLL", "Structure", "addressof", "byref", "c_char_p", "c_int", "c_long", "c_size_t", "c_uint", "c_uint64", "c_ulong",
    "c_ushort", "c_void_p", "create_string_buffer", "get_errno", "sizeof",
]  # fmt: skip
