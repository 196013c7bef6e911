/** The two properties of every seed can fail: each is shown what it must notice, and what it must not. */
import { describe, expect, it } from 'vitest';
import { buildPacket, FLAG, ipHeader, PROTOCOL } from '@subflow/wire';
import { STATE } from '@subflow/stack';
import type { Tcb } from '@subflow/stack';
import { isLucky } from './off-path.ts';
import type { Forged } from './off-path.ts';
import { carriesData, PacketBudget } from './packet-budget.ts';
import type { Watched } from './packet-budget.ts';
import { differences, protocolState } from './protocol-state.ts';

const A = Uint8Array.of(192, 0, 2, 1);
const B = Uint8Array.of(192, 0, 2, 2);

function packet(flags: number, payload = 0, v6 = false): Uint8Array {
  const [from, to] = v6 ? [new Uint8Array(16).fill(1), new Uint8Array(16).fill(2)] : [A, B];
  const tcp = { sourcePort: 1, destinationPort: 2, seq: 0, ack: 0, headerLength: 20, reserved: 0, flags, window: 0, checksum: 0, urgent: 0 };
  return buildPacket(ipHeader(from, to, PROTOCOL.tcp), { tcp: { ...tcp, options: [{ kind: 'nop' }] }, payload: new Uint8Array(payload) });
}

describe('the state of a connection', () => {
  const make = () => ({
    segmentsReceived: 1,
    ackNow: false,
    tcb: { sndUna: 5, queue: [{ length: 3 }] },
    buffers: new Map([[7, { start: 1 }]]),
    host: { count: 0 },
  });

  it('is the same when only counters, owed answers and the host change', () => {
    const one = make();
    const before = protocolState([one]);
    one.segmentsReceived++;
    one.ackNow = true;
    one.host.count++;
    expect(differences(before, protocolState([one]))).toEqual([]);
  });

  it('differs when a field changes, however deep it lies', () => {
    const one = make();
    const before = protocolState([one]);
    one.tcb.queue[0]!.length = 4;
    one.buffers.get(7)!.start = 2;
    expect(differences(before, protocolState([one]))).toEqual(['Object.start 1 → 2', 'Object.length 3 → 4']);
  });

  it('differs when something is added or replaced', () => {
    const one = make();
    const before = protocolState([one]);
    one.tcb.queue.push({ length: 9 });
    expect(differences(before, protocolState([one]))).not.toEqual([]);
  });
});

describe('a lucky guess', () => {
  const tcb = { state: STATE.established, iss: 1000, irs: -5, sndUna: 10, sndNxt: 20, rcvNxt: 100, rcvEdge: 400, maxSndWnd: 500 } as unknown as Tcb;
  const at = (seq: number, ack: number, flags: number = FLAG.ack, payload = 0): Forged => ({
    seq: (-5 + seq) >>> 0,
    ack: (1000 + ack) >>> 0,
    flags,
    window: 0,
    options: [],
    payload: new Uint8Array(payload),
  });

  it('lies in the window and acknowledges what may be acknowledged', () => {
    for (const right of [at(100, 20), at(400, 10), at(250, 5, FLAG.ack, 10), at(90, 20, FLAG.ack, 11)]) expect(isLucky(tcb, right)).toBe(true);
    for (const wrong of [at(99, 20), at(90, 20, FLAG.ack, 10), at(402, 20), at(100, 21), at(100, 20, FLAG.psh), at(100, 20, FLAG.syn | FLAG.ack)])
      expect(isLucky(tcb, wrong)).toBe(false);
  });

  it('of a reset is the one number that is expected next (RFC 5961 §3.2)', () => {
    expect(isLucky(tcb, at(100, 0, FLAG.rst))).toBe(true);
    expect([99, 101, 399].some((seq) => isLucky(tcb, at(seq, 20, FLAG.rst | FLAG.ack)))).toBe(false);
  });
});

describe('the packet budget', () => {
  const side = (): Watched => ({ name: 'host', received: 0, connection: null });

  it('knows which packets carry payload, SYN or FIN', () => {
    for (const v6 of [false, true]) {
      expect([packet(FLAG.ack, 0, v6), packet(FLAG.rst, 0, v6)].map(carriesData)).toEqual([false, false]);
      expect([packet(FLAG.ack, 1, v6), packet(FLAG.syn, 0, v6), packet(FLAG.ack | FLAG.fin, 0, v6)].map(carriesData)).toEqual([true, true, true]);
    }
  });

  it('is overdrawn by ACKs that answer ACKs', () => {
    const budget = new PacketBudget();
    const one = side();
    for (let i = 0; i < 200; i++) {
      budget.watch(one, 'in', packet(FLAG.ack), 1000 * i);
      budget.watch(one, 'out', packet(FLAG.ack), 1000 * i);
    }
    expect(budget.problem).toContain('host sent more than 30 packets');
  });

  it('lets a reset answer every ACK, but no reset', () => {
    for (const [flags, problem] of [
      [FLAG.ack, null],
      [FLAG.rst, 'host sent more than 30 resets from 0 s to 0.03 s'],
    ] as const) {
      const budget = new PacketBudget();
      const one = side();
      for (let i = 0; i < 200; i++) {
        budget.watch(one, 'in', packet(flags), 1000 * i);
        budget.watch(one, 'out', packet(FLAG.rst), 1000 * i);
      }
      expect(budget.problem).toBe(problem);
    }
  });

  it('is not overdrawn by an ACK and a window update for every data packet, or by those of a slow reader', () => {
    const budget = new PacketBudget();
    const one = side();
    for (let i = 0; i < 2000; i++) {
      budget.watch(one, 'in', packet(FLAG.ack, 1400), 1000 * i);
      for (let k = 0; k < 2; k++) budget.watch(one, 'out', packet(FLAG.ack), 1000 * i);
    }
    for (let i = 0; i < 2000; i++) {
      one.received += 1000;
      budget.watch(one, 'out', packet(FLAG.ack), 10_000_000 + 1000 * i);
    }
    expect(budget.problem).toBeNull();
  });
});
