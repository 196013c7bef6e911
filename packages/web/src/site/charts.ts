/** Bars of days and tables of shares, as SVG and HTML without a script. */
import { escapeHtml } from './html.ts';
import type { DayStatistics } from './statistics.ts';

const WIDTH = 960;
const HEIGHT = 220;
const LEFT = 44;
const BOTTOM = 24;
const SHOWN_DAYS = 60;

/** Requests per day, Multipath TCP below, plain TCP above. */
export function dayChart(days: readonly DayStatistics[]): string {
  const shown = days.slice(-SHOWN_DAYS);
  const top = Math.max(1, ...shown.map((one) => one.requests));
  const step = (WIDTH - LEFT) / Math.max(shown.length, 14);
  const scale = (value: number): number => (value / top) * (HEIGHT - BOTTOM - 10);
  const bars = shown.map((one, i) => {
    const x = LEFT + i * step;
    const yes = scale(one.multipath);
    const no = scale(one.requests - one.multipath);
    const base = HEIGHT - BOTTOM;
    const title = `<title>${one.day}: ${one.multipath} of ${one.requests} requests over Multipath TCP, ${one.visitors} visitors</title>`;
    const rect = (y: number, height: number, name: string): string =>
      `<rect x="${(x + 1).toFixed(1)}" y="${y.toFixed(1)}" width="${Math.max(1, step - 2).toFixed(1)}" height="${height.toFixed(1)}" class="${name}"/>`;
    const label =
      i % Math.ceil(shown.length / 8 || 1) === 0
        ? `<text x="${(x + step / 2).toFixed(1)}" y="${HEIGHT - 8}" text-anchor="middle">${one.day.slice(5)}</text>`
        : '';
    return `<g>${title}${rect(base - yes, yes, 'yes')}${rect(base - yes - no, no, 'no')}${label}</g>`;
  });
  const lines = [0, 0.5, 1].map((part) => {
    const y = HEIGHT - BOTTOM - scale(top * part);
    return `<line x1="${LEFT}" x2="${WIDTH}" y1="${y.toFixed(1)}" y2="${y.toFixed(1)}"/><text x="${LEFT - 6}" y="${(y + 4).toFixed(1)}" text-anchor="end">${Math.round(top * part)}</text>`;
  });
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="Requests per day" class="chart">${lines.join('')}${bars.join('')}</svg>`;
}

/** A table of counts, the largest first, with a bar for each share. */
export function shareTable(title: string, counts: Readonly<Record<string, number>>, names: Readonly<Record<string, string>> = {}): string {
  const rows = Object.entries(counts).toSorted((a, b) => b[1] - a[1]);
  const total = rows.reduce((sum, [, value]) => sum + value, 0);
  if (total === 0) return '';
  const lines = rows.map(([key, value]) => {
    const share = (100 * value) / total;
    return `<tr><th scope="row">${escapeHtml(names[key] ?? key)}</th><td>${value}</td><td><div class="bar" style="width:${share.toFixed(1)}%"></div></td><td>${share.toFixed(1)} %</td></tr>`;
  });
  return `<section><h2>${escapeHtml(title)}</h2><table>${lines.join('')}</table></section>`;
}

/** Sums of several days' tables. */
export function sumOf(days: readonly DayStatistics[], pick: (day: DayStatistics) => Readonly<Record<string, number>>): Record<string, number> {
  const out: Record<string, number> = {};
  for (const day of days) for (const [key, value] of Object.entries(pick(day))) out[key] = (out[key] ?? 0) + value;
  return out;
}
