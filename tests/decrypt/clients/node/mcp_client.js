// Lists a server's tools, calls one that is allowed and one that is not.
'use strict';
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { SSEClientTransport } = require('@modelcontextprotocol/sdk/client/sse.js');
const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');

(async () => {
  const client = new Client({ name: 'test', version: '1' });
  const url = new URL(process.argv[2]);
  await client.connect(url.pathname === '/sse' ? new SSEClientTransport(url) : new StreamableHTTPClientTransport(url));
  const tools = (await client.listTools()).tools.map((t) => t.name).sort();
  const answer = await client.callTool({ name: 'echo', arguments: { text: 'hello' } });
  let denied = 'called';
  try {
    await client.callTool({ name: 'delete_all', arguments: {} });
  } catch (err) {
    denied = err.code;
  }
  console.log(tools.join(), answer.content[0].text, denied);
  await client.close();
})().catch((err) => { console.error(err); process.exit(1); });
