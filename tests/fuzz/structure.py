"""Mutations that keep a message well-formed, so that fuzzing reaches the checks behind it.

Random bytes nearly always end at the msgpack parser. Here a message is parsed without a schema,
one node of the tree is changed, and the tree is encoded again in canonical form.
"""

import copy
import random
from typing import Any

import msgspec

Path = tuple[int, ...]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """An input whose message differs in one node; unchanged if it holds no msgpack array.

    The first byte picks the target and stays. A masked vector's head starts 4 bytes later.
    """
    for start in (1, 5):
        head, tail = data[:start], b""
        body = data[start:]
        if start == 5:
            size = int.from_bytes(data[1:5], "big")
            body, tail = data[5 : 5 + size], data[5 + size :]
        try:
            tree = msgspec.msgpack.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if isinstance(tree, list) and tree:
            encoded = msgspec.msgpack.encode(_changed(tree, rng))
            if start == 5:
                tail = bytes(-(4 + len(encoded)) % 4) + tail[-20:]
                return head[:1] + len(encoded).to_bytes(4, "big") + encoded + tail
            return head + encoded
    return data


def _paths(node: Any, here: Path = ()) -> list[Path]:
    found = [here]
    if isinstance(node, list):
        for i, child in enumerate(node):
            found += _paths(child, (*here, i))
    return found


def _changed(tree: list[Any], rng: random.Random) -> list[Any]:
    paths = _paths(tree)[1:]
    *parents, last = rng.choice(paths)
    parent: Any = tree
    for i in parents:
        parent = parent[i]
    node = parent[last]
    match rng.randrange(5):
        case 0:
            parent.insert(last, node)
        case 1:
            del parent[last]
        case 2:
            other = tree
            for i in rng.choice(paths):
                other = other[i]
            parent[last] = copy.deepcopy(other)
        case 3:
            rng.shuffle(parent)
        case _:
            parent[last] = _leaf(node, rng)
    return tree


def _leaf(node: Any, rng: random.Random) -> Any:
    if isinstance(node, int):
        return rng.choice((0, 1, node // 2, node ^ 1, 9, 255, 2**32 - 1, 2**64 - 1))
    if isinstance(node, bytes) and node:
        at = rng.randrange(len(node))
        flipped = node[:at] + bytes([node[at] ^ 1 << rng.randrange(8)]) + node[at + 1 :]
        return rng.choice((flipped, node[:at], node + b"\0", bytes(len(node)), b"\xff" * len(node)))
    if isinstance(node, str):
        return rng.choice(("", node[::-1], node + "x", "advert"))
    return rng.choice((None, 0, b"", [], True, -1, 0.5))
