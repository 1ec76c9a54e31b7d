#!/usr/bin/python3
"""Checks that every #include follows design.md's table of arrows, and that every header compiles alone.

    /usr/bin/python3 tests/include_arrows.py [--root DIR]

Each violation is one line, file:line: why. The last line counts the files and headers that passed and failed.
"""

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys

# What each folder may include besides itself. A rule ending in "/" allows that part of a folder only.
MAY_INCLUDE = {
    "base": [],
    "tensor": ["base"],
    "learn": ["base", "tensor"],
    "store": ["base"],
    "queue": ["base"],
    "gateway": ["base", "store", "queue", "learn/spec/", "learn/data/"],
    "scheduler": ["base", "store", "queue"],
    "worker": ["base", "tensor", "learn", "store", "queue"],
    "admin": ["base", "store", "queue"],  # docs/decisions/0003
}

# Narrower rules for parts of a folder: path prefix, forbidden target prefixes, why.
NARROWER = [
    ("learn/spec/", ["tensor/", "learn/"], "is linked by the gateway, which loads no tensor core",
     ["learn/spec/", "learn/data/"]),
    ("learn/data/", ["tensor/", "learn/"], "is linked by the gateway, which loads no tensor core",
     ["learn/spec/", "learn/data/"]),
    ("worker/runner", ["store/", "queue/"], "runs tenants' training and holds no credentials", []),
]

# System headers that are one folder's business: header prefix, where it may be included, why.
SYSTEM = [
    ("event2/", ["gateway/", "base/loop.", "queue/redis_async.", "queue/link", "worker/serve."],
     "libevent belongs to event loops: the gateway, the worker's serving threads, base/loop and queue/'s connections"),
    ("event.h", [], "libevent 2's headers are under event2/"),
    ("libpq-fe.h", ["store/", "admin/launch/"], "SQL belongs to store/, and the launcher's probe"),
    ("hiredis/", ["queue/", "admin/launch/"], "Redis belongs to queue/, and the launcher's probe"),
    ("cblas.h", ["tensor/"], "BLAS belongs to the tensor core"),
]

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]')
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)


def sources(root):
    for folder in MAY_INCLUDE:
        for path, dirs, names in os.walk(os.path.join(root, folder)):
            dirs.sort()
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(path, name), root)


def includes(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        text = f.read()
    text = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    for number, line in enumerate(text.split("\n"), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


def why_ours_is_wrong(root, path, target):
    """Why this file must not include "target", a path from the root; None when it may."""
    mine, _, rest = target.partition("/")
    if not rest or mine not in MAY_INCLUDE:
        return f'"{target}" is not a path from the root (a folder of the design, then the file)'
    if os.path.normpath(target) != target:
        return f'"{target}" takes a detour'
    if not os.path.isfile(os.path.join(root, target)):
        return f'"{target}" does not exist'
    folder = path.split("/")[0]
    if mine != folder and not any(mine == rule or (rule.endswith("/") and target.startswith(rule))
                                  for rule in MAY_INCLUDE[folder]):
        allowed = ", ".join(MAY_INCLUDE[folder]) or "nothing above it"
        return f'{folder}/ may not include "{target}" (it may include {allowed})'
    for prefix, forbidden, reason, but in NARROWER:
        if path.startswith(prefix) and target.startswith(tuple(forbidden)) and not target.startswith(tuple(but)):
            return f'{prefix}* {reason}: it may not include "{target}"'
    return None


def why_system_is_wrong(path, target):
    for prefix, places, reason in SYSTEM:
        if target.startswith(prefix) and not path.startswith(tuple(places)):
            return f"<{target}>: {reason}"
    if target.split("/")[0] in MAY_INCLUDE:
        return f'<{target}> is ours: include it as "{target}"'
    return None


def reached_violations(root, path):
    """Narrower rules hold for what a file reaches through our headers, too."""
    found = []
    for prefix, forbidden, reason, but in NARROWER:
        if not path.startswith(prefix):
            continue
        waiting = [(target, number, [target]) for number, quoted, target in includes(root, path) if quoted]
        seen = set()
        while waiting:
            target, number, way = waiting.pop(0)
            if target in seen or not os.path.isfile(os.path.join(root, target)):
                continue
            seen.add(target)
            if len(way) > 1 and target.startswith(tuple(forbidden)) and not target.startswith(tuple(but)):
                found.append(f"{path}:{number}: {prefix}* {reason}: it reaches {' -> '.join(way)}")
                continue
            waiting += [(t, number, way + [t]) for _, quoted, t in includes(root, target) if quoted]
    return found


def arrow_violations(root, path):
    found = reached_violations(root, path)
    for number, quoted, target in includes(root, path):
        why = why_ours_is_wrong(root, path, target) if quoted else why_system_is_wrong(path, target)
        if why:
            found.append(f"{path}:{number}: {why}")
    return found


def header_violations(root, path):
    command = ["gcc", "-std=c17", "-D_GNU_SOURCE", "-I.", "-I/usr/include/postgresql", "-Wall", "-Wextra", "-Werror",
               "-fsyntax-only", "-x", "c", "-"]
    # Included twice by a file of its own: this also sees a missing guard, and "#pragma once in main file" is no issue.
    text = f'#include "{path}"\n#include "{path}"\n'
    done = subprocess.run(command, input=text, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return []
    line = next((l for l in done.stderr.splitlines() if "error:" in l), done.stderr.strip() or "gcc failed")
    place = re.match(re.escape(path) + r":(\d+)", line)
    return [f"{path}:{place.group(1) if place else 1}: does not compile alone: {line}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    root = parser.parse_args().root
    files = list(sources(root))
    results = [arrow_violations(root, path) for path in files]
    headers = [path for path in files if path.endswith(".h")]
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        results += pool.map(lambda path: header_violations(root, path), headers)
    for violations in results:
        for line in violations:
            print(line)
    failed = sum(1 for violations in results if violations)
    if not files:
        print(f"{root}: no source file was found: nothing was checked")
        failed = 1
    print(f"{len(results) - (failed if files else 0)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
