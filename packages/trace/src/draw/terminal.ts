/** A plot in characters: Braille cells of two by four dots, coloured by the series that has most of them. */
import type { Paint } from './text.ts';
import { PALETTE, ticks, valueLabel } from './plot.ts';
import type { Plot, Series } from './plot.ts';

/** Bits of a Braille cell, by column and row of its dots (Unicode 16, block 2800). */
const DOTS = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
] as const;
const GUTTER = 11;

export function terminalPlot(plot: Plot, columns: number, rows: number, paint: Paint): string[] {
  const width = Math.max(20, columns - GUTTER - 1);
  const height = Math.max(6, rows - 5);
  const cells = new Uint8Array(width * height);
  const owners = new Int16Array(width * height).fill(-1);
  // What lies outside is put just outside: a line to it must not take a million steps.
  const bound = (value: number, most: number): number => (value < -1 ? -1 : value > most ? most : Math.floor(value));
  const x = (value: number): number => bound(((value - plot.xMin) / (plot.xMax - plot.xMin || 1)) * (width * 2 - 1), width * 2);
  const y = (value: number): number => height * 4 - 1 - bound(((value - plot.yMin) / (plot.yMax - plot.yMin || 1)) * (height * 4 - 1), height * 4);
  const dot = (px: number, py: number, owner: number): void => {
    if (px < 0 || py < 0 || px >= width * 2 || py >= height * 4) return;
    const cell = (py >> 2) * width + (px >> 1);
    cells[cell]! |= DOTS[px & 1]![py & 3]!;
    owners[cell] = owner;
  };
  plot.series.forEach((series, i) => drawSeries(series, i, plot, x, y, dot));
  const labels = new Map<number, string>();
  if (plot.rows === undefined)
    for (const tick of ticks(plot.yMin, plot.yMax, Math.max(2, Math.floor(height / 3)))) labels.set(y(tick) >> 2, valueLabel(tick, plot.unit));
  else plot.rows.forEach((_, i) => labels.set(y(plot.rows!.length - 0.5 - i) >> 2, `subflow ${i + 1}`));
  const out = [paint.bold(plot.title)];
  for (let row = 0; row < height; row++) {
    let line = `${(labels.get(row) ?? '').padStart(GUTTER - 1)} │`;
    for (let column = 0; column < width; column++) {
      const bits = cells[row * width + column]!;
      if (bits === 0) line += ' ';
      else line += paintOf(plot.series[owners[row * width + column]!]!, String.fromCharCode(0x2800 + bits), paint);
    }
    out.push(line.trimEnd());
  }
  out.push(`${' '.repeat(GUTTER)}└${'─'.repeat(width)}`, axis(plot, width, x));
  const names = plot.series.filter((one) => one.x.length > 0 && !one.color.endsWith('40')).map((one) => paintOf(one, one.name, paint));
  out.push(`${' '.repeat(GUTTER + 1)}${names.join('   ')}`);
  return out;
}

function paintOf(series: Series, text: string, paint: Paint): string {
  const index = PALETTE.indexOf(series.color.slice(0, 7) as (typeof PALETTE)[number]);
  if (index >= 0) return paint.subflow(index, text);
  return series.strong === true ? paint.severity('error', text) : paint.dim(text);
}

function axis(plot: Plot, width: number, x: (value: number) => number): string {
  const line = Array.from({ length: width + GUTTER + 1 }, () => ' ');
  for (const tick of ticks(plot.xMin, plot.xMax, Math.floor(width / 12))) {
    const text = `${tick} s`;
    const at = GUTTER + 1 + (x(tick) >> 1) - (tick === plot.xMin ? 0 : Math.floor(text.length / 2));
    if (at + text.length <= line.length) for (let i = 0; i < text.length; i++) line[at + i] = text[i]!;
  }
  return line.join('').trimEnd();
}

function drawSeries(
  series: Series,
  owner: number,
  plot: Plot,
  x: (value: number) => number,
  y: (value: number) => number,
  dot: (px: number, py: number, owner: number) => void,
): void {
  const column = (px: number, from: number, to: number): void => {
    for (let py = Math.min(from, to); py <= Math.max(from, to); py++) dot(px, py, owner);
  };
  let lastX = Number.NaN;
  let lastY = 0;
  for (let i = 0; i < series.x.length; i++) {
    const value = series.x[i]!;
    const px = x(value);
    const py = y(series.y[i]!);
    switch (series.shape) {
      case 'segments':
        if (value >= plot.xMin && value <= plot.xMax) column(px, py, y(series.y2![i]!));
        break;
      case 'points':
      case 'crosses':
        dot(px, py, owner);
        break;
      case 'area':
        // Between two samples the band goes on.
        for (let k = Math.max(0, lastX === lastX ? lastX + 1 : px); k <= px; k++) column(k, Math.max(y(series.y2![i]!), 0), py - 1);
        break;
      case 'bars':
        if (i % 2 === 0) for (let k = Math.max(0, px); k <= Math.min(x(plot.xMax), x(series.x[i + 1]!)); k++) column(k, py, y(series.y2![i]!));
        break;
      default:
        // A line goes from the point before: along, then up or down.
        if (lastX === lastX) {
          for (let k = Math.max(0, lastX); k <= Math.min(px, x(plot.xMax)); k++) dot(k, lastY, owner);
          column(px, lastY, py);
        } else {
          dot(px, py, owner);
        }
    }
    lastX = px;
    lastY = py;
  }
}
