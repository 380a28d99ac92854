// Looks at the page with a browser: node tests/page/check.mjs [--screenshots FOLDER] [--url URL | --program FOLDER]
//
// It needs Chromium (CHROMIUM, or `chromium` in the path) and two packages of npm, in this folder or in NODE_PATH:
// playwright-core and axe-core. Without them it prints SKIPPED. With --url it looks at a running program: whether the
// page loads, follows the policy and is accessible. With --program it starts tcpcore and two feeds from a folder, such
// as target/release, and also loses a feed.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { makeServer, serve } from './server.mjs';

const options = process.argv.slice(2);
const option = name => (options.includes(name) ? options[options.indexOf(name) + 1] : undefined);
const folder = option('--screenshots');
if (folder) mkdirSync(folder, { recursive: true });

function skip(reason) {
  console.log(`SKIPPED: ${reason}`);
  process.exit(0);
}
function find(program) {
  return process.env.PATH.split(delimiter).map(place => join(place, program)).find(path => {
    try { accessSync(path, constants.X_OK); return true; } catch { return false; }
  });
}

const executablePath = process.env.CHROMIUM ?? ['chromium', 'chromium-browser', 'google-chrome'].map(find).find(Boolean);
if (!executablePath) skip('there is no Chromium');
const require = createRequire(import.meta.url);
let chromium, axe;
try {
  ({ chromium } = require('playwright-core'));
  axe = require.resolve('axe-core/axe.min.js');
} catch (error) {
  skip(`a package of npm is not installed: ${error.message.split('\n')[0]}`);
}

let failures = 0;
function check(what, holds, seen) {
  console.log(`${holds ? 'ok  ' : 'FAIL'} ${what}${holds ? '' : `: ${JSON.stringify(seen)}`}`);
  if (!holds) failures += 1;
}

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
async function open(url, settings = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...settings });
  const page = await context.newPage();
  page.problems = [];
  page.requests = [];
  page.on('pageerror', error => page.problems.push(String(error)));
  page.on('console', message => { if (message.type() === 'error') page.problems.push(message.text()); });
  page.on('request', request => page.requests.push(request.url()));
  await page.goto(url);
  await page.waitForFunction(() => document.querySelector('#headline strong'), null, { timeout: 5000 });
  return page;
}
async function shot(page, name, whole = false) {
  if (folder) await page.screenshot({ path: join(folder, `${name}.png`), fullPage: whole });
}
const texts = (page, selector) => page.$$eval(selector, nodes => nodes.map(node => node.innerText.replace(/\s+/g, ' ').trim()));
const text = async (page, selector) => (await texts(page, selector))[0];
async function until(page, what, ms, holds) {
  const start = Date.now();
  let seen;
  while (Date.now() - start < ms) {
    seen = await holds();
    if (seen === true) break;
    await page.waitForTimeout(50);
  }
  check(`${what} (${((Date.now() - start) / 1000).toFixed(1)} s)`, seen === true, seen);
}
async function accessible(page, what) {
  // axe is put in by the debugger, which the policy does not bind.
  await page.evaluate(readFileSync(axe, 'utf8'));
  const found = await page.evaluate(async () => (await globalThis.axe.run(document)).violations.map(v =>
    ({ id: v.id, impact: v.impact, nodes: v.nodes.slice(0, 3).map(n => n.html.slice(0, 120)) })));
  const serious = found.filter(violation => ['serious', 'critical'].includes(violation.impact));
  check(`axe finds nothing serious: ${what}`, serious.length === 0, serious);
  for (const { id, impact, nodes } of found.filter(v => !serious.includes(v))) console.log(`     ${impact}: ${id} ${nodes}`);
}

async function checkRunning(url) {
  const page = await open(url);
  check('nothing breaks the policy', page.problems.length === 0, page.problems);
  check('nothing is asked of another place', page.requests.every(request => request.startsWith(url) || request.startsWith('data:')), page.requests);
  await accessible(page, url);
  await shot(page, 'running');
}

// Starts a program. Returns what `pattern` finds in its log, and how to kill the program.
async function start(path, args, pattern) {
  const child = spawn(path, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit');
  const kill = () => { child.kill('SIGKILL'); return ended; };
  let log = '';
  const found = await new Promise((resolve, reject) => {
    child.stderr.on('data', data => { log += data; if (pattern.test(log)) resolve(log.match(pattern)[1]); });
    ended.then(() => reject(new Error(`${path} ended: ${log}`)), reject);
    setTimeout(() => reject(new Error(`${path} has not started: ${log}`)), 10000).unref();
  }).catch(error => { child.kill('SIGKILL'); throw error; });
  return { found, kill };
}

async function checkProgram(programs) {
  const place = mkdtempSync(join(tmpdir(), 'tcpcore-page-'));
  const running = {};
  const feed = async (name, port) => {
    running[name] = await start(join(programs, 'demo-server'), ['--interval', '50ms', port], /Listening on 127\.0\.0\.1:(\d+)/);
    return running[name].found;
  };
  try {
    const ports = [await feed('gate-1', '0'), await feed('gate-2', '0')];
    const list = join(place, 'servers');
    writeFileSync(list, ports.map((port, i) => `127.0.0.1:${port} name=gate-${i + 1}\n`).join(''));
    running.tcpcore = await start(join(programs, 'tcpcore'), ['-f', list, '--status-addr', '127.0.0.1:0',
      '--initial-backoff', '200ms', '--max-backoff', '500ms'], /Status on (http:\S+)/);
    const url = running.tcpcore.found;
    await checkRunning(url);

    const page = await open(url);
    const headline = () => text(page, '#headline');
    const row = async () => (await texts(page, '#rows tr')).find(line => line.includes('gate-2'));
    await until(page, 'both servers are connected', 10000, async () => await headline() === '2 of 2 connected' || headline());
    await running['gate-2'].kill();
    await until(page, 'a lost server is shown', 10000, async () => await headline() === '1 of 2 connected' || headline());
    await until(page, 'with its reason', 10000, async () => /down .*connection refused/.test(await row()) || row());
    await feed('gate-2', ports[1]);
    await until(page, 'its return is shown', 10000, async () => await headline() === '2 of 2 connected' || headline());
    await until(page, 'without a reason', 10000, async () => !/down|refused/.test(await row()) || row());
    check('nothing breaks the policy', page.problems.length === 0, page.problems);
  } finally {
    for (const { kill } of Object.values(running)) await kill();
    rmSync(place, { recursive: true });
  }
}

function tenFeeds() {
  const names = ['gate-1', 'gate-2', 'gate-3', 'gate-4', 'harbour-ais', 'rooftop-sbs', 'meter-a', 'meter-b', 'sim-east', 'sim-west'];
  const servers = names.map((name, number) => makeServer(number, {
    name, rate: [120, 80, 65, 40, 12, 310, 0.2, 0.2, 25, 24][number], lines: 1000 * (number + 1) ** 2,
    failures: number % 3,
  }));
  const now = Date.now();
  Object.assign(servers[2], {
    state: 'waiting', sinceMs: now - 754e3, nextMs: now + 41e3, failures: 9, failures_in_row: 9, rate: 0, receivedMs: now - 754e3,
    last_error: { text: 'connection refused: Connection refused (os error 111)', reason: 'refused', time: new Date().toISOString() },
    samples: servers[2].samples.map((value, i) => (i < 2 ? value : 0)),
  });
  Object.assign(servers[7], {
    state: 'resolving', sinceMs: now - 38e3, failures: 4, failures_in_row: 4, rate: 0, receivedMs: now - 38e3,
    last_error: { text: 'name not resolved', reason: 'resolve', time: new Date().toISOString() },
    samples: servers[7].samples.map((value, i) => (i < 112 ? value : 0)),
  });
  servers[9].name = null;
  servers[9].address = '[2001:db8::7]:9000';
  return { startedMs: now - 11 * 3600e3, servers, extra: {} };
}

async function checkMadeUp() {
  const figures = tenFeeds();
  let server = await serve(figures);
  const page = await open(server.url);
  check('the headline counts', await text(page, '#headline') === '8 of 10 connected', await text(page, '#headline'));
  const names = async () => texts(page, 'td.server b');
  check('the longest outage is first', (await names()).slice(0, 2).join() === 'gate-3,meter-b', await names());
  check('why it is down', (await text(page, 'td.why')).startsWith('connection refused: Connection refused'), await text(page, 'td.why'));
  const seconds = async () => Number((await text(page, 'td.why')).match(/next attempt in (\d+)s/)[1]);
  const before = await seconds();
  await until(page, 'the next attempt counts down', 1600, async () => await seconds() < before || before);
  check('since when', /down 12m 3\ds/.test(await text(page, 'td.state')), await text(page, 'td.state'));
  await shot(page, 'light', true);
  await accessible(page, 'light');

  // A server goes down, and comes back.
  Object.assign(figures.servers[0], {
    state: 'waiting', sinceMs: Date.now(), nextMs: Date.now() + 3000, failures_in_row: 1, failures: 1,
    last_error: { text: 'closed by the server', reason: 'eof', time: new Date().toISOString() },
  });
  await until(page, 'a lost server is shown', 3000, async () => (await text(page, '#headline')) === '7 of 10 connected' && (await names()).slice(0, 3).includes('gate-1'));
  check('the title says so', (await page.title()).startsWith('7 of 10 connected'), await page.title());
  Object.assign(figures.servers[0], { state: 'connected', sinceMs: Date.now(), nextMs: null, failures_in_row: 0 });
  await until(page, 'its return is shown', 3000, async () => (await text(page, '#headline')) === '8 of 10 connected' || text(page, '#headline'));

  // Filters, orders, and what the address of the page keeps.
  await page.click('#chips button.down');
  await until(page, 'the filter shows those that are down alone', 1500, async () => (await names()).join() === 'gate-3,meter-b' || names());
  check('it is pressed', await page.getAttribute('#chips button.down', 'aria-pressed') === 'true');
  await page.click('#chips button.down');
  await page.fill('#find', 'SIM');
  await until(page, 'text filters', 1500, async () => (await names()).join() === 'sim-east' || names());
  await page.fill('#find', '2001:DB8');
  await until(page, 'text filters addresses', 1500, async () => (await names()).join() === '[2001:db8::7]:9000' || names());
  await page.fill('#find', 'nothing of this name');
  await until(page, 'an empty list says so', 1500, async () => (await text(page, '#empty')) === 'No server matches.' || text(page, '#empty'));
  await page.fill('#find', '');
  await until(page, 'all are back', 1500, async () => (await names()).length === 10 || names());
  await page.click('th[data-order=rate] button');
  await until(page, 'the highest rate is first', 1500, async () => (await names())[0] === 'rooftop-sbs' || names());
  check('the order is said', await page.getAttribute('th[data-order=rate]', 'aria-sort') === 'descending');
  await page.click('th[data-order=rate] button');
  await until(page, 'and last after another click', 1500, async () => (await names())[9] === 'rooftop-sbs' || names());
  await page.reload();
  await until(page, 'a reload keeps the order', 2500, async () => (await names())[9] === 'rooftop-sbs' || names());

  // The keyboard alone.
  await page.goto(server.url + '#');
  await page.reload();
  await page.waitForSelector('td.server');
  await page.keyboard.press('Tab');
  const focused = () => page.evaluate(() => document.activeElement.innerText);
  check('Tab reaches the states first', (await focused()).startsWith('All'), await focused());
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await until(page, 'Enter filters', 1500, async () => (await names()).join() === 'gate-3,meter-b' || names());
  await page.keyboard.press('Enter');

  // The program itself goes, and comes back.
  await server.stop();
  await until(page, 'it is seen that the program is gone', 3000, async () => (await text(page, '#alert') ?? '').startsWith('No answer from tcpcore since') || text(page, '#alert'));
  await shot(page, 'gone');
  await accessible(page, 'gone');
  server = await serve(figures, server.port);
  await until(page, 'and that it is back', 3000, async () => (await text(page, '#alert')) === 'tcpcore answers again.' || text(page, '#alert'));
  figures.isHanging = true;
  await until(page, 'and that it hangs', 3000, async () => (await text(page, '#alert') ?? '').startsWith('No answer') || text(page, '#alert'));
  figures.isHanging = false;
  await server.stop();
  server = await serve(figures, server.port);
  await until(page, 'and that it is back again', 3000, async () => (await text(page, '#alert')) === 'tcpcore answers again.' || text(page, '#alert'));
  const problems = page.problems.filter(problem => !problem.includes('ERR_'));
  check('nothing breaks the policy', problems.length === 0, problems);
  check('nothing is asked of another place', page.requests.every(request => request.startsWith(server.url) || request.startsWith('data:')), page.requests);
  await page.context().close();

  // Hostile names.
  const hostile = '<img src=x onerror="document.title=1"><script>alert(1)</script>\u202e"\'';
  figures.servers[2].name = hostile;
  figures.servers[2].last_error.text = '<b>bold</b>\u0000\u001b[31m';
  const attacked = await open(server.url);
  const shown = await attacked.$$eval('td.server b', nodes => nodes.map(node => node.textContent));
  check('a name of markup is text', shown.includes(hostile), shown);
  check('and makes no element', await attacked.$$eval('main img, main script, td.why b', nodes => nodes.length) === 0);
  check('and breaks nothing', attacked.problems.length === 0, attacked.problems);
  await attacked.context().close();
  figures.servers[2].name = 'gate-3';
  figures.servers[2].last_error.text = 'connection refused: Connection refused (os error 111)';

  // Other screens.
  const dark = await open(server.url, { colorScheme: 'dark' });
  await shot(dark, 'dark', true);
  await accessible(dark, 'dark');
  const phone = await open(server.url, { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  const width = await phone.evaluate(() => document.documentElement.scrollWidth);
  check('a phone need not scroll to the side', width <= 390, width);
  await phone.selectOption('#sort', '-rate');
  await until(phone, 'a phone sorts', 1500, async () => (await texts(phone, 'td.server b'))[0] === 'rooftop-sbs' || texts(phone, 'td.server b'));
  await phone.selectOption('#sort', 'down');
  await phone.waitForTimeout(500);
  await shot(phone, 'phone');
  await shot(phone, 'phone-whole', true);
  await accessible(phone, 'phone');
  const darkPhone = await open(server.url, { viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
  await shot(darkPhone, 'phone-dark');
  for (const size of [320, 700, 900, 1024]) {
    const other = await open(server.url, { viewport: { width: size, height: 800 } });
    const sideways = await other.evaluate(() => document.documentElement.scrollWidth);
    check(`${size} pixels need not scroll to the side`, sideways <= size, sideways);
    await shot(other, `wide-${size}`);
    await other.context().close();
  }

  // A long list.
  figures.servers = Array.from({ length: 10000 }, (_, i) => makeServer(i, { rate: i % 97, lines: i, samples: [1, 2, 3] }));
  figures.servers[5000].state = 'failed';
  const long = await open(server.url);
  check('ten thousand servers are a hundred rows', (await long.$$('#rows tr')).length === 100);
  check('and the range says so', await text(long, '#range') === '1–100 of 10,000', await text(long, '#range'));
  await long.click('#next');
  await until(long, 'the next page follows', 2000, async () => (await text(long, '#range')) === '101–200 of 10,000' || text(long, '#range'));
  check('with a hundred rows', (await long.$$('#rows tr')).length === 100);
  await long.click('#previous');
  await until(long, 'and the one before it', 2000, async () => (await text(long, '#range')) === '1–100 of 10,000' || text(long, '#range'));
  await long.goto(server.url + '#offset=9950');
  figures.servers = figures.servers.slice(0, 120);
  await until(long, 'a list that shrinks shows its last page', 5000, async () => (await text(long, '#range')) === '101–120 of 120' || text(long, '#range'));
  figures.servers = [];
  await until(long, 'an empty list says so', 5000, async () => (await text(long, '#empty')) === 'The list has no server.' || text(long, '#empty'));
  figures.extra = { stopping: true, reload: { successful: false, last_success: null }, log_lines_dropped: 3, shard: { index: 1, count: 3 } };
  await until(long, 'a stop, a bad reload and a lost log are said', 3000, async () => (await texts(long, '#notices .notice')).length === 3 || texts(long, '#notices .notice'));
  await shot(long, 'notices');
  await server.stop();
}

try {
  if (option('--program')) await checkProgram(option('--program'));
  else if (option('--url')) await checkRunning(option('--url'));
  else await checkMadeUp();
} finally {
  await browser.close();
}
console.log(failures ? `${failures} failed` : 'all is as it should be');
process.exit(failures ? 1 : 0);
