"""Uploads through the real gateway: every format, what is found in them, what is refused, and what a refusal leaves behind."""

import pathlib
import statistics
import threading
import time

import pytest

import wire
from arrays import gz, idx, idx_head, npy
from conftest import wait_until
from data import flowers_csv, line_csv, slow_spec

CSV = {"Content-Type": "text/csv"}
BINARY = {"Content-Type": "application/octet-stream"}


def upload(tenant, data, name="d", query="", headers=BINARY):
    return tenant.post(f"/v1/datasets?name={name}{query}", data=data, headers=headers)


def uploaded(tenant, data, **more):
    reply = upload(tenant, data, **more)
    assert reply.status_code == 201, reply.text
    return reply.json()


def refused(reply, status=400, param="file"):
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param, error
    return error["message"]


def columns_of(dataset):
    return {c["name"]: c for c in dataset["columns"]}


# ---- what is found in a table ----

def test_a_csv_s_columns_and_statistics_are_right(tenant):
    text = 'age,height,city,note\n30,1.5,Rome,a\n,2.5,"Paris, FR",\n50,NA,Rome,c\n40,3.5,"say ""hi""",d\n'
    dataset = uploaded(tenant, text.encode(), headers=CSV)
    assert dataset["format"] == "csv" and dataset["rows"] == 4 and dataset["bytes"] == len(text)
    assert dataset["object"] == "dataset" and dataset["status"] == "ready" and dataset["id"].startswith("ds_")
    assert abs(dataset["created_at"] - time.time()) < 60
    columns = columns_of(dataset)
    assert list(columns) == ["age", "height", "city", "note"]
    for name, values, missing in (("age", [30, 50, 40], 1), ("height", [1.5, 2.5, 3.5], 1)):
        c = columns[name]
        assert c["type"] == "number" and c["missing"] == missing
        assert c["min"] == min(values) and c["max"] == max(values)
        assert c["mean"] == pytest.approx(statistics.fmean(values)) and c["std"] == pytest.approx(statistics.pstdev(values))
    assert columns["city"]["type"] == "category" and columns["city"]["missing"] == 0
    assert columns["city"]["categories"] == sorted(["Paris, FR", "Rome", 'say "hi"'])
    assert columns["note"]["missing"] == 1 and columns["note"]["categories"] == ["a", "c", "d"]


@pytest.mark.parametrize("text", ["a,b\r\n1,2\r\n3,4\r\n", "a,b\n1,2\n3,4", "\ufeffa,b\n1,2\n3,4\n", "a,b\n1,2\n3,4\n\n\n"],
                         ids=["crlf", "no last line end", "byte order mark", "blank lines at the end"])
def test_line_ends_and_byte_order_marks_make_no_difference(tenant, text):
    dataset = uploaded(tenant, text.encode(), headers=CSV)
    assert dataset["rows"] == 2 and list(columns_of(dataset)) == ["a", "b"]


def test_statistics_hold_for_a_long_column_that_comes_in_pieces(tenant):
    rows = 50000
    text = "n\n" + "\n".join(str(i) for i in range(rows)) + "\n"
    dataset = uploaded(tenant, wire.pieces(text.encode(), 1777), headers=CSV)  # a generator: chunked
    column = dataset["columns"][0]
    assert dataset["rows"] == rows and (column["min"], column["max"]) == (0, rows - 1)
    assert column["mean"] == pytest.approx((rows - 1) / 2) and column["std"] == pytest.approx(((rows * rows - 1) / 12) ** 0.5)


# ---- arrays, gzip, forms ----

def test_gzipped_and_plain_csv_are_the_same_data(tenant):
    text = flowers_csv().encode()
    plain, packed = uploaded(tenant, text, headers=CSV), uploaded(tenant, gz(text))
    assert plain["columns"] == packed["columns"] and plain["rows"] == packed["rows"] == 150
    assert packed["format"] == "csv" and packed["bytes"] == len(gz(text))


@pytest.mark.parametrize("make, fmt", [(idx, "idx"), (npy, "npy")], ids=["idx", "npy"])
@pytest.mark.parametrize("kind", ["B", "b", "h", "i", "f", "d"])
def test_an_array_s_shape_and_statistics_are_right(tenant, make, fmt, kind):
    values = [float(v) if kind in "fd" else v for v in range(1, 25)]
    dataset = uploaded(tenant, make(kind, (4, 2, 3), values))
    assert dataset["format"] == fmt and dataset["rows"] == 4
    (column,) = dataset["columns"]
    assert column["name"] == "features" and column["type"] == "tensor" and column["shape"] == [2, 3]
    assert (column["min"], column["max"]) == (1, 24) and column["mean"] == pytest.approx(12.5)
    assert column["std"] == pytest.approx(statistics.pstdev(range(1, 25)))


def test_features_and_labels_go_up_together_as_a_form(tenant):
    features, labels = idx("B", (6, 2, 2), list(range(24))), idx("B", (6,), [0, 1, 2, 0, 1, 2])
    form = {"features": ("x.gz", gz(features)), "labels": ("y.gz", gz(labels))}
    reply = tenant.post("/v1/datasets", data={"name": "pair"}, files=form)
    assert reply.status_code == 201, reply.text
    dataset = reply.json()
    assert dataset["name"] == "pair" and dataset["rows"] == 6 and dataset["bytes"] == len(gz(features)) + len(gz(labels))
    columns = columns_of(dataset)
    assert columns["features"]["shape"] == [2, 2] and columns["labels"]["type"] == "number" and columns["labels"]["max"] == 2


def test_a_csv_goes_up_as_a_form_too(tenant):
    reply = tenant.post("/v1/datasets", data={"name": "form", "format": "csv"}, files={"file": ("t.csv", line_csv(), "text/csv")})
    assert reply.status_code == 201, reply.text
    raw = uploaded(tenant, line_csv().encode(), headers=CSV)
    assert reply.json()["columns"] == raw["columns"] and reply.json()["rows"] == 200


def test_a_file_that_contains_the_form_s_boundary_in_parts_is_kept_whole(tenant):
    boundary, text = "XyZ", "note,n\n" + "".join(f'"\r\n--XyX {i} --Xy",{i}\n' for i in range(500))
    body = (f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\ntricky\r\n--{boundary}\r\n'
            f'Content-Disposition: form-data; name="file"; filename="t.csv"\r\n\r\n{text}\r\n--{boundary}--\r\n').encode()
    reply = tenant.post("/v1/datasets", data=wire.pieces(body, 7), headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert reply.status_code == 201, reply.text
    assert reply.json()["rows"] == 500 and reply.json()["bytes"] == len(text)


# ---- list, get, delete ----

def test_datasets_are_listed_newest_first_and_page_by_page(tenant):
    ids = [uploaded(tenant, line_csv(3).encode(), name=f"d{i}", headers=CSV)["id"] for i in range(5)]
    page = tenant.ok("GET", "/v1/datasets?limit=2")
    assert page["object"] == "list" and [d["id"] for d in page["data"]] == ids[:2:-1]
    assert page["has_more"] is True and page["first_id"] == ids[4] and page["last_id"] == ids[3]
    rest = tenant.ok("GET", f"/v1/datasets?limit=3&after={page['last_id']}")
    assert [d["id"] for d in rest["data"]] == ids[2::-1] and rest["has_more"] is False
    back = tenant.ok("GET", f"/v1/datasets?limit=1&before={ids[2]}")
    assert [d["id"] for d in back["data"]] == [ids[3]]
    assert tenant.ok("GET", f"/v1/datasets/{ids[0]}") == rest["data"][2]


@pytest.mark.parametrize("query, param", [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("after=nonsense", "after"),
                                          ("after=job_01jd8x00000000000000000000", "after"), ("colour=red", "colour")])
def test_a_wrong_list_parameter_is_named(tenant, query, param):
    refused(tenant.get(f"/v1/datasets?{query}"), 400, param)


def test_a_query_parameter_that_is_there_twice_is_refused(tenant):
    assert "more than once" in refused(tenant.get("/v1/datasets?limit=1&limit=2"), 400, "limit")


def test_a_deleted_dataset_is_gone_for_good(tenant):
    dataset = uploaded(tenant, line_csv().encode(), headers=CSV)["id"]
    assert tenant.ok("DELETE", f"/v1/datasets/{dataset}") == {"id": dataset, "object": "dataset", "deleted": True}
    assert tenant.get(f"/v1/datasets/{dataset}").status_code == 404
    assert tenant.call("DELETE", f"/v1/datasets/{dataset}").status_code == 404
    assert tenant.ok("GET", "/v1/datasets")["data"] == []
    job = tenant.post("/v1/jobs", json={"type": "train", "model": "m", "dataset": dataset, "spec": {"family": "linear_regression", "target": "y"}})
    assert job.status_code == 404 and job.json()["error"]["param"] == "dataset"


def test_a_dataset_that_a_job_uses_cannot_be_deleted(tenant):
    dataset = tenant.upload_csv(flowers_csv())["id"]
    job = tenant.submit("m", dataset, slow_spec())["id"]
    reply = tenant.call("DELETE", f"/v1/datasets/{dataset}")
    assert reply.status_code == 409 and reply.json()["error"]["type"] == "conflict_error"
    tenant.ok("POST", f"/v1/jobs/{job}/cancel")
    tenant.wait_job(job)
    assert tenant.call("DELETE", f"/v1/datasets/{dataset}").status_code == 200


# ---- what is refused ----

MALFORMED = {
    "a cell too few": ("a,b,c\n1,2,3\n4,5\n", ["line 3", "column 3", '"c"']),
    "a cell too many": ("a,b\n1,2\n3,4,5\n", ["line 3", "column 3"]),
    "text among numbers": ("a,b\n" + "1.5,2.5\n" * 4 + "1.5,oops\n", ["line 6", "column 2", '"b"', "oops"]),
    "an open quote": ('a,b\n1,2\n"3,4\n', ["line 3", "column 1"]),
    "text behind a quote": ('a,b\n"1"x,2\n', ["line 2", "column 1"]),
    "a name twice": ("a,b,a\n1,2,3\n", ["line 1", "column 3", '"a"']),
    "a column without a name": ("a,,c\n1,2,3\n", ["line 1", "column 2"]),
    "no header": ("1,2\n3,4\n", ["line 1"]),
    "semicolons": ("a;b\n1;2\n", ["line 1", "commas"]),
    "a header alone": ("a,b\n", ["no row"]),
    "a blank line inside": ("a,b\n1,2\n\n3,4\n", ["line 3"]),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_csv_is_refused_with_line_and_column(platform, tenant, case):
    text, expected = MALFORMED[case]
    message = refused(upload(tenant, text.encode(), query="&format=csv", headers=CSV))
    for part in expected:
        assert part in message, message
    wire.nothing_kept(platform, tenant)


def test_bytes_that_are_no_utf8_are_refused_with_line_and_column(tenant):
    message = refused(upload(tenant, b"a,b\nx,y\nz,\xff\xfe\n", query="&format=csv", headers=CSV))
    assert "line 3" in message and "column 2" in message and "UTF-8" in message


BROKEN = {
    "truncated gzip": (gz(line_csv().encode())[:-20], "cut short"),
    "gzip with a flipped bit": (bytes(b ^ (0x10 if i == 600 else 0) for i, b in enumerate(gz(line_csv().encode()))), "damaged"),
    "idx with too few bytes": (idx("f", (4, 3), [1.0] * 12)[:-5], "4"),
    "idx with too many bytes": (idx("f", (4, 3), [1.0] * 12) + b"\0", "more"),
    "npy with too few bytes": (npy("f", (4, 3), [1.0] * 12)[:-1], "4"),
    "npy of objects": (npy("f", (4, 3), [1.0] * 12).replace(b"'<f4'", b"'|O' "), ""),
    "npy with an infinite value": (npy("f", (2, 2), [1.0, 2.0, float("inf"), 4.0]), "row 1, element 0"),
    "an empty file": (b"", "empty"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_and_not_kept(platform, tenant, case):
    data, part = BROKEN[case]
    assert part in refused(upload(tenant, data))
    wire.nothing_kept(platform, tenant)


@pytest.mark.parametrize("head", [idx_head("d", 2**31, 2**31, 2**31), idx_head("B", 2**32 - 1, 2), npy("f", (2**40, 2), [])], ids=["width", "rows", "npy"])
def test_a_claim_of_more_than_fits_is_refused_without_waiting_for_it(platform, tenant, head):
    message = refused(upload(tenant, head), 413)
    assert "more than" in message or "at most" in message
    wire.nothing_kept(platform, tenant)


def test_labels_that_do_not_fit_the_features_are_refused_with_both_counts(platform, tenant):
    form = {"features": ("x", idx("B", (5, 2), list(range(10)))), "labels": ("y", idx("B", (4,), [0, 1, 0, 1]))}
    message = refused(tenant.post("/v1/datasets", data={"name": "pair"}, files=form), param="labels")
    assert "5" in message and "4" in message
    wire.nothing_kept(platform, tenant)


FORMS = {
    "no file": ({"name": "x"}, {}, "file"),
    "no name": ({}, {"file": ("t.csv", "a,b\n1,2\n")}, "name"),
    "an unknown field": ({"name": "x", "colour": "red"}, {"file": ("t.csv", "a,b\n1,2\n")}, "colour"),
    "an unknown format": ({"name": "x", "format": "xls"}, {"file": ("t.csv", "a,b\n1,2\n")}, "format"),
    "labels alone": ({"name": "x"}, {"labels": ("y", idx("B", (4,), [0, 1, 0, 1]))}, "features"),
    "file and features": ({"name": "x"}, {"file": ("t.csv", "a,b\n1,2\n"), "features": ("x", idx("B", (2, 1), [0, 1]))}, "features"),
}


@pytest.mark.parametrize("case", FORMS)
def test_a_wrong_form_is_refused_by_field(platform, tenant, case):
    data, files, param = FORMS[case]
    files = files or {"note": (None, "")}  # requests makes a form of it only with a part of this kind
    refused(tenant.post("/v1/datasets", data=data, files=files), param=param if case != "no file" else "note")
    wire.nothing_kept(platform, tenant)


@pytest.mark.parametrize("name", ["", "Upper", "a b", "..%2Fx", "%2e%2e", "x" * 65, "-a", "a%00b"])
def test_a_bad_name_is_refused(tenant, name):
    reply = upload(tenant, line_csv().encode(), name=name, headers=CSV)
    assert reply.status_code == 400, reply.text
    if "%00" not in name and "%2e" not in name:  # those never get past the codec's own check of the target
        refused(reply, param="name")
    assert tenant.ok("GET", "/v1/datasets")["data"] == []


def test_a_missing_name_and_an_unknown_query_parameter_are_refused(tenant):
    refused(tenant.post("/v1/datasets", data=line_csv(), headers=CSV), param="name")
    message = refused(upload(tenant, line_csv(), query="&colour=red", headers=CSV), param="colour")
    assert "name,format" in message


# ---- uploads that end early, or are too large ----

@pytest.mark.parametrize("framing", ["length", "chunked", "form"])
def test_an_upload_that_breaks_off_leaves_nothing_behind(platform, tenant, framing):
    text = line_csv(5000).encode()
    if framing == "length":
        sent = wire.head("POST", "/v1/datasets?name=cut", tenant.key, Content_Type="text/csv", Content_Length=len(text) * 2) + text
    elif framing == "chunked":
        sent = wire.head("POST", "/v1/datasets?name=cut", tenant.key, Content_Type="text/csv", Transfer_Encoding="chunked")
        sent += b"%x\r\n%s\r\n" % (len(text), text)
    else:
        body = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\ncut\r\n--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + text
        sent = wire.head("POST", "/v1/datasets", tenant.key, Content_Type="multipart/form-data; boundary=b", Content_Length=len(body) + 5) + body
    with wire.connect(platform.url) as sock:
        sock.sendall(sent)
        wait_until(lambda: wire.files_of(platform, tenant), "the upload to reach the disk")
    wire.nothing_kept(platform, tenant)


def test_a_form_without_its_end_is_refused(platform, tenant):
    body = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name="file"\r\n\r\na,b\n1,2\n'
    reply = tenant.post("/v1/datasets", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert reply.status_code == 400 and reply.json()["error"]["type"] == "invalid_request_error"
    wire.nothing_kept(platform, tenant)


def test_an_upload_over_the_plan_s_limit_is_refused_whether_announced_or_not(platform):
    tenant = platform.tenant(plan=platform.plan(max_dataset_bytes=4096))
    assert upload(tenant, line_csv(50).encode(), headers=CSV).status_code == 201
    large = line_csv(5000).encode()
    for data in (large, wire.pieces(large, 1000)):
        reply = upload(tenant, data, headers=CSV)
        assert reply.status_code == 413, reply.text
        assert reply.json()["error"]["code"] == "too_large"
    reply = tenant.post("/v1/datasets", data={"name": "x"}, files={"file": ("t.csv", large)})
    assert reply.status_code == 413 and reply.json()["error"]["code"] == "too_large"
    assert len(tenant.ok("GET", "/v1/datasets")["data"]) == 1
    wait_until(lambda: len(wire.files_of(platform, tenant)) == 1, "the refused uploads' files to be gone")


def test_an_announced_body_over_the_limit_is_refused_before_it_is_sent(platform):
    tenant = platform.tenant(plan=platform.plan(max_dataset_bytes=4096))
    reply = wire.ask(platform.url, wire.head("POST", "/v1/datasets?name=x", tenant.key, Content_Type="text/csv", Content_Length=2**40))
    assert reply.status == 413 and reply.json()["error"]["code"] == "too_large"


def test_quotas_of_datasets_and_of_storage_are_kept(platform):
    few = platform.tenant(plan=platform.plan(max_datasets=2))
    for _ in range(2):
        few.upload_csv(line_csv(5))
    message = refused(upload(few, line_csv(5).encode(), headers=CSV), 429, "datasets")
    assert "2" in message
    few.ok("DELETE", "/v1/datasets/" + few.ok("GET", "/v1/datasets")["data"][0]["id"])
    few.upload_csv(line_csv(5))
    small = platform.tenant(plan=platform.plan(max_storage_bytes=6000))
    small.upload_csv(line_csv(250))
    reply = upload(small, line_csv(250).encode(), headers=CSV)
    assert reply.status_code in (413, 429), reply.text
    assert len(small.ok("GET", "/v1/datasets")["data"]) == 1


def test_a_repeated_upload_with_the_same_idempotency_key_makes_one_dataset(platform, tenant):
    headers = {**CSV, "Idempotency-Key": "once"}
    first, again = (upload(tenant, line_csv().encode(), headers=headers) for _ in range(2))
    assert first.status_code == again.status_code == 201 and first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert upload(tenant, line_csv(seed=9).encode(), headers=headers).status_code == 422
    assert len(tenant.ok("GET", "/v1/datasets")["data"]) == 1


def test_the_data_on_disk_is_encrypted(platform, tenant):
    marker = "Xylophonist"
    tenant.upload_csv("name,n\n" + f"{marker},1\n" * 300 + "other,2\n")
    kept = [p for p in (platform.home / "blobs").rglob("*") if p.is_file()]
    assert kept and not any(marker.encode() in p.read_bytes() for p in kept)


# ---- a gibibyte ----

def memory_kib(pid, field):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise AssertionError(field)


def test_a_gibibyte_upload_holds_less_than_32_mib_of_gateway_memory(platform, tenant):
    rows, width = 2**20, 2**10
    piece = bytes(range(256)) * 4096  # 1 MiB
    gateway = platform.pid("gateway")
    before, peak, stop = memory_kib(gateway, "VmRSS"), [0], threading.Event()
    pathlib.Path(f"/proc/{gateway}/clear_refs").write_text("5")  # VmHWM starts again at what is resident now

    def watch():
        while not stop.wait(0.02):
            peak[0] = max(peak[0], memory_kib(gateway, "VmRSS"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with wire.connect(platform.url, timeout=60) as sock:
            sock.sendall(wire.head("POST", "/v1/datasets?name=large&format=idx", tenant.key, Content_Type="application/octet-stream",
                                   Content_Length=rows * width + 12) + idx_head("B", rows, width))
            for _ in range(rows * width // len(piece)):
                sock.sendall(piece)
            reply = wire.Reply(sock)
    finally:
        stop.set()
        watcher.join()
    assert reply.status == 201, reply.body
    dataset = reply.json()
    assert dataset["rows"] == rows and dataset["bytes"] == rows * width + 12
    assert dataset["columns"][0]["mean"] == pytest.approx(127.5) and dataset["columns"][0]["max"] == 255
    grown = max(peak[0], memory_kib(gateway, "VmHWM")) - before
    assert grown < 32 * 1024, f"the gateway grew by {grown / 1024:.1f} MiB"
    tenant.ok("DELETE", f"/v1/datasets/{dataset['id']}")
