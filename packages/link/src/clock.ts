/** The real clock, microseconds since this process started measuring. */
const start = process.hrtime.bigint();

export function now(): number {
  return Number(process.hrtime.bigint() - start) / 1000;
}

/** Wall-clock time of `now() === 0`, microseconds since the epoch: for captures. */
export const epoch: number = Date.now() * 1000 - now();
