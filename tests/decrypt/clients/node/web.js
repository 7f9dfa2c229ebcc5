// Asks for a permitted and a refused path with fetch and HTTP/2, and talks to a WebSocket.
'use strict';
const http2 = require('node:http2');
const { WebSocket } = require('ws');

const base = process.argv[2];

async function viaFetch() {
  const good = await fetch(base + '/ok/fetch', { method: 'POST', body: 'x'.repeat(100000) });
  await good.text();
  const bad = await fetch(base + '/no/fetch');
  await bad.text();
  console.log('fetch', good.status, bad.status);
}

function request(session, path) {
  return new Promise((resolve, reject) => {
    const r = session.request({ ':path': path });
    let status;
    r.on('response', (h) => { status = h[':status']; });
    r.on('error', reject);
    r.on('end', () => resolve(status));
    r.resume();
    r.end();
  });
}

async function viaHTTP2() {
  const session = http2.connect(base);
  const statuses = [await request(session, '/ok/node-h2'), await request(session, '/no/node-h2'), await request(session, '/ok/node-h2-again')];
  session.close();
  console.log('http2', ...statuses);
}

// echo sends messages, one of them in two fragments, and waits for each to come back.
function echo(sizes) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(base.replace('https', 'wss') + '/ok/ws', { maxPayload: 64 << 20 });
    const sent = sizes.map((n, i) => Buffer.alloc(n, i + 1));
    let back = 0;
    const next = () => {
      const m = sent[back];
      ws.send(m.subarray(0, m.length >> 1), { fin: false });
      ws.send(m.subarray(m.length >> 1), { fin: true });
    };
    ws.on('open', next);
    ws.on('error', reject);
    ws.on('message', (data) => {
      if (!data.equals(sent[back])) return reject(new Error('another message came back'));
      if (++back < sent.length) return next();
      ws.close(1000);
    });
    ws.on('close', (code) => { console.log('ws', back, code); resolve(); });
  });
}

function refused() {
  return new Promise((resolve) => {
    const ws = new WebSocket(base.replace('https', 'wss') + '/no/ws');
    ws.on('error', (err) => { console.log('ws', err.message); resolve(); });
  });
}

(async () => {
  await viaFetch();
  await viaHTTP2();
  await echo([1, 126, 70000, 8 << 20]);
  await refused();
})().catch((err) => { console.error(err); process.exit(1); });
