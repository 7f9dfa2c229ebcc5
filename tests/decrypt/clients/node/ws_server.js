// A WebSocket server over HTTPS that sends each message back, compressed if the client offers that: port,
// certificate, key.
'use strict';
const fs = require('node:fs');
const https = require('node:https');
const { WebSocketServer } = require('ws');

const [port, cert, key] = process.argv.slice(2);
const server = https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) });
new WebSocketServer({ server, perMessageDeflate: true, maxPayload: 64 << 20, maxFragments: 1 << 20 }).on('connection', (ws) => {
  ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
  ws.on('error', () => {}); // the library has closed the connection with the code that is right
});
server.listen(Number(port), '0.0.0.0');
