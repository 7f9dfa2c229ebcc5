"""Holds a WebSocket server behind TLS to the Autobahn cases: address, name, port, path, and the cases, as kosoku takes
them. Prints how many there are, and those that fail.

The suite's own client speaks no TLS. A relay in front of it adds that, and puts the server's name into the requests.
"""

import asyncio
import re
import ssl
import sys

from kosoku import FailureError, _caseindex, run_fuzzingclient

address, name, port, path, *cases = sys.argv[1:]
relays = set()

# In the groups whose offers ask the server for no context takeover, kosoku 0.1.0 hands text messages to the cases
# as str, and as bytes in all others. The cases hash bytes.
_caseindex.initialize_shims()
import case12_x_x  # noqa: E402, which the line above makes importable


def as_bytes(judge):
    return lambda case, message, binary: judge(case, message.encode() if isinstance(message, str) else message, binary)


for case in case12_x_x.Case13_X_X:
    case.onMessage = as_bytes(case.onMessage)


async def copy(source, to):
    try:
        while data := await source.read(1 << 16):
            to.write(data)
            await to.drain()
    except OSError:
        pass
    finally:
        to.close()


async def relay(source, to):
    relays.add(asyncio.current_task())
    tls = ssl.create_default_context()
    server_source, server_to = await asyncio.open_connection(address, int(port), ssl=tls, server_hostname=name)
    head = await source.readuntil(b"\r\n\r\n")
    server_to.write(re.sub(rb"(?im)^Host: [^\r]*", f"Host: {name}:{port}".encode(), head, count=1))
    try:
        await asyncio.gather(copy(source, server_to), copy(server_source, to))
    except asyncio.CancelledError:
        pass  # the suite is done


async def main():
    front = await asyncio.start_server(relay, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{front.sockets[0].getsockname()[1]}{path}"
    try:
        results = await run_fuzzingclient(url, cases, concurrency=4)
    except FailureError as failure:
        results = failure.results
    for task in relays:
        task.cancel()
    await asyncio.gather(*relays)
    print(len(results))
    for r in results:
        if not r.passed:
            print(r.case_id, r.behavior.value, r.behavior_close.value, r.result, r.result_close)


asyncio.run(main())
