// Serves the page of src/status and made-up figures, as the status server does. `figures` is changed by the test.

import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';

const source = new URL('../../src/status/', import.meta.url);
const page = readFileSync(new URL('page.html', source));
// The policy is that of the program, so the browser checks its hashes.
const code = readFileSync(new URL('page.rs', source), 'utf8');
const policy = code.match(/CONTENT_SECURITY_POLICY: &str = "([^"]*)"/)[1].replace(/\\\n\s*/g, '');

const STATES = ['waiting', 'resolving', 'connecting', 'connected', 'failed', 'ended'];
const isDown = state => !['connected', 'ended'].includes(state);

export function makeServer(number, fields = {}) {
  const state = fields.state ?? 'connected';
  const rate = fields.rate ?? 0;
  const wave = i => Math.max(0, rate * (1 + 0.35 * Math.sin(i / 9 + number) + 0.12 * Math.sin(i * 1.7 + number)));
  return {
    number, name: null, address: `10.0.${number >> 8}.${number & 255}:9000`, worker: number % 2, state,
    sinceMs: Date.now() - 3600e3, downtime_seconds: 0, last_error: null, nextMs: null, failures_in_row: 0,
    receivedMs: Date.now() - 400, attempts: 1, failures: 0, lines: 0,
    samples: Array.from({ length: 120 }, (_, i) => Math.round(wave(i) * 10) / 10),
    ...fields, rate,
  };
}

const iso = ms => (ms === null ? null : new Date(ms).toISOString());

function render(server, now) {
  const { number, name, address, worker, state, rate, samples } = server;
  const since = (now - server.sinceMs) / 1000;
  return {
    number, name, address, worker, state, since: iso(server.sinceMs),
    down_seconds: isDown(state) ? since : null, up_seconds: state === 'connected' ? since : null,
    downtime_seconds: server.downtime_seconds, last_error: server.last_error, next_attempt: iso(server.nextMs),
    failures_in_row: server.failures_in_row, last_received: iso(server.receivedMs),
    rate: { lines_per_second: rate, bytes_per_second: rate * 68 }, attempts: server.attempts,
    counters: {
      connects: 1, failures: server.failures, bytes: server.lines * 68, lines: server.lines, records: server.lines,
      malformed: 0, oversized: 0, truncated: 0,
    },
    sparkline: samples,
  };
}

const KEYS = {
  name: server => server.name ?? server.address,
  down: server => (isDown(server.state) ? '0' + server.sinceMs : '1' + (server.name ?? server.address)),
  state: server => STATES.indexOf(server.state), rate: server => server.rate, failures: server => server.failures,
  last_received: server => server.receivedMs ?? 0, lines: server => server.lines,
};

export function document(figures, query) {
  const now = Date.now();
  const states = Object.fromEntries(STATES.map(state => [state, 0]));
  for (const server of figures.servers) states[server.state] += 1;
  const wanted = (query.get('state') ?? '').split(',').filter(Boolean);
  const text = (query.get('q') ?? '').toLowerCase();
  const matching = figures.servers.filter(server =>
    (wanted.length === 0 || wanted.includes(server.state) || wanted.includes('down') && isDown(server.state))
    && ((server.name ?? '') + ' ' + server.address).toLowerCase().includes(text));
  const sort = query.get('sort') ?? 'down';
  const key = KEYS[sort.replace('-', '')], sign = sort.startsWith('-') ? -1 : 1;
  matching.sort((a, b) => (key(a) < key(b) ? -sign : key(a) > key(b) ? sign : a.number - b.number));
  const offset = Number(query.get('offset') ?? 0), limit = Number(query.get('limit') ?? 100);
  const sum = field => figures.servers.reduce((total, server) => total + server[field], 0);
  const samples = Array.from({ length: 120 }, (_, i) =>
    figures.servers.reduce((total, server) => total + (server.samples[i] ?? 0), 0));
  return {
    version: '0.1.0', shard: null, now: iso(now), started: iso(figures.startedMs),
    uptime_seconds: (now - figures.startedMs) / 1000, stopping: false, states,
    rate: { lines_per_second: sum('rate'), bytes_per_second: sum('rate') * 68 },
    sparkline: { seconds_per_sample: 5, lines_per_second: samples },
    totals: {
      connects: 10, failures: sum('failures'), bytes: sum('lines') * 68, lines: sum('lines'), records: sum('lines'),
      malformed: 12, oversized: 1, truncated: 3, attempts: 20, attempts_failed: {}, disconnects: {}, downtime_seconds: 0,
    },
    output: { records: sum('lines'), blocked_seconds: 1.5 },
    workers: [0, 1].map(index => ({ index, servers: 5, connected: 4, queued_records: index * 3 })),
    reload: { successful: true, last_success: iso(figures.startedMs) }, log_lines_dropped: 0,
    ...figures.extra, matching: matching.length, offset,
    servers: matching.slice(offset, offset + limit).map(server => render(server, now)),
  };
}

// Starts it on `port`, or any. Returns its address and how to stop it; a stopped one refuses connections.
export function serve(figures, port = 0) {
  const server = createServer((request, response) => {
    const url = new URL(request.url, 'http://localhost');
    const headers = { 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' };
    if (figures.isHanging) return;
    if (url.pathname === '/') {
      response.writeHead(200, { ...headers, 'Content-Type': 'text/html; charset=utf-8', 'Content-Security-Policy': policy });
      response.end(page);
    } else if (url.pathname === '/status.json') {
      response.writeHead(200, { ...headers, 'Content-Type': 'application/json' });
      response.end(JSON.stringify(document(figures, url.searchParams)));
    } else {
      response.writeHead(404, headers);
      response.end();
    }
  });
  return new Promise(resolve => server.listen(port, '127.0.0.1', () => resolve({
    url: `http://127.0.0.1:${server.address().port}/`, port: server.address().port,
    stop: () => new Promise(done => { server.close(done); server.closeAllConnections(); }),
  })));
}
