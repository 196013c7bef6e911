/**
 * Load-balancer cores: nanoseconds for a decision by kind of packet, beside a Map with text keys doing the same work; memory of
 * state by the number of connections; and the comparison of all designs with a million connections.
 */
import { BeamerCore, ServerSet, simulate, StatefulCore, StatelessCore, TokenKeysCore, TokenLearnedCore } from '@subflow/balancer';
import type { DecisionCore } from '@subflow/balancer';
import { FLAG, parsePacket, Segment } from '@subflow/wire';
import { buildPacket, ipHeader, PROTOCOL } from '@subflow/wire';
import type { TcpOption } from '@subflow/wire';
import { median, row } from './rows.ts';
import type { Row } from './rows.ts';

const ROUNDS = 7;
const PACKETS = 4_096;
const TURNS = 60;

interface Slab {
  view: DataView;
  bytes: Uint8Array;
  offsets: number[];
  lengths: number[];
}

export function balancer(): Row[] {
  const servers = new ServerSet(Array.from({ length: 100 }, (_, i) => ({ id: i + 1, name: `s${i + 1}`, weight: 1, state: 'active' })));
  const data = slab((i) => packet(i, FLAG.ack, [{ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: 1, echo: 0x0100 | ((i % 100) + 1) }]));
  const third = slab((i) =>
    packet(i, FLAG.ack, [
      {
        kind: 'mptcp',
        option: {
          subtype: 'capable',
          version: 1,
          flags: 1,
          senderKey: { high: i, low: 1 },
          receiverKey: { high: i, low: 2 },
          dataLength: null,
          checksum: null,
        },
      },
    ]),
  );
  const joins = slab((i) =>
    packet(i, FLAG.syn, [{ kind: 'mptcp', option: { subtype: 'join-syn', flags: 0, addressId: 1, token: Math.imul(i, 0x9e3779b1) >>> 0, nonce: 1 } }]),
  );
  const make = (core: DecisionCore): DecisionCore => {
    core.setServers(servers, 0);
    return core;
  };
  const cases: [string, DecisionCore, Slab, number][] = [
    ['b Maglev, data', make(new StatelessCore('maglev')), data, 80],
    ['b rendezvous, data', make(new StatelessCore('rendezvous')), data, 80],
    ['c timestamps, data', make(new TokenKeysCore()), data, 80],
    ['c token, join', make(new TokenKeysCore()), joins, 80],
    ['f Beamer, data', make(new BeamerCore()), data, 80],
    ['a table, data', make(new StatefulCore(1 << 16)), data, 150],
    ['d table, data', make(new TokenLearnedCore(1 << 16)), data, 150],
    ['d token, third ACK', make(new TokenLearnedCore(1 << 16)), third, 2_000],
  ];
  const runs = cases.map(() => [] as number[]);
  const parsing: number[] = [];
  const map: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    parsing.push(parseCost(data));
    map.push(mapCost(data));
    cases.forEach(([, core, packets], j) => runs[j]!.push(decisionCost(core, packets)));
  }
  const rows = cases.map(([name, , , aim], j) => row(`decision ${name}`, 'ns', runs[j]!, 'aim', aim, true));
  rows.push(row('the same with a Map and text keys', 'ns', map, 'a table', median(runs[5]!), true));
  rows.push(row('parsing a packet first', 'ns', parsing, null, null));
  for (const connections of [10_000, 100_000, 1_000_000]) {
    for (const design of ['a', 'd'] as const) {
      const result = simulate({ design, connections, servers: 100, subflows: 2, change: { kind: 'none' }, seed: 1 });
      rows.push(row(`state of ${design}, ${connections.toLocaleString('en')} connections of 2 subflows`, 'B each', [result.bytes / connections], null, null));
    }
  }
  const million = simulate({ design: 'f', connections: 1_000_000, servers: 100, subflows: 2, change: { kind: 'server-added' }, seed: 1 });
  rows.push(row('f, a million connections, server added: subflows alive', '%', [million.subflowsAlive * 100], null, null));
  rows.push(row('f, busiest of 100 servers beside the average', '×', [million.imbalance], 'limit', 1.1, true));
  const maglev = simulate({ design: 'e', connections: 1_000_000, servers: 100, subflows: 1, change: { kind: 'none' }, seed: 1 });
  rows.push(row('e (Maglev), busiest of 100 servers', '×', [maglev.imbalance], 'limit', 1.1, true));
  return rows;
}

function packet(i: number, flags: number, options: TcpOption[]): Uint8Array {
  const tcp = {
    sourcePort: 1024 + (i % 60_000),
    destinationPort: 443,
    seq: 1,
    ack: 1,
    headerLength: 20,
    reserved: 0,
    flags,
    window: 1,
    checksum: 0,
    urgent: 0,
    options,
  };
  return buildPacket(ipHeader(Uint8Array.of(203, 0, (i >>> 8) & 255, i & 255), Uint8Array.of(198, 51, 100, 1), PROTOCOL.tcp), { tcp });
}

function slab(make: (i: number) => Uint8Array): Slab {
  const packets = Array.from({ length: PACKETS }, (_, i) => make(i));
  const bytes = new Uint8Array(packets.reduce((total, one) => total + one.length, 0));
  const offsets: number[] = [];
  let at = 0;
  for (const one of packets) {
    bytes.set(one, at);
    offsets.push(at);
    at += one.length;
  }
  return { view: new DataView(bytes.buffer), bytes, offsets, lengths: packets.map((one) => one.length) };
}

/** Nanoseconds for one decision: parsing is subtracted by doing it alone in the same round. */
function decisionCost(core: DecisionCore, packets: Slab): number {
  return loop(packets, (segment) => core.decide(segment, 1e9)) - parseCost(packets);
}

function parseCost(packets: Slab): number {
  return loop(packets, (segment) => segment.sourcePort);
}

function mapCost(packets: Slab): number {
  const table = new Map<string, number>();
  return (
    loop(packets, (segment) => {
      const key = `${segment.source0}:${segment.sourcePort}>${segment.destination0}:${segment.destinationPort}`;
      const found = table.get(key);
      if (found === undefined) table.set(key, 1);
      return found ?? 1;
    }) - parseCost(packets)
  );
}

function loop({ view, bytes, offsets, lengths }: Slab, work: (segment: Segment) => number): number {
  const segment = new Segment();
  let sink = 0;
  for (let turn = 0; turn < 20; turn++)
    for (let i = 0; i < PACKETS; i++) if (parsePacket(view, bytes, offsets[i]!, lengths[i]!, false, segment) === 0) sink += work(segment);
  const started = process.hrtime.bigint();
  for (let turn = 0; turn < TURNS; turn++)
    for (let i = 0; i < PACKETS; i++) if (parsePacket(view, bytes, offsets[i]!, lengths[i]!, false, segment) === 0) sink += work(segment);
  const spent = Number(process.hrtime.bigint() - started) / (TURNS * PACKETS);
  if (sink === 0.5) throw new Error('never: keeps the work from being left out');
  return spent;
}
