/**
 * Judging segments (RFC 9293 §3.10.7.4, RFC 5961, RFC 7323): the verdicts against the RFCs' own words in 32-bit numbers, a judge
 * that changes nothing, and segments that are not acceptable changing nothing but counters and what is owed as an answer.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Tcb } from '@subflow/stack';
import { buildPacket, FLAG, ipHeader, PARSED, parsePacket, PROTOCOL, Segment } from '@subflow/wire';
import type { TcpHeader, TcpOption } from '@subflow/wire';
import { differences, protocolState } from '../../../test/simulation/protocol-state.ts';
import { judge } from '../src/tcp/judge.ts';
import { STATE } from '../src/tcp/state.ts';
import type { Tcb as SourceTcb } from '../src/tcp/tcb.ts';
import { ADDRESSES, Client, pattern, SECOND, VARIANTS } from './client.ts';
import type { ClientOptions, Family, Mode } from './client.ts';

/** A segment in the words of the wire, its numbers by where they lie. */
interface Shot {
  /** SEG.SEQ less RCV.NXT, or less the right edge of the window; SEG.ACK less SND.UNA, or less SND.NXT. */
  seq: number;
  ack: number;
  edges?: boolean;
  flags: number;
  window: number;
  length: number;
  /** TSval less TS.Recent; null for no timestamps. */
  timestamp: number | null;
  sack: boolean;
}

/** Where something changes, and anywhere else. */
const offset = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: -3, max: 3 }) },
  { weight: 2, arbitrary: fc.integer({ min: 65_530, max: 65_540 }) },
  { weight: 1, arbitrary: fc.integer({ min: -65_540, max: -65_530 }) },
  { weight: 2, arbitrary: fc.integer({ min: -2000, max: 9000 }) },
  { weight: 1, arbitrary: fc.constantFrom(2 ** 31 - 1, -(2 ** 31), 1_000_000_000, -1_000_000_000) },
  { weight: 1, arbitrary: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }) },
);

const shot: fc.Arbitrary<Shot> = fc.record({
  seq: offset,
  ack: offset,
  edges: fc.boolean(),
  flags: fc.oneof(
    { weight: 3, arbitrary: fc.constant<number>(FLAG.ack) },
    { weight: 2, arbitrary: fc.constantFrom<number>(FLAG.ack | FLAG.psh, FLAG.ack | FLAG.fin, FLAG.rst, FLAG.rst | FLAG.ack, FLAG.syn, FLAG.syn | FLAG.ack) },
    { weight: 1, arbitrary: fc.nat(255) },
  ),
  window: fc.constantFrom(0, 1, 1000, 65_535),
  length: fc.oneof(fc.constantFrom(0, 1, 2, 1000), fc.nat(1400)),
  timestamp: fc.oneof(fc.constant(null), fc.constantFrom(0, 1, -1, 100_000, -100_000, 2 ** 30)),
  sack: fc.boolean(),
});

/** A connection in the middle: data of ours in flight, a hole in theirs, the window half used. */
function busy(family: Family, mode: Mode, options: ClientOptions = {}): Client {
  const client = new Client(family, mode, { sack: true, scale: 2, ...options }).open();
  client.data(3000);
  client.data(500, { at: client.next + 1000 });
  client.write(5000);
  client.wait(SECOND / 2);
  client.sent.length = 0;
  return client;
}

/** The same shot with its numbers counted from RCV.NXT and SND.UNA. */
function aimed(tcb: Tcb, one: Shot): Shot {
  if (one.edges !== true) return one;
  return { ...one, seq: (one.seq + tcb.rcvEdge - tcb.rcvNxt) | 0, ack: (one.ack + tcb.sndNxt - tcb.sndUna) | 0, edges: false };
}

function headerOf(client: Client, shot: Shot): Partial<TcpHeader> {
  const { tcb } = client;
  const one = aimed(tcb, shot);
  const options: TcpOption[] = [];
  if (one.timestamp !== null) options.push({ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: (tcb.tsRecent + one.timestamp) >>> 0, echo: 1 });
  if (one.sack) options.push({ kind: 'nop' }, { kind: 'nop' }, { kind: 'sack', blocks: [[client.ackOf(tcb.sndUna + 1000), client.ackOf(tcb.sndUna + 2000)]] });
  return { seq: client.seqOf(tcb.rcvNxt + one.seq), ack: client.ackOf(tcb.sndUna + one.ack), flags: one.flags, window: one.window, options };
}

/** The shot as our host parses it. */
function parsed(client: Client, family: Family, one: Shot): Segment {
  const tcp = { sourcePort: client.port, destinationPort: 80, headerLength: 20, reserved: 0, checksum: 0, urgent: 0, ...headerOf(client, one) } as TcpHeader;
  const { local, remote } = ADDRESSES[family];
  const packet = buildPacket(ipHeader(remote, local, PROTOCOL.tcp), { tcp, payload: pattern(1, one.length) });
  const segment = new Segment();
  expect(parsePacket(new DataView(packet.buffer), packet, 0, packet.length, true, segment)).toBe(PARSED.tcp);
  return segment;
}

/** Signed distance of two sequence numbers. */
const distance = (a: number, b: number): number => (a - b) | 0;

/**
 * What the RFCs say, on the wire's numbers. Two allowances of ours: an empty segment or a FIN may lie at the right edge of the
 * window, and what begins at RCV.NXT is acceptable for its ACK although the window is closed.
 */
function rightVerdict(tcb: Tcb, given: Shot, receiveWindow: number): string {
  const one = aimed(tcb, given);
  const has = (flag: number): boolean => (one.flags & flag) !== 0;
  const [syn, rst] = [has(FLAG.syn), has(FLAG.rst)];
  const length = one.length + (syn ? 1 : 0) + (has(FLAG.fin) ? 1 : 0);
  // RFC 5961 §4: in a synchronized state any SYN is challenged.
  if (syn && !rst) return 'answer';
  if (!rst && tcb.timestamps) {
    // RFC 7323 §3.2: without the option it is dropped; §5.3, R1: an older one is answered, unless it is but an ACK that was overtaken.
    if (one.timestamp === null) return 'drop';
    if (one.timestamp < 0) return length === 0 && one.seq === 0 ? 'drop' : 'answer';
  }
  // RFC 9293 §3.10.7.4, Table 6, in numbers relative to RCV.NXT.
  const begin = one.seq;
  const last = begin + length - 1;
  const inside = (at: number): boolean => at >= 0 && at < receiveWindow;
  const acceptable =
    begin === 0 ||
    inside(begin) ||
    (length > 0 && inside(last)) ||
    (begin < 0 && last >= receiveWindow && length > 0) ||
    (begin === receiveWindow && length <= 1);
  if (!acceptable) return rst ? 'drop' : 'answer';
  // RFC 5961 §3.2.
  if (rst) return begin === 0 ? 'reset' : 'answer';
  if (!has(FLAG.ack)) return 'drop';
  // RFC 5961 §5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT.
  return one.ack > tcb.sndNxt - tcb.sndUna || one.ack < -tcb.maxSndWnd ? 'answer' : 'accept';
}

/** Reads anything, and throws when anything is changed. */
function readOnly<T extends object>(object: T): T {
  return new Proxy(object, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) ? readOnly(value) : value;
    },
    set: (_target, name) => {
      throw new Error(`the judge writes ${String(name)}`);
    },
    deleteProperty: (_target, name) => {
      throw new Error(`the judge deletes ${String(name)}`);
    },
    defineProperty: (_target, name) => {
      throw new Error(`the judge defines ${String(name)}`);
    },
  });
}

describe.each([
  ['IPv4', 4, false],
  ['IPv4 with timestamps', 4, true],
  ['IPv6', 6, false],
  ['IPv6 with timestamps', 6, true],
] as const)('the judge, over %s', (_name, family, timestamps) => {
  const client = busy(family, 'plain TCP', { timestamps });
  const { tcb } = client;
  const block = tcb as unknown as SourceTcb;

  it('says what the RFCs say, wherever the numbers lie', () => {
    const receiveWindow = tcb.rcvEdge - tcb.rcvNxt;
    expect([tcb.timestamps, receiveWindow > 3000, tcb.sndNxt > tcb.sndUna]).toEqual([timestamps, true, true]);
    fc.assert(
      fc.property(shot, (one) => {
        expect(judge(block, parsed(client, family, one), client.agenda.now).kind).toBe(rightVerdict(tcb, one, receiveWindow));
      }),
      { numRuns: 2000 },
    );
  });

  it('changes nothing, neither the block nor the segment, and says the same again', () => {
    const watched = readOnly(block);
    fc.assert(
      fc.property(shot, fc.nat(SECOND), (one, later) => {
        const segment = parsed(client, family, one);
        const before = { ...segment };
        const verdict = judge(watched, readOnly(segment), client.agenda.now + later);
        expect({ ...segment }).toEqual(before);
        expect(judge(block, segment, client.agenda.now + later).kind).toBe(verdict.kind);
      }),
    );
  });

  it('positions of what is accepted are those of the wire', () => {
    fc.assert(
      fc.property(shot, (one) => {
        const segment = parsed(client, family, one);
        const verdict = judge(block, segment, client.agenda.now);
        fc.pre(verdict.kind === 'accept');
        expect(distance(client.seqOf(verdict.position), segment.seq)).toBe(0);
        expect(distance(client.ackOf(verdict.acked), segment.ack)).toBe(0);
        expect(verdict.end - verdict.dataPosition).toBe(one.length + (verdict.fin ? 1 : 0));
      }),
    );
  });
});

describe.each(VARIANTS)('a segment that is not acceptable, over IPv%i, %s', (family, mode) => {
  it.each([false, true])('changes nothing but counters and what is owed as an answer (timestamps %s)', (timestamps) => {
    const client = busy(family, mode, { timestamps });
    const { tcb, connection } = client;
    let discarded = 0;
    fc.assert(
      fc.property(shot, (one) => {
        const kind = rightVerdict(tcb, one, tcb.rcvEdge - tcb.rcvNxt);
        if (kind === 'accept' || kind === 'reset') return;
        discarded++;
        const before = protocolState([connection]);
        // What it may draw goes out before the comparison: the segment itself is what must not have been applied.
        const out = client.segment(headerOf(client, one), pattern(1, one.length));
        expect(out.length).toBeLessThanOrEqual(1);
        if (out.length === 0) expect(differences(before, protocolState([connection]))).toEqual([]);
        else expect(differences(before, protocolState([connection])).filter((text) => !OF_AN_ANSWER.test(text))).toEqual([]);
      }),
      { numRuns: 300 },
    );
    expect(discarded).toBeGreaterThan(50);
    // And the connection goes on as if nothing had been: the peer has received nothing but the first segment of our data.
    expect(client.alive).toBe(true);
    expect(client.take(client.wait(60 * SECOND))).toBeGreaterThan(900);
  });
});

/** What sending an ACK changes. */
const OF_AN_ANSWER = /^Tcb\.(segmentsSent|lastAckSent|lastSentAt|rcvEdge|ackPending|delayedAckAt|quickAcks) |^Connection\.dataRcvEdge /;

describe.each(VARIANTS)('after one forged segment, over IPv%i, %s', (family, mode) => {
  it.each([1_000_000_000, -1_000_000_000, 100_000, -100_000])(
    'its ACK of everything in flight, %d from the window, frees nothing and closes no window',
    (far) => {
      const client = new Client(family, mode).open();
      const sent = client.write(5000);
      expect(client.take(sent)).toBe(5000);
      const end = client.received;
      const { tcb } = client;
      client.segment({ seq: client.seqOf(tcb.rcvNxt + far), ack: client.ackOf(end), window: 0 });
      expect([tcb.sndUna, tcb.inFlight, tcb.sndWnd]).toEqual([1, 5000, 65_535]);
      // The peer, who has received nothing, gets the first octet again.
      client.received = 1;
      const again = client.wait(5 * SECOND).filter((packet) => client.positionOf(packet) === 1 && packet.payload.length > 0);
      expect(again.length).toBeGreaterThan(0);
    },
  );
});

describe.each(VARIANTS)('timestamps of discarded segments, over IPv%i, %s', (family, mode) => {
  it.each([
    ['acknowledges what was never sent', { ack: 9998 }],
    ['lies outside the window', { seq: 1_000_000 }],
    ['is a SYN in the window', { seq: 5, flags: FLAG.syn }],
    ['has no ACK', { flags: FLAG.psh }],
  ])('a segment that %s does not move TS.Recent: the next good one is taken (RFC 5961 §5.2)', (_name, bad) => {
    const client = new Client(family, mode, { timestamps: true }).open();
    const { tcb } = client;
    client.wait(SECOND);
    const poison: Shot = { seq: 0, ack: 0, flags: FLAG.ack, window: 20_000, length: 0, timestamp: 200_000, sack: false, ...bad };
    const before = tcb.tsRecent;
    client.segment(headerOf(client, poison));
    expect(tcb.tsRecent).toBe(before);
    client.wait(SECOND / 10);
    const begin = client.next;
    client.data(1000);
    expect(client.readAll()).toEqual(Buffer.from(pattern(begin, 1000)));
  });
});

describe.each([4, 6] as const)('half-open connections over IPv%i', (family) => {
  it.each(['plain TCP', 'TCP to a Multipath TCP listener', 'version 0', 'version 1'] as const)(
    'survive every segment that is not their own third ACK, and open with that (%s)',
    (mode) => {
      fc.assert(
        fc.property(fc.array(shot, { minLength: 1, maxLength: 5 }), (shots) => {
          const client = new Client(family, mode);
          const synAck = client.syn();
          client.iss = synAck.tcp!.seq;
          for (const one of shots) {
            const [syn, rst, ack] = [FLAG.syn, FLAG.rst, FLAG.ack].map((flag) => (one.flags & flag) !== 0);
            // A RST with the exact number resets, and an exact ACK opens: those are the peer's.
            const exact = one.seq === 0;
            const opens = ack === true && one.ack === 0;
            if ((rst === true && exact) || (opens && rst === false) || (syn === true && one.seq === -1)) continue;
            const answers = client.segment({
              seq: client.seqOf(1 + one.seq),
              ack: client.ackOf(1 + one.ack),
              flags: one.flags,
              window: one.window,
            });
            for (const answer of answers) {
              // RST <SEQ=SEG.ACK> for an ACK that is none of ours (RFC 9293 §3.10.7.4, fifth).
              if ((answer.tcp!.flags & FLAG.rst) !== 0) expect(distance(answer.tcp!.seq, client.ackOf(1 + one.ack))).toBe(0);
            }
          }
          expect(client.host.sizes.connections).toBe(1);
          expect([...client.host.connections.values()][0]!.subflows[0]!.tcb.state).toBe(STATE.synReceived);
          client.segment({ flags: FLAG.ack });
          expect([...client.host.connections.values()][0]!.subflows[0]!.tcb.state).toBe(STATE.established);
        }),
        { numRuns: 60 },
      );
    },
  );
});
