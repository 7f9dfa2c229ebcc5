"""Asks for a permitted and a refused path with each HTTP library: name, version, statuses."""

import sys

import httpx
import requests

base = sys.argv[1]


def show(name, version, statuses):
    print(name, version, *statuses, flush=True)


with requests.Session() as s:
    good, bad = s.post(base + "/ok/requests", data=b"x" * 100_000), s.get(base + "/no/requests")
    show("requests", good.raw.version / 10, [good.status_code, bad.status_code])

for http2 in False, True:
    with httpx.Client(http2=http2) as c:
        good, bad = c.post(base + "/ok/httpx", content=b"x" * 100_000), c.get(base + "/no/httpx")
        show("httpx", good.http_version, [good.status_code, bad.status_code])
