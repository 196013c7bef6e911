/** A picture as data: what is drawn, not how. The renderers (terminal, SVG, HTML) take it from here. */

/** Okabe and Ito's palette: told apart by colour-blind people, too. */
export const PALETTE = ['#0072B2', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#56B4E9', '#8A7A00', '#666666'] as const;

export type Unit = 'bytes' | 'milliseconds' | 'bits per second' | 'count';

export interface Series {
  name: string;
  /** `segments`: from y to y2 at one time. `area`: from y to y2, filled between samples. */
  shape: 'segments' | 'points' | 'crosses' | 'line' | 'steps' | 'area' | 'bars';
  color: string;
  /** Seconds from the beginning of the plot's time axis. */
  x: Float64Array;
  y: Float64Array;
  y2?: Float64Array;
  /** Packet that each point comes from. */
  packet?: Float64Array;
  /** Drawn large: reinjections, retransmissions. */
  strong?: boolean;
  /** The scale does not look at it: a window may be far above the data. */
  loose?: boolean;
}

/** Something that happened at a time. */
export interface Mark {
  x: number;
  label: string;
  color: string;
}

export interface Plot {
  id: string;
  /** For tabs. */
  short: string;
  title: string;
  yTitle: string;
  unit: Unit;
  xMin: number;
  xMax: number;
  yMin: number;
  yMax: number;
  series: Series[];
  marks: Mark[];
  /** Named rows instead of a scale: the subflow time-line. */
  rows?: string[];
}

/** A value with its unit, short. */
export function valueLabel(value: number, unit: Unit): string {
  switch (unit) {
    case 'bytes':
      return scaled(value, ['B', 'kB', 'MB', 'GB', 'TB']);
    case 'bits per second':
      return scaled(value, ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s', 'Tbit/s']);
    case 'milliseconds':
      return value >= 1000 ? `${trim(value / 1000)} s` : `${trim(value)} ms`;
    case 'count':
      return trim(value);
  }
}

function scaled(value: number, units: readonly string[]): string {
  let rest = Math.abs(value);
  let at = 0;
  while (rest >= 1000 && at < units.length - 1) {
    rest /= 1000;
    at++;
  }
  return `${value < 0 ? '-' : ''}${trim(rest)} ${units[at]}`;
}

function trim(value: number): string {
  return String(Number(value.toPrecision(4)));
}

/** Round numbers over a range, about `count` of them. */
export function ticks(from: number, to: number, count: number): number[] {
  const span = to - from;
  if (!(span > 0)) return [from];
  const raw = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw) ?? raw;
  const out: number[] = [];
  for (let i = Math.ceil(from / step); i * step <= to + step * 1e-9; i++) out.push(Number((i * step).toPrecision(12)));
  return out;
}

/** The plot with a part of its time axis, its values scaled to what is there. */
export function zoomed(plot: Plot, from: number, to: number): Plot {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const series of plot.series.filter((one) => one.loose !== true))
    for (let i = 0; i < series.x.length; i++) {
      if (series.x[i]! < from || series.x[i]! > to) continue;
      low = Math.min(low, series.y[i]!, series.y2?.[i] ?? series.y[i]!);
      high = Math.max(high, series.y[i]!, series.y2?.[i] ?? series.y[i]!);
    }
  const scaledToFit = low < high && plot.rows === undefined;
  return {
    ...plot,
    xMin: from,
    xMax: to,
    yMin: scaledToFit ? (plot.yMin === 0 && plot.unit !== 'bytes' ? 0 : low) : plot.yMin,
    yMax: scaledToFit ? high : plot.yMax,
  };
}
