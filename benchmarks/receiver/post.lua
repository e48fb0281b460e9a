-- Posts one body to every connection; prints what wrk knows as one JSON line.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json;charset=utf-8"
wrk.body = io.open(os.getenv("BODY_FILE"), "rb"):read("*a")

function done(summary, latency, _)
  io.write(string.format(
    '{"requests":%d,"seconds":%.4f,"p50_ms":%.3f,"p99_ms":%.3f,"p999_ms":%.3f,"max_ms":%.3f,"not_200":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3, latency.max / 1e3, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
