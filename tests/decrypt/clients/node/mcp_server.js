// An MCP server with two tools over HTTPS: transport (sse or http), port, certificate, key. Prints what is called.
'use strict';
const fs = require('node:fs');
const https = require('node:https');
const { McpServer } = require('@modelcontextprotocol/sdk/server/mcp.js');
const { SSEServerTransport } = require('@modelcontextprotocol/sdk/server/sse.js');
const { StreamableHTTPServerTransport } = require('@modelcontextprotocol/sdk/server/streamableHttp.js');
const { z } = require('zod');

const [kind, port, cert, key] = process.argv.slice(2);

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

const streams = new Map(); // of the older transport, by session

async function older(req, res) {
  const url = new URL(req.url, 'https://server');
  if (req.method === 'GET' && url.pathname === '/sse') {
    const transport = new SSEServerTransport('/messages', res);
    streams.set(transport.sessionId, transport);
    res.on('close', () => streams.delete(transport.sessionId));
    await tools().connect(transport);
  } else {
    await streams.get(url.searchParams.get('sessionId')).handlePostMessage(req, res);
  }
}

https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, async (req, res) => {
  if (kind === 'sse') return older(req, res);
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  res.on('close', () => transport.close());
  await tools().connect(transport);
  await transport.handleRequest(req, res);
}).listen(Number(port), '0.0.0.0');
