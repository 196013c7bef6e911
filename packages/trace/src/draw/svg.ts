/** A plot as SVG. What falls on the same half pixel is drawn once, so that a million points stay a small file. */
import type { Plot, Series } from './plot.ts';
import { ticks, valueLabel } from './plot.ts';

export interface SvgOptions {
  width?: number;
  height?: number;
}

const LEFT = 78;
const RIGHT = 16;
const BOTTOM = 44;
const FONT = 'font-family="DejaVu Sans, Verdana, sans-serif"';
/** Names in the legend beyond this go on another line. */
const LEGEND_LINE = 18;

export function svgOf(plot: Plot, options: SvgOptions = {}): string {
  const width = options.width ?? 1000;
  const legend = layoutLegend(plot.series, width);
  const top = 34 + legend.height;
  const height = options.height ?? Math.max(360, top + BOTTOM + (plot.rows === undefined ? 300 : plot.rows.length * 46));
  const right = width - RIGHT;
  const bottom = height - BOTTOM;
  const x = (value: number): number => LEFT + ((value - plot.xMin) / (plot.xMax - plot.xMin)) * (right - LEFT);
  const y = (value: number): number => bottom - ((value - plot.yMin) / (plot.yMax - plot.yMin || 1)) * (bottom - top);
  const out: string[] = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ${FONT} font-size="11" role="img" aria-label="${escapeXml(plot.title)}">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    `<text x="${LEFT}" y="20" font-size="14">${escapeXml(plot.title)}</text>`,
    legend.svg,
    `<clipPath id="area"><rect x="${LEFT}" y="${top}" width="${right - LEFT}" height="${bottom - top}"/></clipPath>`,
  ];
  for (const tick of ticks(plot.xMin, plot.xMax, 10)) {
    out.push(
      `<path d="M${f(x(tick))} ${top}V${bottom}" stroke="#eee"/>`,
      `<text x="${f(x(tick))}" y="${bottom + 15}" text-anchor="middle" fill="#444">${tick}</text>`,
    );
  }
  out.push(`<text x="${(LEFT + right) / 2}" y="${height - 8}" text-anchor="middle" fill="#444">Time, s</text>`);
  if (plot.rows === undefined) {
    for (const tick of ticks(plot.yMin, plot.yMax, 6))
      out.push(
        `<path d="M${LEFT} ${f(y(tick))}H${right}" stroke="#eee"/>`,
        `<text x="${LEFT - 6}" y="${f(y(tick) + 4)}" text-anchor="end" fill="#444">${valueLabel(tick, plot.unit)}</text>`,
      );
  }
  out.push('<g clip-path="url(#area)">');
  for (const series of plot.series) out.push(drawSeries(series, plot, x, y));
  out.push('</g>');
  plot.rows?.forEach((name, i) => out.push(`<text x="${LEFT + 4}" y="${f(y(plot.rows!.length - i) + 11)}" fill="#222">${escapeXml(name)}</text>`));
  drawMarks(plot, x, top, bottom, out);
  out.push(`<rect x="${LEFT}" y="${top}" width="${right - LEFT}" height="${bottom - top}" fill="none" stroke="#888"/>`, '</svg>');
  return `${out.filter((line) => line !== '').join('\n')}\n`;
}

function drawMarks(plot: Plot, x: (value: number) => number, top: number, bottom: number, out: string[]): void {
  let last = Number.NEGATIVE_INFINITY;
  let level = 0;
  for (const mark of plot.marks) {
    if (mark.x < plot.xMin || mark.x > plot.xMax) continue;
    const at = x(mark.x);
    // Labels that would lie over one another go one line down.
    level = at - last < 90 ? (level + 1) % 6 : 0;
    last = at;
    out.push(
      `<path d="M${f(at)} ${top}V${bottom}" stroke="${mark.color}" stroke-dasharray="3 3" stroke-width="0.8"/>`,
      `<text x="${f(at + 3)}" y="${top + 12 + level * 12}" fill="${mark.color}" font-size="10">${escapeXml(mark.label)}</text>`,
    );
  }
}

function drawSeries(series: Series, plot: Plot, x: (value: number) => number, y: (value: number) => number): string {
  switch (series.shape) {
    case 'segments':
      return segments(series, x, y);
    case 'points':
    case 'crosses':
      return points(series, x, y);
    case 'line':
    case 'steps':
      return line(series, x, y);
    case 'area':
      return area(series, x, y);
    case 'bars':
      return bars(series, x, y, plot);
  }
}

function segments(series: Series, x: (value: number) => number, y: (value: number) => number): string {
  const parts: string[] = [];
  let lastX = Number.NaN;
  let low = 0;
  let high = 0;
  // Neighbours in time that touch become one stroke.
  const flush = (): void => {
    if (lastX === lastX) parts.push(`M${f(lastX)} ${f(low)}V${f(Math.min(high, low - 0.5))}`);
  };
  for (let i = 0; i < series.x.length; i++) {
    const px = Math.round(x(series.x[i]!) * 2) / 2;
    const a = y(series.y[i]!);
    const b = y(series.y2![i]!);
    if (px === lastX && a <= low + 0.5 && b >= high - 40 && a >= high - 0.5) {
      high = Math.min(high, b);
      continue;
    }
    flush();
    lastX = px;
    low = a;
    high = b;
  }
  flush();
  return parts.length === 0
    ? ''
    : `<path d="${parts.join('')}" stroke="${series.color}" stroke-width="${series.strong === true ? 3 : 1.6}" fill="none"><title>${escapeXml(series.name)}</title></path>`;
}

function points(series: Series, x: (value: number) => number, y: (value: number) => number): string {
  const seen = new Set<number>();
  const parts: string[] = [];
  for (let i = 0; i < series.x.length; i++) {
    const px = Math.round(x(series.x[i]!) * 2);
    const py = Math.round(y(series.y[i]!) * 2);
    const key = px * 16384 + py;
    if (seen.has(key)) continue;
    seen.add(key);
    parts.push(series.shape === 'crosses' ? `M${px / 2 - 1.2} ${py / 2 - 1.2}l2.4 2.4m0 -2.4l-2.4 2.4` : `M${px / 2 - 0.8} ${py / 2}h1.6`);
  }
  return parts.length === 0
    ? ''
    : `<path d="${parts.join('')}" stroke="${series.color}" stroke-width="${series.shape === 'crosses' ? 0.5 : 1.6}" fill="none"><title>${escapeXml(series.name)}</title></path>`;
}

function line(series: Series, x: (value: number) => number, y: (value: number) => number): string {
  let path = '';
  let lastX = Number.NaN;
  let lastY = Number.NaN;
  let low = 0;
  let high = 0;
  for (let i = 0; i < series.x.length; i++) {
    const px = Math.round(x(series.x[i]!) * 2) / 2;
    const py = y(series.y[i]!);
    if (px === lastX) {
      low = Math.max(low, py);
      high = Math.min(high, py);
      lastY = py;
      continue;
    }
    // All values of one column of pixels: from the lowest to the highest.
    if (lastX === lastX && high !== low) path += `V${f(low)}V${f(high)}V${f(lastY)}`;
    path += path === '' ? `M${f(px)} ${f(py)}` : series.shape === 'steps' ? `H${f(px)}V${f(py)}` : `L${f(px)} ${f(py)}`;
    lastX = px;
    lastY = low = high = py;
  }
  return path === '' ? '' : `<path d="${path}" stroke="${series.color}" stroke-width="1.2" fill="none"><title>${escapeXml(series.name)}</title></path>`;
}

function area(series: Series, x: (value: number) => number, y: (value: number) => number): string {
  const upper: string[] = [];
  const lower: string[] = [];
  for (let i = 0; i < series.x.length; i++) {
    upper.push(`${f(x(series.x[i]!))} ${f(y(series.y2![i]!))}`);
    lower.push(`${f(x(series.x[i]!))} ${f(y(series.y[i]!))}`);
  }
  return `<path d="M${upper.join('L')}L${lower.toReversed().join('L')}Z" fill="${series.color}" fill-opacity="0.75"><title>${escapeXml(series.name)}</title></path>`;
}

function bars(series: Series, x: (value: number) => number, y: (value: number) => number, plot: Plot): string {
  const parts: string[] = [];
  for (let i = 0; i + 1 < series.x.length; i += 2) {
    const left = x(Math.max(plot.xMin, series.x[i]!));
    const width = Math.max(0.6, x(Math.min(plot.xMax, series.x[i + 1]!)) - left);
    parts.push(`M${f(left)} ${f(y(series.y[i]!))}h${f(width)}V${f(y(series.y2![i]!))}h-${f(width)}z`);
  }
  return `<path d="${parts.join('')}" fill="${series.color}"><title>${escapeXml(series.name)}</title></path>`;
}

function layoutLegend(series: readonly Series[], width: number): { svg: string; height: number } {
  const out: string[] = [];
  let x = LEFT;
  let y = 30;
  for (const one of series) {
    if (one.shape === 'bars') continue;
    const wide = 24 + one.name.length * 6.4;
    if (x + wide > width - RIGHT) {
      x = LEFT;
      y += LEGEND_LINE;
    }
    out.push(`<rect x="${x}" y="${y}" width="10" height="10" fill="${one.color}"/><text x="${x + 14}" y="${y + 9}">${escapeXml(one.name)}</text>`);
    x += wide;
  }
  return { svg: out.join('\n'), height: out.length === 0 ? 0 : y - 30 + LEGEND_LINE };
}

export function escapeXml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

function f(value: number): string {
  return String(Math.round(value * 10) / 10);
}
