/** Keyed functions of a host's secret (RFC 6528 §3): one for each purpose, and what one gives away says nothing about another. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { initialSequence, timestampOffset } from '../src/tcp/isn.ts';
import { HostSecret } from '../src/tcp/keyed-hash.ts';
import type { Purpose } from '../src/tcp/keyed-hash.ts';
import { makeCookie } from '../src/tcp/syn-cookie.ts';

const PURPOSES: readonly Purpose[] = ['isn', 'timestamp', 'port', 'fast-open', 'syn-cookie', 'mptcp-key', 'challenge'];

const address = fc
  .constantFrom(4, 16)
  .chain((size) => fc.tuple(fc.uint8Array({ minLength: size, maxLength: size }), fc.uint8Array({ minLength: size, maxLength: size })));
const port = fc.nat(65_535);
const ends = fc.tuple(address, port, port).map(([[local, remote], localPort, remotePort]) => ({ local, localPort, remote, remotePort }));
const fields = fc.array(fc.integer(), { maxLength: 3 });
const secret = fc.uint8Array({ minLength: 32, maxLength: 32 });

describe('the keyed functions of a host', () => {
  it('give each purpose another value, the same one again, and another host another one', () => {
    fc.assert(
      fc.property(secret, ends, fields, (bytes, tuple, numbers) => {
        const host = new HostSecret(bytes);
        const words = PURPOSES.map((purpose) => host.words(purpose, tuple, numbers).join());
        expect(new Set(words).size).toBe(PURPOSES.length);
        expect(PURPOSES.map((purpose) => new HostSecret(bytes).words(purpose, tuple, numbers).join())).toEqual(words);
        const other = new HostSecret(bytes.map((byte, i) => (i === 0 ? byte ^ 1 : byte)));
        for (const purpose of PURPOSES) expect(words).not.toContain(other.words(purpose, tuple, numbers).join());
      }),
    );
  });

  it('change with every bit of what goes in', () => {
    const change = fc.record({ what: fc.constantFrom('local', 'remote', 'localPort', 'remotePort', 'field'), at: fc.nat(127) });
    fc.assert(
      fc.property(secret, ends, fc.tuple(fc.integer(), fc.integer()), change, fc.constantFrom(...PURPOSES), (bytes, tuple, numbers, { what, at }, purpose) => {
        const host = new HostSecret(bytes);
        const flip = (one: Uint8Array): Uint8Array => one.map((byte, i) => (i === (at >>> 3) % one.length ? byte ^ (1 << (at & 7)) : byte));
        const other = {
          local: what === 'local' ? flip(tuple.local) : tuple.local,
          remote: what === 'remote' ? flip(tuple.remote) : tuple.remote,
          localPort: what === 'localPort' ? tuple.localPort ^ (1 << (at & 15)) : tuple.localPort,
          remotePort: what === 'remotePort' ? tuple.remotePort ^ (1 << (at & 15)) : tuple.remotePort,
        };
        const changed = numbers.map((number, i) => (what === 'field' && i === (at & 1) ? number ^ (1 << (at & 31)) : number));
        expect(host.words(purpose, other, changed)).not.toEqual(host.words(purpose, tuple, numbers));
      }),
    );
  });

  it('fields cannot take the place of each other, nor addresses that of ports', () => {
    const host = new HostSecret(new Uint8Array(32).fill(7));
    const tuple = { local: Uint8Array.of(1, 2, 3, 4), localPort: 80, remote: Uint8Array.of(5, 6, 7, 8), remotePort: 9 };
    const swapped = { local: tuple.remote, localPort: 9, remote: tuple.local, remotePort: 80 };
    const values = [
      host.word('isn', tuple),
      host.word('isn', swapped),
      host.word('isn', { ...tuple, localPort: 9, remotePort: 80 }),
      host.word('isn', tuple, [0]),
      host.word('isn', tuple, [0, 0]),
      host.word('isn', tuple, [1, 2]),
      host.word('isn', tuple, [2, 1]),
    ];
    expect(new Set(values).size).toBe(values.length);
  });

  it('no value of one purpose and a chosen field leads to one of another: the difference of two is another for each connection', () => {
    const host = new HostSecret(new Uint8Array(32).fill(3));
    for (const one of PURPOSES) {
      for (const other of PURPOSES) {
        if (one === other) continue;
        const differences = new Set<number>();
        for (let client = 1; client <= 20; client++) {
          const tuple = { local: Uint8Array.of(192, 0, 2, 1), localPort: 80, remote: Uint8Array.of(192, 0, 2, 2), remotePort: client };
          differences.add(host.word(one, tuple) ^ host.word(other, tuple));
          differences.add(host.word(one, tuple, [client]) ^ host.word(other, tuple, [client]) ^ client);
        }
        expect(differences.size).toBe(40);
      }
    }
  });
});

describe('what is made of them', () => {
  const tuple = (remotePort: number): { local: Uint8Array; localPort: number; remote: Uint8Array; remotePort: number } => ({
    local: Uint8Array.of(192, 0, 2, 1),
    localPort: 80,
    remote: Uint8Array.of(192, 0, 2, 2),
    remotePort,
  });
  const host = new HostSecret(Uint8Array.from({ length: 32 }, (_, i) => i));

  it('sequence numbers of one pair of ends grow with the clock, those of others lie anywhere (RFC 6528 §3)', () => {
    const at = (time: number, port: number): number => initialSequence(host, tuple(port), time);
    expect((at(4_000_000, 1) - at(0, 1)) | 0).toBe(1_000_000);
    expect(new Set(Array.from({ length: 200 }, (_, port) => (at(0, port) - at(0, 0)) >>> 24)).size).toBeGreaterThan(100);
  });

  it('timestamps between two hosts run on from connection to connection, whatever the ports (RFC 7323 §5.4)', () => {
    expect(new Set(Array.from({ length: 50 }, (_, port) => timestampOffset(host, tuple(port)))).size).toBe(1);
  });

  it('a cookie says nothing of the sequence number that would have been, nor the other way', () => {
    const differences = Array.from({ length: 200 }, (_, port) => (makeCookie(host, tuple(port), 5, 1460, 0) - initialSequence(host, tuple(port), 0)) >>> 8);
    expect(new Set(differences).size).toBe(200);
  });
});
