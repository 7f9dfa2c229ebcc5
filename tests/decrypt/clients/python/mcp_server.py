"""An MCP server with two tools over HTTPS: transport (sse or http), port, certificate, key. Prints what is called."""

import sys

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

server = MCPServer("python")


@server.tool()
def echo(text: str) -> str:
    print("called echo", flush=True)
    return text


@server.tool()
def delete_all() -> str:
    print("called delete_all", flush=True)
    return "gone"


transport, port, cert, key = sys.argv[1:]
make = server.sse_app if transport == "sse" else server.streamable_http_app
app = make(transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False))
config = uvicorn.Config(app, host="0.0.0.0", port=int(port), ssl_certfile=cert, ssl_keyfile=key, log_level="warning")
uvicorn.Server(config).run()
