/** The site tells the truth: curl, curl under mptcpize, stripped SYNs, stripped data, our stack of both versions; and what it looks like. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { stripMultipath } from '@subflow/emulator';
import type { PacketFilter } from '@subflow/emulator';
import { Tun } from '@subflow/link';
import { connect, emulatedNetwork, HttpAgent, openStack } from '@subflow/net';
import type { MultipathOptions } from '@subflow/net';
import { startSite, Statistics, verdictOf } from '@subflow/web/site';
import type { Site, Verdict } from '@subflow/web/site';
import { isMalformed, parsePacketValue } from '@subflow/wire';
import { describeSystem } from '../interop/require-system.ts';
import { addressesOfPath, KernelWorld } from './kernel-world.ts';
import { ipv4Bits, makeMmdb } from './mmdb.ts';

const SUBFLOW = fileURLToPath(new URL('../../packages/cli/bin/subflow.mjs', import.meta.url));
const SCREENSHOTS = process.env['SUBFLOW_SCREENSHOTS'];

function get(url: string, options: MultipathOptions): Promise<Verdict> {
  return new Promise((resolve, reject) => {
    const agent = new HttpAgent(options);
    const request = httpRequest(url, { agent, timeout: 10_000 }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () => {
        agent.destroy();
        resolve(JSON.parse(text) as Verdict);
      });
    });
    request.on('timeout', () => request.destroy(new Error('no answer')));
    request.on('error', reject);
    request.end();
  });
}

describeSystem('the site on the kernel', () => {
  let world: KernelWorld;
  const { server } = addressesOfPath(0);
  const url = `http://${server}:8090/json`;

  beforeAll(async () => {
    world = new KernelWorld([
      { name: 'wifi', link: { rate: 20e6, delay: 5_000 } },
      { name: 'lte', link: { rate: 20e6, delay: 5_000 } },
    ]);
    const site = world.start('server', process.execPath, [SUBFLOW, 'site', '--host', '0.0.0.0']);
    site.stderr!.pipe(process.stderr);
    await new Promise((resolve) => createInterface({ input: site.stdout! }).once('line', resolve));
  });
  afterAll(() => world?.remove());
  afterEach(() => {
    for (const path of world.paths) path.up.filter = path.down.filter = null;
  });

  async function curl(multipath: boolean, strip: PacketFilter | null = null, direction: 'up' | 'down' | 'both' = 'up'): Promise<Verdict> {
    for (const path of world.paths) {
      if (direction !== 'down') path.up.filter = strip;
      if (direction !== 'up') path.down.filter = strip;
    }
    const program = multipath ? ['mptcpize', 'run', 'curl'] : ['curl'];
    const result = await world.run('client', program[0]!, [...program.slice(1), '-sS', '--max-time', '15', url], { timeout: 20_000 });
    expect(result).toMatchObject({ code: 0, stderr: '' });
    return JSON.parse(result.stdout) as Verdict;
  }

  it('curl: no, and the SYN did not ask', async () => {
    expect(await curl(false)).toMatchObject({ multipath: false, lostAt: 'not-asked', syn: { capableVersion: null } });
  });

  it('curl under mptcpize: yes, version 1', async () => {
    expect(await curl(true)).toMatchObject({ multipath: true, version: 1, lostAt: null });
  });

  it('a SYN whose option was blanked: no, lost in the SYN', async () => {
    expect(await curl(true, stripMultipath('syn'))).toMatchObject({ multipath: false, lostAt: 'syn' });
  });

  it('a SYN+ACK whose option was blanked: no, lost in the handshake', async () => {
    expect(await curl(true, stripMultipath('synack'), 'down')).toMatchObject({ multipath: false, lostAt: 'handshake' });
  });

  it('options blanked after the handshake: no, lost there', async () => {
    const verdict = await curl(true, stripMultipath('after-handshake'), 'both');
    expect(verdict.multipath).toBe(false);
    expect(verdict.lostAt).toBe('handshake');
  });

  it('options blanked on data only: no, lost on data', async () => {
    const strip = stripMultipath('after-handshake');
    // The third ACK passes; what carries data does not.
    const verdict = await curl(true, (packet, now) => {
      const parsed = parsePacketValue(packet);
      return isMalformed(parsed) || parsed.payload.length === 0 ? packet : strip(packet, now);
    });
    expect(verdict).toMatchObject({ multipath: false, lostAt: 'data' });
  });

  it('our stack, version 1: yes; version 0: no, because the kernel speaks version 1 only', async () => {
    const tun = new Tun(`sfs${process.pid % 10000}`);
    world.server.adopt(tun.name, '198.51.100.2/24');
    const stack = openStack({ interfaces: [{ name: 'site', port: tun, addresses: ['198.51.100.1/24'] }] });
    try {
      const at = 'http://198.51.100.2:8090/json';
      expect(await get(at, { backend: stack })).toMatchObject({ multipath: true, version: 1 });
      expect(await get(at, { backend: stack, versions: [0] })).toMatchObject({ multipath: false, lostAt: 'version' });
      expect(await get(at, { backend: stack, service: 'none' })).toMatchObject({ multipath: false, lostAt: 'not-asked' });
    } finally {
      stack.stop();
    }
  });

  it('plain text for curl, HTML for browsers, and errors for everything else', async () => {
    const ask = async (...args: string[]): Promise<string> => (await world.run('client', 'curl', ['-sS', '-i', ...args])).stdout;
    expect(await ask(`http://${server}:8090/`)).toMatch(/text\/plain[\s\S]*No, you are not using Multipath TCP/);
    expect(await ask('-H', 'Accept: text/html', `http://${server}:8090/`)).toMatch(/text\/html[\s\S]*<h1>No, you are not/);
    expect(await ask(`http://${server}:8090/nothing`)).toMatch(/^HTTP\/1.1 404/);
    expect(await ask('-X', 'POST', `http://${server}:8090/`)).toMatch(/^HTTP\/1.1 405/);
  });
});

describe('the site on our stack', () => {
  it('both versions are told, with their subflows', async () => {
    const network = emulatedNetwork([
      { name: 'wifi', link: { delay: 5_000 } },
      { name: 'lte', link: { delay: 5_000 } },
    ]);
    const site = await new Promise<Site>((resolve) => {
      startSite({ multipath: { backend: network.server }, listen: { port: 8090 }, store: null, observe: false }, resolve);
    });
    const url = `http://${network.addresses[0]}:8090/json`;
    expect(await get(url, { backend: network.client })).toMatchObject({ multipath: true, version: 1 });
    expect(await get(url, { backend: network.client, versions: [0] })).toMatchObject({ multipath: true, version: 0 });
    for (const path of network.paths) path.up.filter = stripMultipath('syn');
    expect(await get(url, { backend: network.client })).toMatchObject({ multipath: false, lostAt: 'not-asked' });
    site.close();
    network.stop();
  });
});

describe('slow clients', () => {
  it('who sends its request drop by drop is cut off; others are served meanwhile', async () => {
    const site = await new Promise<Site>((resolve) => {
      startSite({ multipath: {}, listen: { port: 0, host: '127.0.0.1' }, store: null, observe: false, headTimeout: 300 }, resolve);
    });
    const { port } = site.server.address() as { port: number };
    const started = performance.now();
    const slow = connect({ port, host: '127.0.0.1' });
    slow.on('error', () => undefined);
    slow.resume();
    slow.write('GET / HTTP/1.1\r\n');
    const drip = setInterval(() => slow.write('X'), 50);
    const closed = new Promise((resolve) => slow.once('close', resolve));
    expect(await get(`http://127.0.0.1:${port}/json`, {})).toHaveProperty('headline');
    await closed;
    clearInterval(drip);
    expect(performance.now() - started).toBeLessThan(5000);
    site.close();
  }, 20_000);
});

describe('statistics', () => {
  const yes = verdictOf({ ...plainInfo(), multipath: true, version: 1, fallback: null }, null);
  const no = verdictOf(plainInfo(), null);
  const noon = Date.parse('2026-11-20T12:00:00Z');
  const day = 86_400_000;

  function plainInfo(): NonNullable<Parameters<typeof verdictOf>[0]> {
    return {
      ...{ backend: 'kernel', multipath: false, version: null, fallback: 'peer-not-capable', localToken: null, remoteToken: null },
      ...{ checksum: false, service: null, scheduler: null, subflows: [], bytesReinjected: 0, notes: [] },
    } as NonNullable<Parameters<typeof verdictOf>[0]>;
  }

  it('survive a restart, a torn line and a damaged one; a new day forgets its visitors’ hashes', () => {
    const directory = mkdtempSync(join(tmpdir(), 'subflow-site-'));
    const journal = join(directory, 'visits.jsonl');
    const first = new Statistics(directory, noon);
    first.record('192.0.2.1', yes, 'BE', noon);
    first.record('192.0.2.1', yes, 'BE', noon);
    first.record('192.0.2.2', no, 'DE', noon);
    first.close();
    const text = readFileSync(journal, 'utf8');
    expect(text).not.toContain('192.0.2');
    // A crash tore the last line, a bad disk changed a byte of another.
    writeFileSync(journal, `${text.replace('"c":"BE"', '"c":"XX"')}12345678 {"d":"2026-`);
    const second = new Statistics(directory, noon);
    expect(second.damaged).toBe(2);
    expect(second.all()).toMatchObject([{ day: '2026-11-20', requests: 2, visitors: 2, multipath: 1 }]);
    second.record('192.0.2.3', no, null, noon + day);
    second.close();
    // Moved elsewhere by its owner: the link stays, and the permissions with the file.
    renameSync(journal, join(directory, 'elsewhere'));
    symlinkSync('elsewhere', journal);
    chmodSync(journal, 0o640);
    const third = new Statistics(directory, noon + day);
    expect([readlinkSync(journal), statSync(journal).mode & 0o777]).toEqual(['elsewhere', 0o640]);
    expect(third.all()).toMatchObject([
      { day: '2026-11-20', requests: 2, multipath: 1 },
      { day: '2026-11-21', requests: 1, lost: { 'not-asked': 1 } },
    ]);
    expect(readFileSync(journal, 'utf8')).not.toMatch(/"d":"2026-11-20"/);
    third.close();
    rmSync(directory, { recursive: true });
  });
});

describe('what it looks like', () => {
  it('in headless Chromium: verdict, statistics with charts and map, light and dark', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'subflow-site-'));
    const geoip = join(directory, 'geo.mmdb');
    writeFileSync(
      geoip,
      makeMmdb([
        { bits: ipv4Bits('127.0.0.0/8'), country: 'BE' },
        { bits: ipv4Bits('192.0.2.0/24'), country: 'BR' },
      ]),
    );
    const statistics = new Statistics(directory, Date.now());
    const base = {
      ...{ backend: 'kernel', multipath: false, version: null, fallback: 'peer-not-capable', localToken: null, remoteToken: null, checksum: false },
      ...{ service: null, scheduler: null, subflows: [], bytesReinjected: 0, notes: [] },
    } as NonNullable<Parameters<typeof verdictOf>[0]>;
    ['BE', 'FR', 'US', 'BR', 'JP', 'AU', 'ZA', 'IN'].forEach((country, i) => {
      for (let k = 0; k < 40; k++) {
        const verdict = k % 8 < i ? verdictOf({ ...base, multipath: true, version: k % 9 === 0 ? 0 : 1, fallback: null }, null) : verdictOf(base, null);
        statistics.record(`192.0.2.${k}`, verdict, country, Date.now());
      }
    });
    statistics.close();
    const site = await new Promise<Site>((resolve) => {
      startSite({ multipath: {}, listen: { port: 0, host: '127.0.0.1' }, store: directory, geoip }, resolve);
    });
    const { port } = site.server.address() as { port: number };
    const browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      args: [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
    try {
      for (const scheme of ['light', 'dark'] as const) {
        const page = await browser.newPage({ colorScheme: scheme, viewport: { width: 1000, height: 800 } });
        const problems: string[] = [];
        page.on('console', (message) => void (message.type() === 'error' && problems.push(message.text())));
        page.on('request', (request) => void (new URL(request.url()).host === `127.0.0.1:${port}` || problems.push(request.url())));
        await page.goto(`http://127.0.0.1:${port}/`);
        expect(await page.locator('h1').textContent()).toContain('not using Multipath TCP');
        if (SCREENSHOTS !== undefined) await page.screenshot({ path: join(SCREENSHOTS, `site-verdict-${scheme}.png`), fullPage: true });
        await page.goto(`http://127.0.0.1:${port}/stats`);
        expect(await page.locator('svg.map path').count()).toBeGreaterThan(150);
        expect(await page.locator('svg.map path[fill^="color-mix"]').count()).toBe(8);
        expect(await page.locator('svg.chart rect.yes').count()).toBeGreaterThan(0);
        if (SCREENSHOTS !== undefined) await page.screenshot({ path: join(SCREENSHOTS, `site-stats-${scheme}.png`), fullPage: true });
        expect(problems.filter((text) => !text.includes('favicon'))).toEqual([]);
        await page.close();
      }
      const phone = await browser.newPage({ viewport: { width: 390, height: 800 } });
      await phone.goto(`http://127.0.0.1:${port}/stats`);
      expect(await phone.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(390);
      if (SCREENSHOTS !== undefined) await phone.screenshot({ path: join(SCREENSHOTS, 'site-stats-phone.png'), fullPage: true });
    } finally {
      await browser.close();
      site.close();
      rmSync(directory, { recursive: true, force: true });
    }
  }, 60_000);
});

if (SCREENSHOTS !== undefined) mkdirSync(SCREENSHOTS, { recursive: true });
