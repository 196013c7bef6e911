/** The plot: data sequence number over time coloured per path, throughput per path below. */
import type { Scenario } from '@subflow/emulator';
import { SAMPLE } from './progress.ts';
import type { Progress } from './progress.ts';
import type { WireRecorder } from './wire-recorder.ts';

/** Okabe and Ito's palette: told apart by colour-blind people too. */
const COLORS = ['#0072B2', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#56B4E9', '#F0E442', '#000000'];
const WIDTH = 960;
const LEFT = 70;
const RIGHT = 20;
const TOP = 50;
const UPPER = 340;
const GAP = 50;
const LOWER = 180;
const HEIGHT = TOP + UPPER + GAP + LOWER + 50;
const PLOT = WIDTH - LEFT - RIGHT;
/** More marks than this per kind only make the file larger. */
const MAX_MARKS = 12_000;

export function plot(scenario: Scenario, progress: Progress, recorder: WireRecorder, seconds: number): string {
  const end = Math.max(seconds, 0.001);
  const size = scenario.transfer.size;
  const x = (time: number): number => LEFT + (PLOT * Math.min(time, end)) / end;
  const y = (position: number): number => TOP + UPPER - (UPPER * Math.min(position, size)) / size;
  const out: string[] = [];
  out.push(
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12" role="img" aria-label="Data sequence number and throughput over time">`,
  );
  out.push(`<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`);
  out.push(
    `<text x="${LEFT}" y="24" font-size="16">${escape(scenario.name)}: ${(size / 1e6).toFixed(0)} MB ${scenario.transfer.direction} over ${scenario.paths.map((path) => escape(path.name)).join(' and ')}</text>`,
  );
  scenario.paths.forEach((path, i) => {
    out.push(
      `<rect x="${LEFT + 130 * i}" y="32" width="10" height="10" fill="${COLORS[i]}"/><text x="${LEFT + 130 * i + 14}" y="41">${escape(path.name)}</text>`,
    );
  });
  const top = Math.max(
    1,
    ...scenario.paths.map((path) => path.link.rate),
    ...progress.paths.flatMap((path) => path.samples.map((bytes) => (bytes * 8) / SAMPLE)),
  );
  const base = TOP + UPPER + GAP + LOWER;
  const ty = (bits: number): number => base - (LOWER * Math.min(bits, top)) / top;
  for (const [from, to] of cuts(scenario, end))
    out.push(`<rect x="${x(from).toFixed(1)}" y="${TOP}" width="${(x(to) - x(from)).toFixed(1)}" height="${base - TOP}" fill="#00000010"/>`);
  axes(out, end, size, top, x, base);
  const every = Math.max(1, Math.ceil(recorder.sightings.length / MAX_MARKS));
  scenario.paths.forEach((_, i) => {
    const marks = recorder.sightings.filter((one, k) => one.path === i && (one.kind !== 'new' || k % every === 0));
    const dot = (kind: string, radius: number): string =>
      marks
        .filter((one) => (one.kind === 'reinjection') === (kind === 'reinjection'))
        .map((one) => `M${x(one.time).toFixed(1)} ${y(one.position).toFixed(1)}h${radius}v${radius}h-${radius}z`)
        .join('');
    out.push(`<path d="${dot('new', 1.4)}" fill="${COLORS[i]}"/>`);
    const again = dot('reinjection', 3);
    if (again !== '') out.push(`<path d="${again}" fill="${COLORS[i]}" stroke="black" stroke-width="0.4"><title>reinjected</title></path>`);
  });
  progress.paths.forEach((path, i) => {
    const points = path.samples.map((bytes, k) => `${x((k + 0.5) * SAMPLE).toFixed(1)},${ty((bytes * 8) / SAMPLE).toFixed(1)}`).join(' ');
    out.push(`<polyline points="${points}" fill="none" stroke="${COLORS[i]}" stroke-width="1.6"/>`);
  });
  out.push('</svg>');
  return `${out.join('\n')}\n`;
}

function axes(out: string[], end: number, size: number, top: number, x: (time: number) => number, base: number): void {
  const line = (x1: number, y1: number, x2: number, y2: number, color = '#888'): void =>
    void out.push(`<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="${color}" stroke-width="0.6"/>`);
  const text = (at: number, y: number, value: string, anchor = 'end'): void =>
    void out.push(`<text x="${at.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" fill="#333">${value}</text>`);
  line(LEFT, TOP, LEFT, TOP + UPPER);
  line(LEFT, TOP + UPPER, LEFT + PLOT, TOP + UPPER);
  line(LEFT, base - LOWER, LEFT, base);
  line(LEFT, base, LEFT + PLOT, base);
  for (let i = 0; i <= 4; i++) {
    text(LEFT - 6, TOP + UPPER - (UPPER * i) / 4 + 4, `${((size * i) / 4e6).toFixed(0)} MB`);
    if (i <= 2) text(LEFT - 6, base - (LOWER * i) / 2 + 4, `${((top * i) / 2e6).toFixed(0)}`);
  }
  const step = [1, 2, 5, 10, 20, 60].find((one) => end / one <= 15) ?? 120;
  for (let t = 0; t <= end; t += step) {
    line(x(t), TOP, x(t), base, '#eee');
    text(x(t), base + 16, `${t} s`, 'middle');
  }
  text(LEFT, TOP + UPPER + GAP - 8, 'Throughput per path, Mbit/s', 'start');
}

function cuts(scenario: Scenario, end: number): [number, number][] {
  const out: [number, number][] = [];
  const since = new Map<string, number>();
  for (const step of [...scenario.timeline].sort((a, b) => a.at - b.at)) {
    if (step.up === false && !since.has(step.path)) since.set(step.path, step.at / 1e6);
    if (step.up === true && since.has(step.path)) {
      out.push([since.get(step.path)!, Math.min(end, step.at / 1e6)]);
      since.delete(step.path);
    }
  }
  for (const from of since.values()) out.push([from, end]);
  return out.filter(([from, to]) => from < to);
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
