"""Lists a server's tools, calls one that is allowed and one that is not; by the handshake and without."""

import sys

import anyio
from mcp.client import Client
from mcp.client.sse import sse_client
from mcp.shared.exceptions import MCPError


async def main():
    url = sys.argv[1]
    older = url.endswith("/sse")
    for mode in ["legacy"] if older else ["legacy", "auto"]:
        async with Client(sse_client(url) if older else url, mode=mode) as client:
            tools = sorted(t.name for t in (await client.list_tools()).tools)
            answer = await client.call_tool("echo", {"text": "hello"})
            try:
                await client.call_tool("delete_all", {})
                denied = "called"
            except MCPError as e:
                denied = e.error.code
            print(mode, tools, answer.content[0].text, denied, flush=True)


anyio.run(main)
