/** Quantities as people write them: `20 Mbit/s`, `15 ms`, `0.1 %`, `40 MB`. */

const TIME: Record<string, number> = { us: 1, µs: 1, ms: 1e3, s: 1e6, min: 60e6, h: 3600e6 };
const RATE: Record<string, number> = { 'bit/s': 1, 'kbit/s': 1e3, 'mbit/s': 1e6, 'gbit/s': 1e9, bps: 1, kbps: 1e3, mbps: 1e6, gbps: 1e9 };
const SIZE: Record<string, number> = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9, kib: 1024, mib: 1024 ** 2, gib: 1024 ** 3 };

/** Microseconds; a bare number means seconds. Null when it is no duration. */
export function parseDuration(value: string | number): number | null {
  return quantity(value, TIME, 1e6);
}

/** Bits per second. */
export function parseRate(value: string | number): number | null {
  return quantity(value, RATE, 1);
}

/** Bytes. */
export function parseSize(value: string | number): number | null {
  return quantity(value, SIZE, 1);
}

/** A probability from `0.1 %` or `0.001`. */
export function parseProbability(value: string | number): number | null {
  const result = quantity(value, { '%': 0.01 }, 1);
  return result === null || result > 1 ? null : result;
}

function quantity(value: string | number, units: Record<string, number>, bare: number): number | null {
  if (typeof value === 'number') return Number.isFinite(value) && value >= 0 ? value * bare : null;
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-zA-Zµ%/]*)\s*$/.exec(value);
  if (match === null) return null;
  if (match[2] === '') return Number(match[1]) * bare;
  const unit = units[match[2]!.toLowerCase()];
  return unit === undefined ? null : Number(match[1]) * unit;
}
