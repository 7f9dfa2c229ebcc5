// An MCP server with two tools over HTTPS: port, certificate, key. Prints what is called.
'use strict';
const fs = require('node:fs');
const https = require('node:https');
const { McpServer } = require('@modelcontextprotocol/sdk/server/mcp.js');
const { StreamableHTTPServerTransport } = require('@modelcontextprotocol/sdk/server/streamableHttp.js');
const { z } = require('zod');

const [port, cert, key] = process.argv.slice(2);

function tools() {
  const server = new McpServer({ name: 'node', version: '1' });
  server.registerTool('echo', { inputSchema: { text: z.string() } }, async ({ text }) => {
    console.log('called echo');
    return { content: [{ type: 'text', text }] };
  });
  server.registerTool('delete_all', {}, async () => {
    console.log('called delete_all');
    return { content: [{ type: 'text', text: 'gone' }] };
  });
  return server;
}

https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, async (req, res) => {
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  res.on('close', () => transport.close());
  await tools().connect(transport);
  await transport.handleRequest(req, res);
}).listen(Number(port), '0.0.0.0');
