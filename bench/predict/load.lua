-- What wrk sends: the requests of a folder in turn, each made once. BENCH_BODIES names the folder (body.0, body.1, …),
-- BENCH_TYPE the content type, BENCH_JSON_LEN the length of the JSON part of a binary body, BENCH_KEY the API key.
local requests, turn = {}, 0

function init(args)
    local headers = { ["Content-Type"] = os.getenv("BENCH_TYPE") }
    local key, json_len = os.getenv("BENCH_KEY"), os.getenv("BENCH_JSON_LEN")
    if key ~= "" then headers["Authorization"] = "Bearer " .. key end
    if json_len ~= "" then headers["Inference-Header-Content-Length"] = json_len end
    for i = 0, 63 do
        local file = io.open(os.getenv("BENCH_BODIES") .. "/body." .. i, "rb")
        if not file then break end
        requests[#requests + 1] = wrk.format("POST", nil, headers, file:read("*a"))
        file:close()
    end
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end

function done(summary, latency, bad)
    local e = summary.errors
    io.write(string.format('\nRESULT {"seconds":%.6f,"requests":%d,"refused":%d,"broken":%d,"p50_us":%.1f,"p99_us":%.1f,"p999_us":%.1f}\n',
        summary.duration / 1e6, summary.requests, e.status, e.connect + e.read + e.write + e.timeout,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
