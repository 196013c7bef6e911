/** Two connections as one: bytes, half-closes and resets pass in both directions. */
import type { Socket } from '../socket.ts';

export interface RelayResult {
  /** Bytes from the first to the second socket, and back. */
  there: number;
  back: number;
  /** How it ended. */
  end: 'normal' | 'reset' | 'idle';
}

/** Both sockets must allow half-open connections. Resolves when both are closed. */
export function relay(a: Socket, b: Socket, idle: number): Promise<RelayResult> {
  return new Promise((resolve) => {
    let end: RelayResult['end'] = 'normal';
    let open = 2;
    const closed = (): void => {
      if (--open === 0) resolve({ there: a.bytesRead, back: b.bytesRead, end });
    };
    // A connection that broke is a reset for the other side too; an end would claim that everything had arrived.
    const broke = (one: Socket, other: Socket): void => {
      if (end === 'normal' && !(one.readableEnded && one.writableFinished)) end = 'reset';
      if (!other.destroyed && end !== 'normal') other.resetAndDestroy();
    };
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      one.on('error', () => broke(one, other));
      one.on('close', () => {
        broke(one, other);
        closed();
      });
      if (idle > 0) {
        one.setTimeout(idle, () => {
          end = 'idle';
          a.resetAndDestroy();
          b.resetAndDestroy();
        });
      }
      one.pipe(other);
    }
    if (a.destroyed) broke(a, b);
    if (b.destroyed) broke(b, a);
    if (a.destroyed) closed();
    if (b.destroyed) closed();
  });
}
