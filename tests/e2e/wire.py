"""HTTP below the level of a library: raw sockets, the operator's unix socket, and bodies that are sent piece by piece."""

import http.client
import json
import socket
import ssl
import urllib.parse

from conftest import wait_until


def connect(url, context=None, timeout=20):
    """A socket to the host of an http:// or https:// address."""
    at = urllib.parse.urlsplit(url)
    sock = socket.create_connection((at.hostname, at.port), timeout=timeout)
    return context.wrap_socket(sock, server_hostname=at.hostname) if context else sock


def read_to_end(sock):
    """Everything until the other side closes; a reset counts as the end."""
    parts = []
    try:
        while piece := sock.recv(65536):
            parts.append(piece)
    except (ConnectionResetError, ssl.SSLError):
        pass
    return b"".join(parts)


class Reply:
    """One response as read from a socket."""

    def __init__(self, sock):
        raw = http.client.HTTPResponse(sock)
        raw.begin()
        self.status, self.headers = raw.status, raw.headers
        self.body = raw.read()

    def json(self):
        return json.loads(self.body)


def head(method, path, key=None, **headers):
    """A request's head as bytes. Underscores in header names stand for hyphens."""
    lines = [f"{method} {path} HTTP/1.1", "Host: tenor"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def ask(url, head_bytes, body=b""):
    """Sends on a connection of its own; the reply. The server may answer and close before it has read everything."""
    with connect(url) as sock:
        try:
            sock.sendall(head_bytes + body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return Reply(sock)


def ops(platform, path, method="GET"):
    """A request to the operator's listener."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(platform.home / "run/ops.sock"))
    with sock:
        sock.sendall(head(method, path, Connection="close"))
        return Reply(sock)


def pieces(data, size):
    for i in range(0, len(data), size):
        yield data[i:i + size]


def files_of(platform, tenant):
    """What the blob folder keeps for a tenant, temporary files included."""
    folder = platform.home / "blobs" / tenant.ok("GET", "/v1/tenant")["id"]
    return sorted(p.name for p in folder.rglob("*") if p.is_file()) if folder.exists() else []


def nothing_kept(platform, tenant):
    """An upload that failed leaves no row and, once the gateway has noticed, no file."""
    assert tenant.ok("GET", "/v1/datasets")["data"] == []
    wait_until(lambda: files_of(platform, tenant) == [], "the refused upload's file to be gone")
