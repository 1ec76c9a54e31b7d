"""The framing corpus against a running server: each doubtful request gets one refusal, and then the connection is closed.

The cases are those of tests/unit/gateway/http_corpus.txt, which the unit tests of the codec read too. From pytest:

    import corpus_http
    @pytest.mark.parametrize("case", corpus_http.REFUSED, ids=lambda case: case.name)
    def test_doubtful_framing_is_refused_once(case, gateway):
        corpus_http.check(case, gateway.host, gateway.port)

or all at once: corpus_http.run(host, port) returns the list of complaints, which must be empty.
"""
import json
import pathlib
import re
import socket
import sys
import typing

PATH = pathlib.Path(__file__).resolve().parents[1] / "unit" / "gateway" / "http_corpus.txt"
TIMEOUT_S = 20


class Case(typing.NamedTuple):
    name: str
    status: int  # of the one response; 0: the request is sound
    in_body: bool  # the fault is in the body, so a route that reads the body must be asked
    bytes: bytes


def _unescape(text: str) -> bytes:
    out, at = bytearray(), 0
    plain = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}
    while at < len(text):
        if text[at] != "\\":
            out += text[at].encode("latin-1")
            at += 1
        elif text[at + 1] == "x":
            out.append(int(text[at + 2 : at + 4], 16))
            at += 4
        elif text[at + 1] == "R":
            count, body = re.match(r"\((\d+),", text[at + 2 :]).group(1), at + 2
            body = text.index(",", body) + 1
            depth, end = 1, body
            while True:
                depth += {"(": 1, ")": -1}.get(text[end], 0)
                if depth == 0:
                    break
                end += 1
            out += _unescape(text[body:end]) * int(count)
            at = end + 1
        else:
            out += plain[text[at + 1]]
            at += 2
    return bytes(out)


def _load() -> list[Case]:
    cases = []
    for line in PATH.read_text(encoding="latin-1").split("\n"):
        if line and not line.startswith("#"):
            name, status, text = line.split("\t")
            in_body = status.startswith("body-")
            cases.append(Case(name, 0 if status == "ok" else int(status.removeprefix("body-")), in_body, _unescape(text)))
    return cases


CASES = _load()
# Faults of the head are refused by the codec whatever the route; those of a body only where a route reads it.
REFUSED = [case for case in CASES if case.status and not case.in_body]
REFUSED_IN_BODY = [case for case in CASES if case.status and case.in_body]


def exchange(host: str, port: int, request: bytes) -> bytes:
    """Sends the bytes and returns all that comes back until the server closes; fails when it does not."""
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as s:
        try:
            s.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was sent: the answer is still there to be read
        answer = bytearray()
        while True:
            try:
                piece = s.recv(65536)
            except ConnectionResetError:
                break
            if not piece:
                break
            answer += piece
        return bytes(answer)


def complaint(case: Case, host: str, port: int, path: typing.Optional[str] = None) -> typing.Optional[str]:
    """What is wrong with the server's answer, or None. path replaces /echo in cases whose fault is in the body."""
    request = case.bytes.replace(b"POST /echo ", f"POST {path} ".encode(), 1) if path else case.bytes
    answer = exchange(host, port, request)
    responses = len(re.findall(rb"(?m)^HTTP/1\.1 \d\d\d ", answer))
    if responses != 1:
        return f"{case.name}: {responses} responses: {answer[:400]!r}"
    head, _, body = answer.partition(b"\r\n\r\n")
    if int(head.split()[1]) != case.status:
        return f"{case.name}: expected {case.status}: {answer[:400]!r}"
    if b"\r\nconnection: close" not in head.lower() or b"\r\nx-request-id: req_" not in head.lower():
        return f"{case.name}: headers missing: {head!r}"
    if case.bytes.startswith(b"HEAD "):
        return None if not body else f"{case.name}: a body for HEAD: {body!r}"
    error = json.loads(body)["error"]
    if sorted(error) != ["code", "message", "param", "type"] or not error["message"]:
        return f"{case.name}: not the error envelope: {body!r}"
    return None


def check(case: Case, host: str, port: int, path: typing.Optional[str] = None) -> None:
    problem = complaint(case, host, port, path)
    assert problem is None, problem


def run(host: str, port: int) -> list[str]:
    """Every case whose fault is in the head. Returns the complaints."""
    return [problem for case in REFUSED if (problem := complaint(case, host, port))]


if __name__ == "__main__":
    problems = run(sys.argv[1], int(sys.argv[2]))
    print(*problems, f"{len(REFUSED)} cases, {len(problems)} complaints", sep="\n")
    sys.exit(bool(problems))
