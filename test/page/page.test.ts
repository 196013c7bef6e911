/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/** The page in Chromium, as a person uses it; pictures of every view go to docs/web when SUBFLOW_PICTURES is set. */
import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_SETUP, LESSONS, PlayRun, setupFromText, setupToText } from '@subflow/web/play';
import { FARM_DESIGNS, FarmRun } from '@subflow/web/farm';
import { pageFolder, startPage } from '@subflow/web/node';
import type { RunningPage } from '@subflow/web/node';
import { Namespace, vethPair } from '@subflow/link';
import { describeSystem } from '../interop/require-system.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CLI = join(ROOT, 'packages/cli/bin/subflow.mjs');
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const PICTURES = process.env['SUBFLOW_PICTURES'] === '1';
const DESK = { width: 1280, height: 1000 };
const PHONE = { width: 390, height: 844 };

let page: RunningPage;
let browser: Browser;
let directory: string;

beforeAll(async () => {
  page = await startPage({ host: '127.0.0.1', port: 0, token: 'token', interval: 250 });
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--enable-precise-memory-info'] });
  directory = mkdtempSync(join(tmpdir(), 'subflow-page-'));
}, 60_000);

afterAll(async () => {
  await browser?.close();
  page?.close();
  rmSync(directory, { recursive: true, force: true });
});

/** A tab that notices every error, and every request that leaves the origin. */
async function tab(
  hash = '',
  options: { viewport?: { width: number; height: number }; colorScheme?: 'light' | 'dark' } = {},
): Promise<{ tab: Page; context: BrowserContext; wrongs: string[] }> {
  const context = await browser.newContext({ viewport: DESK, acceptDownloads: true, ...options });
  const own = await context.newPage();
  const wrongs: string[] = [];
  own.on('pageerror', (error) => wrongs.push(error.message));
  own.on('console', (message) => {
    if (message.type() === 'error') wrongs.push(message.text());
  });
  own.on('request', (request) => {
    if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(page.url)) wrongs.push(`request to ${request.url()}`);
  });
  await own.goto(`${page.url}${hash}`);
  return { tab: own, context, wrongs };
}

const verdict = async (own: Page, patience = 60_000): Promise<string> => {
  await own.waitForFunction(() => / in .* s, |was lost/.test(document.querySelector('[data-testid=verdict]')?.textContent ?? ''), null, { timeout: patience });
  return (await own.getByTestId('verdict').textContent())!;
};
/** Throws rather than waits for ever. */
function toItsEnd(run: PlayRun): void {
  while (!run.finished) {
    if (run.agenda.now > 120e6) throw new Error('the run does not end');
    run.runTo(run.agenda.now + 100_000);
  }
}

const clock = async (own: Page): Promise<number> => Number.parseFloat((await own.getByLabel('Emulated time').textContent())!);
const rates = (own: Page): Promise<number[]> => own.locator('.rate').evaluateAll((all) => all.map((one) => Number.parseFloat(one.textContent ?? '')));

describe('the playground', () => {
  it('open, start, cut wifi, see lte take over, restore, every octet right; the shared link does the same again', { timeout: 90_000 }, async () => {
    const { tab: own, context, wrongs } = await tab();
    await own.getByRole('button', { name: 'Start' }).click();
    await own.waitForFunction(() => Number.parseFloat(document.querySelector('.rate')!.textContent!) > 10);
    await own.getByRole('button', { name: 'Cut wifi' }).click();
    const cutAt = await clock(own);
    await own.waitForFunction(() => {
      const [wifi, lte] = [...document.querySelectorAll('.rate')].map((one) => Number.parseFloat(one.textContent!));
      return wifi! < 0.1 && lte! > 8;
    });
    const seen = await clock(own);
    await own.getByRole('button', { name: 'Restore wifi' }).click();
    const words = await verdict(own);
    expect(words).toContain('20.00 MB');
    expect(words).toContain('every octet right');

    await own.getByRole('button', { name: 'Share link' }).click();
    const link = own.url();
    expect(link).toContain('#play=');
    const setup = setupFromText(/#play=(.+)$/.exec(link)![1]!);
    expect(setup.actions.map((one) => one.up)).toEqual([false, true]);
    // What the core itself says of this run: the same verdict, and when lte had taken over.
    const run = new PlayRun(setup);
    let takeover = Number.NaN;
    const cut = setup.actions[0]!.at;
    run.onEvent = (side, event) => {
      if (Number.isNaN(takeover) && side === 'client' && event.type === 'data-received' && event.time > cut + 20_000) takeover = event.time;
    };
    toItsEnd(run);
    expect(run.progress().verdict).toBe(words);
    // The page shows half a second's mean: no later than that, and a frame or two.
    expect(seen * 1e6).toBeGreaterThan(takeover - 1);
    expect(seen * 1e6).toBeLessThan(Math.max(takeover, cut) + 1.5e6);
    expect(cutAt * 1e6).toBeLessThanOrEqual(cut + 200_000);

    // In another tab, from the link alone.
    const second = await tab(`#play=${setupToText(setup)}`);
    expect(await verdict(second.tab)).toBe(words);
    const picture = (of: Page): Promise<string> =>
      of
        .locator('.plot')
        .nth(0)
        .evaluate(async (figure) => {
          const chunks: string[] = [];
          const before = URL.createObjectURL;
          const blobs: Blob[] = [];
          URL.createObjectURL = (blob: Blob | MediaSource) => {
            blobs.push(blob as Blob);
            return before(blob);
          };
          (figure.querySelector('button[aria-label$=CSV]') as HTMLButtonElement).click();
          URL.createObjectURL = before;
          for (const blob of blobs) chunks.push(await blob.text());
          return chunks.join('');
        });
    for (const one of [own, second.tab]) await one.getByRole('button', { name: 'Again' }).waitFor();
    await own.waitForTimeout(200);
    const numbers = await picture(second.tab);
    expect(numbers.split('\n').length).toBeGreaterThan(20);
    expect(numbers).toBe(await picture(own));
    expect([...wrongs, ...second.wrongs]).toEqual([]);
    await context.close();
    await second.context.close();
  });

  it.each(LESSONS.map((one) => [one.title, one.id] as const))('lesson: %s', { timeout: 60_000 }, async (title, id) => {
    const { tab: own, context, wrongs } = await tab();
    await own.getByLabel('Lesson', { exact: true }).selectOption(id);
    await own.getByText(LESSONS.find((one) => one.id === id)!.text.slice(0, 40)).waitFor();
    await own.getByLabel('Speed').selectOption('5');
    await own.getByRole('button', { name: /Go on|Start/ }).click();
    const words = await verdict(own);
    // The same as the engine without a page.
    const run = new PlayRun(LESSONS.find((one) => one.id === id)!.setup);
    toItsEnd(run);
    expect(words, title).toBe(run.progress().verdict);
    expect(wrongs).toEqual([]);
    await context.close();
  });

  it('goes step by step, shows the options of a packet, keeps what was chosen over a reload, saves files', { timeout: 60_000 }, async () => {
    const { tab: own, context, wrongs } = await tab();
    await own.getByLabel('Lesson', { exact: true }).selectOption('handshake');
    for (let i = 0; i < 12; i++) await own.getByRole('button', { name: 'Step' }).click();
    await own.locator('.packets li button').last().hover();
    await own
      .getByText(/MP CAPABLE/)
      .first()
      .waitFor();
    await own.getByLabel('Scheduler', { exact: true }).selectOption('blest');
    await own.reload();
    expect(await own.getByLabel('Scheduler', { exact: true }).inputValue()).toBe('blest');
    await own.getByRole('button', { name: 'Start' }).click();
    await verdict(own);
    const saved = async (name: string): Promise<string> => {
      const [file] = await Promise.all([own.waitForEvent('download'), own.getByRole('button', { name, exact: true }).click()]);
      const path = join(directory, file.suggestedFilename());
      await file.saveAs(path);
      return path;
    };
    // What is saved is what the other tools read.
    const yaml = await saved('YAML');
    const demo = spawnSync(process.execPath, [CLI, 'demo', '--mode', 'emulated', '--fast', '--scenario', yaml, '--out', join(directory, 'demo'), '--json'], {
      encoding: 'utf8',
      timeout: 60_000,
      cwd: directory,
    });
    expect(demo.status, demo.stderr).toBe(0);
    const capture = await saved('pcapng');
    const summary = spawnSync(process.execPath, [CLI, 'trace', capture, '--json'], { encoding: 'utf8' });
    expect((JSON.parse(summary.stdout) as { totals: { mptcpConnections: number } }).totals.mptcpConnections).toBe(1);
    expect(wrongs).toEqual([]);
    await context.close();
  });

  it('draws sixty frames a second while four paths carry 200 Mbit/s', { timeout: 60_000 }, async () => {
    const path = (name: string, delay: number) => ({ ...DEFAULT_SETUP.paths[0]!, name, rate: 50, delay });
    const setup = { ...DEFAULT_SETUP, amount: 200, buffer: 16_384, paths: [path('a', 10), path('b', 12), path('c', 14), path('d', 16)] };
    const { tab: own, context } = await tab(`#play=${setupToText(setup)}`);
    await own.waitForFunction(() => [...document.querySelectorAll('.rate')].reduce((sum, one) => sum + Number.parseFloat(one.textContent!), 0) > 150, null, {
      timeout: 20_000,
    });
    const before = { clock: await clock(own), wall: performance.now() };
    const times = await own.evaluate(
      () =>
        new Promise<number[]>((resolve) => {
          const out: number[] = [];
          let last = performance.now();
          const frame = (now: number): void => {
            out.push(now - last);
            last = now;
            if (out.length < 240) requestAnimationFrame(frame);
            else resolve(out);
          };
          requestAnimationFrame(frame);
        }),
    );
    const speed = ((await clock(own)) - before.clock) / ((performance.now() - before.wall) / 1000);
    const sorted = times.slice(1).toSorted((a, b) => a - b);
    const median = sorted[sorted.length >> 1]!;
    const late = sorted.filter((one) => one > 25).length / sorted.length;
    const sum = (await rates(own)).reduce((a, b) => a + b, 0);
    console.log(
      `${sum.toFixed(0)} Mbit/s at ${speed.toFixed(2)} of real time; frames: median ${median.toFixed(1)} ms, 95 % ${sorted[Math.floor(sorted.length * 0.95)]!.toFixed(1)} ms, ${(late * 100).toFixed(1)} % later than 25 ms`,
    );
    expect(median).toBeLessThan(17.5);
    await context.close();
  });

  it('loads in less than 150 kB gzipped, and is usable within a second', async () => {
    const folder = pageFolder();
    const files = [
      'index.html',
      ...readdirSync(join(folder, 'assets'))
        .filter((name) => !/^(capture|farm)-/.test(name))
        .map((name) => `assets/${name}`),
    ];
    const size = files.reduce((sum, name) => sum + gzipSync(readFileSync(join(folder, name))).length, 0);
    const began = performance.now();
    const { tab: own, context } = await tab();
    await own.getByRole('button', { name: 'Start' }).waitFor();
    const usable = performance.now() - began;
    console.log(`first load ${(size / 1000).toFixed(1)} kB gzipped, usable after ${usable.toFixed(0)} ms`);
    expect(size).toBeLessThan(150_000);
    expect(usable).toBeLessThan(1500);
    await context.close();
  });

  it.each([
    ['a hostile link', `#play=${encodeURIComponent('{"seed":1,"paths":[{"name":"<img src=x onerror=alert(1)>"}]}')}`],
    ['a broken link', '#play=%7Bhello'],
    ['an enormous link', `#play=${'x'.repeat(300_000)}`],
  ])('says what is wrong with %s, and stays alive', async (_, hash) => {
    const { tab: own, context, wrongs } = await tab(hash);
    expect(await own.getByRole('alert').textContent()).toContain('This link holds no scenario that can be run');
    await own.getByRole('button', { name: 'Start' }).click();
    await own.waitForFunction(() => Number.parseFloat(document.querySelector('.clock')!.textContent!) > 0.2);
    expect(wrongs).toEqual([]);
    await context.close();
  });
});

describe('accessibility and habit', () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const [name, viewport] of [
      ['desktop', DESK],
      ['phone', PHONE],
    ] as const) {
      it.each(['play', 'balancers', 'capture', 'machine'] as const)(`no serious finding: %s, ${colorScheme}, ${name}`, { timeout: 60_000 }, async (view) => {
        const { tab: own, context, wrongs } = await tab(`#${view === 'machine' ? 'machine=token' : view}`, { viewport, colorScheme });
        if (view === 'play') {
          await own.getByLabel('Lesson', { exact: true }).selectOption('handover');
          await own.getByLabel('Speed').selectOption('5');
          await own.getByRole('button', { name: /Go on|Start/ }).click();
          await verdict(own);
        }
        if (view === 'balancers') {
          await own.getByText(/60 of 60 connections alive/).waitFor();
          await own.getByRole('button', { name: 'Add server 4' }).click();
          await own.getByText(/server 4 added: /).waitFor();
        }
        if (view === 'capture') {
          await own.locator('input[type=file]').setInputFiles(await ownCapture());
          await own.getByTestId('totals').waitFor();
          await own.locator('.graphs img').first().waitFor();
        }
        await own.waitForTimeout(400);
        // axe is put in by the test's own hand, past the page's policy.
        await own.evaluate(readFileSync(AXE, 'utf8'));
        const found = await own.evaluate(async () => {
          const { violations } = await (
            globalThis as unknown as { axe: { run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }> } }
          ).axe.run();
          return violations
            .filter((one) => one.impact === 'serious' || one.impact === 'critical')
            .map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 120)).join(' | ')}`);
        });
        expect(found).toEqual([]);
        // Nothing wider than the screen.
        expect(await own.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
        if (PICTURES) await own.screenshot({ path: join(ROOT, 'docs/web', `${view}-${colorScheme}-${name}.png`), fullPage: view !== 'capture' });
        expect(wrongs).toEqual([]);
        await context.close();
      });
    }
  }

  it('works by keyboard alone', async () => {
    const { tab: own, context } = await tab();
    await own.getByRole('button', { name: 'Start' }).focus();
    await own.keyboard.press('Enter');
    await own.getByRole('button', { name: 'Cut wifi' }).focus();
    await own.keyboard.press('Space');
    await own.getByRole('button', { name: 'Restore wifi' }).waitFor();
    await own.getByLabel('rate of lte').focus();
    const before = await own.getByLabel('rate of lte').getAttribute('aria-valuetext');
    await own.keyboard.press('ArrowRight');
    await own.waitForFunction((old) => document.querySelector('[aria-label="rate of lte"]')!.getAttribute('aria-valuetext') !== old, before);
    await context.close();
  });
});

describe('load balancers', () => {
  it.each(FARM_DESIGNS)('lesson %s: the page shows what the farm says', { timeout: 60_000 }, async (design) => {
    const { tab: own, context, wrongs } = await tab('#balancers');
    const run = new FarmRun(design);
    run.open(60);
    await own.getByLabel('Design').selectOption(design);
    const words = (): string => {
      const { connections, joined, subflows } = run.state();
      return `${connections.filter((one) => one.alive).length} of ${connections.length} connections alive, ${joined} with a second subflow, ${subflows} subflows`;
    };
    await own.getByText(words()).waitFor();
    for (const [button, does] of [
      ['Add server 4', () => run.addServer()],
      ['Replace the balancer', () => run.replace()],
    ] as const) {
      await own.getByRole('button', { name: button }).click();
      does();
      await own.getByText(run.state().log.at(-1)!).waitFor();
      await own.getByText(words()).waitFor();
    }
    if (design === 'f') expect(run.state()).toMatchObject({ joined: 60, subflows: 120 });
    expect(wrongs).toEqual([]);
    await context.close();
  });
});

/** A capture that the playground itself makes: the handover lesson. */
let made: string | null = null;
async function ownCapture(): Promise<string> {
  if (made !== null) return made;
  const { tab: own, context } = await tab();
  await own.getByLabel('Lesson', { exact: true }).selectOption('handover');
  await own.getByLabel('Speed').selectOption('20');
  await own.getByRole('button', { name: /Go on|Start/ }).click();
  await verdict(own);
  const [file] = await Promise.all([own.waitForEvent('download'), own.getByRole('button', { name: 'pcapng' }).click()]);
  made = join(directory, 'handover.pcapng');
  await file.saveAs(made);
  await context.close();
  return made;
}

describe('the capture viewer', () => {
  it('shows the same counts as the command line', { timeout: 60_000 }, async () => {
    const path = await ownCapture();
    const { stdout } = spawnSync(process.execPath, [CLI, 'trace', path, '--json'], { encoding: 'utf8' });
    const { totals } = JSON.parse(stdout) as { totals: Record<string, unknown> };
    const { tab: own, context, wrongs } = await tab('#capture');
    await own.locator('input[type=file]').setInputFiles(path);
    await own.getByTestId('totals').waitFor({ timeout: 30_000 });
    const shown = await own
      .locator('[data-total]')
      .evaluateAll((all) => Object.fromEntries(all.map((one) => [(one as HTMLElement).dataset['total']!, Number(one.textContent)])));
    const numbers = Object.fromEntries(Object.entries(totals).filter(([, value]) => typeof value === 'number'));
    expect(Object.keys(numbers).length).toBeGreaterThan(5);
    expect(shown).toEqual(numbers);
    expect(await own.locator('.graphs img').count()).toBeGreaterThan(4);
    expect(wrongs).toEqual([]);
    await context.close();
  });

  it('says what is wrong with a file, and stays alive: no capture, a cut one, one of 2 GB', { timeout: 90_000 }, async () => {
    const { tab: own, context } = await tab('#capture');
    const input = own.locator('input[type=file]');
    const text = join(directory, 'letter.txt');
    writeFileSync(text, 'Dear reader, this is no capture at all.\n'.repeat(10));
    await input.setInputFiles(text);
    expect(await own.getByRole('alert').textContent()).toContain('letter.txt');
    const whole = readFileSync(await ownCapture());
    const cut = join(directory, 'cut.pcapng');
    writeFileSync(cut, whole.subarray(0, Math.floor(whole.length * 0.6) + 3));
    await input.setInputFiles(cut);
    await own.getByTestId('totals').waitFor({ timeout: 30_000 });
    const large = join(directory, 'large.pcapng');
    const fd = openSync(large, 'w');
    writeSync(fd, whole);
    ftruncateSync(fd, 2 ** 31);
    closeSync(fd);
    await input.setInputFiles(large);
    await own.waitForFunction(
      () =>
        document.querySelector('[data-testid=totals]')?.textContent?.includes('large.pcapng') === true ||
        document.querySelector('[role=alert]')?.textContent?.includes('large.pcapng') === true,
      null,
      {
        timeout: 60_000,
      },
    );
    // And it reads the next one.
    await input.setInputFiles(await ownCapture());
    await own.waitForFunction(() => document.querySelector('[data-testid=totals]')?.textContent?.includes('handover.pcapng') === true, null, {
      timeout: 30_000,
    });
    await context.close();
  });
});

describeSystem('the dashboard', () => {
  it('shows a real kernel transfer over two subflows within a second, and lets nobody in without the token', { timeout: 90_000 }, async () => {
    const [client, server] = [new Namespace('page-c'), new Namespace('page-s')];
    try {
      ['wifi', 'lte'].forEach((name, i) => {
        vethPair(client, name, `192.0.2.${4 * i + 1}/30`, server, name, `192.0.2.${4 * i + 2}/30`);
        client.ip('rule', 'add', 'from', `192.0.2.${4 * i + 1}`, 'table', String(100 + i));
        client.ip('route', 'add', 'default', 'via', `192.0.2.${4 * i + 2}`, 'dev', name, 'table', String(100 + i));
      });
      client.ip('route', 'add', 'default', 'via', '192.0.2.2');
      for (const one of [client, server]) {
        one.sysctl('net.ipv4.conf.all.rp_filter', 0);
        one.sysctl('net.ipv4.tcp_congestion_control', 'reno');
        one.mptcpLimits(4, 4);
      }
      client.mptcpEndpoint('192.0.2.5', 'lte', 'subflow');
      const web = client.start(process.execPath, [CLI, 'web', '--port', '8099', '--token', 'secret', '--json']);
      await new Promise((resolve) => web.stdout!.once('data', resolve));
      const inside = (...args: string[]): string => client.run('curl', '-s', '-m', '5', ...args);
      const status = ['-o', '/dev/null', '-w', '%{http_code}'];
      expect(inside(...status, 'http://127.0.0.1:8099/api/live')).toBe('401');
      expect(inside(...status, '-H', 'Authorization: Bearer wrong', 'http://127.0.0.1:8099/api/live')).toBe('401');
      expect(inside(...status, '-H', 'Host: evil.example', 'http://127.0.0.1:8099/')).toBe('403');
      expect(inside(...status, '-X', 'POST', '-d', '{}', 'http://127.0.0.1:8099/api/change')).toBe('401');
      expect(inside('-D', '-', '-o', '/dev/null', 'http://127.0.0.1:8099/').toLowerCase()).toContain("content-security-policy: default-src 'none'");

      // A browser of that namespace: only its network is another.
      const wrapper = join(directory, 'chromium-inside');
      writeFileSync(wrapper, `#!/bin/sh\nexec nsenter --net=/run/netns/${client.name} /usr/bin/chromium "$@"\n`, { mode: 0o755 });
      const chrome = await chromium.launch({ executablePath: wrapper, args: ['--no-sandbox'] });
      const own = await (await chrome.newContext({ viewport: DESK })).newPage();
      await own.goto('http://127.0.0.1:8099/#machine=secret');
      await own.getByText('No Multipath TCP connection is open.').waitFor();
      // The token does not stay in the address bar.
      expect(own.url()).toBe('http://127.0.0.1:8099/#machine');
      server.start('mptcpize', ['run', 'iperf3', '-s', '-1']);
      await new Promise((resolve) => setTimeout(resolve, 500));
      const load = client.start('mptcpize', ['run', 'iperf3', '-c', '192.0.2.2', '-t', '8', '-b', '300M']);
      const began = performance.now();
      await own.getByTestId('connection').first().waitFor({ timeout: 10_000 });
      const appeared = performance.now() - began;
      await own.waitForFunction(
        () => {
          const busy = [...document.querySelectorAll('[data-testid=connection] tr:not(.head)')]
            .map((row) => row.textContent ?? '')
            .filter((row) => /\b[1-9][\d.]* Mbit\/s/.test(row));
          return busy.some((row) => row.includes('wifi')) && busy.some((row) => row.includes('lte'));
        },
        null,
        { timeout: 10_000 },
      );
      console.log(
        `a kernel transfer is on the page ${appeared.toFixed(0)} ms after its program was started, both subflows with their rates after ${(performance.now() - began).toFixed(0)} ms`,
      );
      expect(appeared).toBeLessThan(2000);
      // What may be changed is changed.
      await own.getByLabel('Address of a new endpoint').fill('192.0.2.1');
      await own.getByRole('button', { name: 'Add', exact: true }).click();
      await own.getByText('192.0.2.1 subflow').waitFor();
      expect(client.run('ip', 'mptcp', 'endpoint')).toContain('192.0.2.1 ');
      await own.getByLabel('Address of a new endpoint').fill('nowhere');
      await own.getByRole('button', { name: 'Add', exact: true }).click();
      await own.getByText('"nowhere" is no address').waitFor();
      if (PICTURES) {
        await new Promise((resolve) => setTimeout(resolve, 2500));
        await own.screenshot({ path: join(ROOT, 'docs/web', 'machine-live.png'), fullPage: true });
      }
      load.kill('SIGKILL');
      await chrome.close();
    } finally {
      client.remove();
      server.remove();
    }
  });
});
