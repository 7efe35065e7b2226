"""What requests are spoilt with: see `mangling.py`. Nothing here names a host that exists."""

# fmt: off
PROVIDERS = ("openai", "anthropic", "geminiv1beta", "openrouter", "nobody")
PARAMETERS = {
    "path": ("v1/chat/completions", "v1/embeddings", "v1/responses", "v1/messages", "v1/audio/transcriptions",
             "v1/images/edits", "v1/models", "v1/files", "models/small:streamGenerateContent", "..%2f..", ""),
    "url": ("http://host.invalid/", "https://host.invalid:8443/a?b=c", "http:/host.invalid", "ftp://host.invalid",
            "//", "http://[::1]/", "http://host.invalid\\@x"),
    "email": ("alice@example.com", "alice%40example.com", "nobody", "..", "%00"),
    "name": ("api", "decisions/001-holds", "..", "x"),
    "filename": ("app.css", "../config.py", "x"),
}
QUERIES = (
    b"", b"?days=7", b"?from=2026-01-01&to=x", b"?redirect=https://a.example/?x=1#y", b"?email=%00", b"?page=-1",
    b"?credential=a.b.c", b"?next=//x", b"?format=csv", b"?%", b"?&&==&", b"?q=%F0%9F%98%80%FF", b"?sort=cost",
    b"?days=99999999999999999999", b"?from=0000-00-00", b"?redirect=%00", b"?code=x&state=", b"?page=1e9",
)
TEXTS = ("", "small", "\0", "\ud800", "x" * 5_000, "alice@example.com", "2026-13-45", "{}", "=1+1", "<script>", "😀")
VALUES = (None, True, -1, 0, 1e308, 10**30, 0.1, [], {}, [[]], {"a": None}, [{"type": "text"}], [1], *TEXTS)
FIELDS = (
    "model", "messages", "stream", "max_tokens", "n", "input", "docs", "topics", "precision", "email", "date", "cost",
    "contents", "tools", "stream_options", "response_format", "system", "thinking", "usage", "file", "code",
    "code_verifier", "credential", "modalities", "audio", "prompt", "max_completion_tokens", "generationConfig",
)
LINES = (
    b"Host: two", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999", b"Content-Length: 1e3",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: \x0bchunked",
    b"Connection: close, Host", b"Connection: upgrade", b"Upgrade: websocket", b"Expect: 100-continue", b"Expect: x",
    b"Authorization: Bearer", b"Authorization: Basic \xff", b"Authorization: Bearer " + b"a" * 4_097,
    b"Authorization: Bearer eyJhbGciOiJub25lIn0.eyJlbWFpbCI6ImFAYi5jIn0.", b"x-api-key: sk-x", b"x-goog-api-key: AIza",
    b"Cookie: aipipe=x.y.z; aipipe", b"Cookie: \xff=\xfe;;;=", b'Cookie: g_csrf_token="', b"Accept: text/html",
    b"Accept: */*;q=nan, text/html;q=", b"Accept-Language: " + b"x," * 500, b"Content-Encoding: gzip",
    b"Content-Type: multipart/form-data", b"Content-Type: multipart/form-data; boundary=" + b"-" * 300,
    b"Content-Type: multipart/form-data; boundary=x", b"Content-Type: \xff/;;=",
    b"Content-Type: application/x-www-form-urlencoded", b"Content-Type: application/json; charset=utf-7",
    b"Origin: null", b"Origin: https://x.example", b"Sec-Fetch-Site: same-origin", b"Sec-Fetch-Dest: script",
    b"Access-Control-Request-Headers: \xe9\x00", b"Range: bytes=9-1,-", b'If-None-Match: "', b"If-Modified-Since: 0",
    b"X-Forwarded-For: ::1%x, 1", b'X-Forwarded-Host: "', b"Forwarded: for=", b"Via: aipipe", b"HX-Request: true",
    b"anthropic-beta: \x7f", b"No colon", b": no name", b"X-Space : x", b"X-Folded: a\r\n b", b"X-Null: \0",
    b"X-Feed: a\nb", b"X-Return: a\rb", b"X-Bytes: \xff\xfe", b"X-Long: " + b"a" * 9_000,
    b"X-Request-Id: \xff", b"X-Request-Id: " + b"a" * 5_000, b"traceparent: 00-zz", b"Host: \xff:[x]/@",
)
TARGETS = (
    b"", b"*", b"/", b"//", b"/..", b"/%", b"/%00", b"/%0d%0a", b"http://", b"http://[", b"http://x/usage", b"\\",
    b"/\xff\xfe", b"/a b", b"/" + b"a" * 9_000, b"/proxy/" + b"/proxy/" * 50, b"/openai", b"?", b"#", b"/%F0%9F%98%80",
)
METHODS = (
    b"BREW", b"get", b"", b"G" * 300, b"CONNECT", b"TRACE", b"OPTIONS", b"HEAD", b"PUT", b"DELETE", b"\x00", b"PRI",
)
VERSIONS = (b"", b"HTTP/0.9", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1.1.1", b"HTTP", b"HTCPCP/1.0", b"\xff")
PART = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nsmall\r\n'
BODIES = (
    b"", b"{", b"[" * 20_000, b"\xff" * 50, b"null", b'"x"', b"NaN", b"{}" * 9, b"0\r\n\r\n", b"--x\r\n", b"a=b&a=c",
    b'{"model": "small", "model": 1}', b"zz\r\nbody\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"4;x=" + b"y" * 9_000,
    PART, PART + b"--x--", PART.replace(b"model", b"file") + b"--x--\r\n", b"--x\r\n\r\n\r\n--x--", b'{"a":' * 2_000,
    b"4\r\n{\"a\"\r\n0\r\nX: y\r\n\r\n", b"g_csrf_token=x&credential=a.b.c", b"1" * 6_000,
)
