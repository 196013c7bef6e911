/** The HTML report in Chromium: it works from the disk alone, zooms, tells about points, switches series; a million points stay smooth. */
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Analyzer, connectionReport, Recorder } from '@subflow/trace';
import type { Connection } from '@subflow/trace';
import { htmlReport } from '@subflow/trace/node';
import type { Frame } from './emulated.ts';
import { phone } from './phone.ts';

const SCREENSHOTS = process.env['SUBFLOW_SCREENSHOTS'];
const directory = mkdtempSync(join(tmpdir(), 'subflow-report-'));

interface ShownChart {
  shown: { x0: number; x1: number; y0: number; y1: number };
  lastFrame: number;
  goTo(time: number): void;
  redraw(): void;
}

/** The page of a capture, its connection's points multiplied `times` (for weight, not for sense). */
function pageOf(frames: readonly Frame[], times = 1): string {
  const kept: Connection[] = [];
  const recorder = new Recorder(() => true);
  const analyzer = new Analyzer({ points: recorder, onConnection: (one) => kept.push(one) });
  for (const frame of frames)
    analyzer.frame(
      new DataView(frame.bytes.buffer),
      frame.bytes,
      0,
      frame.bytes.length,
      frame.bytes.length,
      101,
      1_700_000_000 + Math.floor(frame.time / 1e6),
      (frame.time % 1e6) * 1000,
    );
  analyzer.end();
  const recording = recorder.recordings.get(0)!;
  const { payload } = recording;
  const rows = payload.length;
  for (let i = 1; i < times; i++)
    for (let row = 0; row < rows; row++)
      payload.add(
        payload.get('time')[row]!,
        payload.get('side')[row]!,
        payload.get('subflow')[row]!,
        payload.get('position')[row]! + i * 7,
        payload.get('length')[row]!,
        payload.get('kind')[row]!,
        payload.get('packet')[row]!,
      );
  return htmlReport({
    title: 'A phone leaves cellular for Wi-Fi',
    totals: analyzer.totals(),
    span: { start: '2023-11-14T22:13:20.000Z', seconds: analyzer.time / 1e6 },
    files: ['phone.pcapng'],
    drawn: [{ connection: kept[0]!, report: connectionReport(kept[0]!), recording }],
    left: 0,
  });
}

describe('the HTML report', () => {
  let browser: Browser;
  let page: Page;
  const problems: string[] = [];
  const frames = phone().captured.client.toSorted((a, b) => a.time - b.time);

  const open = async (html: string): Promise<Page> => {
    const file = join(directory, 'report.html');
    writeFileSync(file, html);
    const made = await browser.newPage({ viewport: { width: 1300, height: 1400 } });
    made.on('pageerror', (error) => problems.push(error.message));
    // Counting pixels is the test's own doing.
    made.on('console', (message) => message.text().includes('willReadFrequently') || problems.push(message.text()));
    made.on('request', (request) => {
      if (!/^(file|data|blob):/.test(request.url())) problems.push(`asked for ${request.url()}`);
    });
    await made.goto(`file://${file}`);
    await made.waitForSelector('html[data-ready=true]');
    await made.waitForTimeout(200);
    return made;
  };
  const chart = <T>(read: (one: ShownChart) => T): Promise<T> => page.evaluate(`(${String(read)})(window.subflowCharts[0])`) as Promise<T>;

  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
    page = await open(pageOf(frames));
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it('shows the picture, the tables and the story', async () => {
    expect(await page.locator('h1').textContent()).toBe('A phone leaves cellular for Wi-Fi');
    expect(await page.locator('.story tbody tr').count()).toBeGreaterThan(10);
    expect(await page.locator('.story').textContent()).toContain('The client asks that subflow 1 be a backup (MP_PRIO).');
    expect(await page.locator('.tabs button').count()).toBeGreaterThanOrEqual(6);
    expect(await ink(page)).toBeGreaterThan(2000);
  });

  it('the wheel zooms, the drag moves, a double click shows the whole again', async () => {
    const whole = await chart((one) => one.shown);
    const box = (await page.locator('canvas').boundingBox())!;
    await page.mouse.move(box.x + 700, box.y + 200);
    await page.mouse.wheel(0, -500);
    await page.waitForTimeout(150);
    const near = await chart((one) => one.shown);
    expect(near.x1 - near.x0).toBeLessThan((whole.x1 - whole.x0) * 0.6);
    await page.mouse.down();
    await page.mouse.move(box.x + 500, box.y + 200, { steps: 4 });
    await page.mouse.up();
    await page.waitForTimeout(100);
    const moved = await chart((one) => one.shown);
    expect(moved.x0).toBeGreaterThan(near.x0);
    expect(moved.x1 - moved.x0).toBeCloseTo(near.x1 - near.x0, 9);
    await page.mouse.dblclick(box.x + 600, box.y + 200);
    await page.waitForTimeout(100);
    expect(await chart((one) => one.shown)).toEqual(whole);
  });

  it('a line of the story leads to its moment; a point there tells its packet', async () => {
    await page.locator('.story tbody tr', { hasText: 'reinjected on subflow 2' }).click();
    await page.waitForTimeout(200);
    const { x0, x1 } = await chart((one) => one.shown);
    expect((x0 + x1) / 2).toBeCloseTo(5.146, 1);
    const box = (await page.locator('canvas').boundingBox())!;
    let text = '';
    for (let y = 20; y < box.height - 40 && !text.includes('packet'); y += 6) {
      await page.mouse.move(box.x + 84 + (box.width - 98) / 2, box.y + y);
      text = (await page.locator('.tip').isVisible()) ? await page.locator('.tip').innerText() : '';
    }
    expect(text).toMatch(/^(subflow \d|reinjected|retransmitted|DATA_ACK)\n5\.\d{6} s\n(bytes [\d,]+ to [\d,]+|[\d,]+ bytes)\npacket \d+$/);
  });

  it('series can be switched off and on', async () => {
    const all = await ink(page);
    for (const box of await page.locator('.legend input').all()) await box.uncheck();
    await page.waitForTimeout(150);
    expect(all - (await ink(page))).toBeGreaterThan(3000);
    for (const box of await page.locator('.legend input').all()) await box.check();
    await page.waitForTimeout(150);
    expect(await ink(page)).toBe(all);
  });

  it('every tab draws', async () => {
    for (const tab of await page.locator('.tabs button').all()) {
      await tab.click();
      await page.waitForTimeout(120);
      expect(await ink(page)).toBeGreaterThan(1500);
    }
    await page.locator('.tabs button').first().click();
  });

  it('keys work, too', async () => {
    await page.locator('canvas').focus();
    await page.keyboard.press('0');
    await page.waitForTimeout(80);
    const before = await chart((one) => one.shown);
    await page.keyboard.press('+');
    await page.waitForTimeout(80);
    const after = await chart((one) => one.shown);
    expect(after.x1 - after.x0).toBeLessThan(before.x1 - before.x0);
    await page.keyboard.press('0');
  });

  it('asks for nothing, and nothing goes wrong', async () => {
    if (SCREENSHOTS !== undefined) {
      mkdirSync(SCREENSHOTS, { recursive: true });
      await page.waitForTimeout(200);
      await page.screenshot({ path: join(SCREENSHOTS, 'report.png') });
      await chart((one) => one.goTo(5.05));
      await page.waitForTimeout(300);
      await page.locator('section').screenshot({ path: join(SCREENSHOTS, 'report-zoom.png'), clip: { x: 0, y: 0, width: 1300, height: 900 } } as object);
    }
    expect(problems).toEqual([]);
  });

  it('a million points are drawn within a frame or two, wherever one looks', async () => {
    const heavy = await open(pageOf(frames, 180));
    const points = await heavy.evaluate(
      `JSON.parse(document.querySelector('script[type="application/json"]').textContent)[0].series.reduce((n, one) => n + one.count, 0)`,
    );
    expect(points).toBeGreaterThan(1_000_000);
    const times = (await heavy.evaluate(`(async () => {
      const chart = window.subflowCharts[0];
      const out = [];
      for (let i = 0; i < 20; i++) {
        if (i > 0) chart.goTo(4 + i / 10); else chart.reset();
        await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
        out.push(chart.lastFrame);
      }
      return out;
    })()`)) as number[];
    console.log(
      `${String(points)} points: whole ${times[0]!.toFixed(1)} ms, zoomed ${times
        .slice(1)
        .map((one) => one.toFixed(0))
        .join(' ')} ms a frame`,
    );
    // Not a benchmark: this only keeps the drawing from becoming quadratic.
    expect(Math.max(...times)).toBeLessThan(500);
    await heavy.close();
  }, 90_000);
});

/** Pixels of the canvas that are neither paper nor transparent. */
async function ink(page: Page): Promise<number> {
  return (await page.evaluate(`(() => {
    const canvas = document.querySelector('canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 3; i < data.length; i += 4) if (data[i] > 40) count++;
    return count;
  })()`)) as number;
}
