"""IDX and .npy files made by hand, with nothing but the standard library."""

import array
import gzip
import struct

IDX_TYPES = {"B": 0x08, "b": 0x09, "h": 0x0B, "i": 0x0C, "f": 0x0D, "d": 0x0E}
NPY_TYPES = {"B": "|u1", "b": "|i1", "h": "<i2", "i": "<i4", "q": "<i8", "f": "<f4", "d": "<f8"}


def idx_head(kind, *dims):
    return struct.pack(">BBBB", 0, 0, IDX_TYPES[kind], len(dims)) + struct.pack(f">{len(dims)}I", *dims)


def idx(kind, dims, values):
    """A big-endian IDX file."""
    return idx_head(kind, *dims) + struct.pack(f">{len(values)}{kind}", *values)


def npy(kind, dims, values, version=1):
    """A little-endian .npy file in C order."""
    shape = "(" + ", ".join(map(str, dims)) + ("," if len(dims) == 1 else "") + ")"
    text = f"{{'descr': '{NPY_TYPES[kind]}', 'fortran_order': False, 'shape': {shape}, }}"
    width = 2 if version == 1 else 4
    text += " " * (63 - (6 + 2 + width + len(text)) % 64) + "\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text.encode() + array.array(kind, values).tobytes()


def gz(data):
    return gzip.compress(data, 6, mtime=0)
