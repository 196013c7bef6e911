/** The attacks: for each the packets of a run of `n` pieces, and how much the host may hold afterwards. */
import { FLAG } from '@subflow/wire';
import type { MptcpOption, TcpOption } from '@subflow/wire';
import { joinHmac, versionOf } from '@subflow/stack';
import { Conversation } from '../packages/stack/test/conversation.ts';
import { AT, BUFFER, CLIENT_ISN, floodSource, hostOptions, openPlain, openWithFlight, PORT, setSource, Slab, template, Victim } from './attack-victim.ts';
import { HandPeer } from '../packages/stack/test/world.ts';

/** Made ready; nothing of it is measured. */
export interface Attack {
  victim: Victim;
  slab: Slab;
  /** Bytes of payload at stake, by which held bytes are divided: so many from the start, and so many with each packet. */
  payload: [number, number];
  /** What the buffer setting allows to hold, whatever the payload. */
  limit: number;
  /** Microseconds between packets. */
  step: number;
  /** Builds more packets from the answers of those before; null when the attack is over. */
  next?: () => Slab | null;
  /** What the attack leads to, measured with it. */
  after?: () => void;
}

export interface Case {
  name: string;
  sizes: readonly number[];
  make(n: number): Attack;
}

const SIZES = [1000, 10_000, 100_000, 1_000_000];
const ONE = new Uint8Array(1);
const FIRST = CLIENT_ISN + 1;
const CHUNK = 64 << 10;
/** Longer than the first retransmission timeout, in microseconds. */
const SILENCE = 1_500_000;
const NOPS: TcpOption[] = [{ kind: 'nop' }, { kind: 'nop' }];

type Order = 'ascending' | 'descending' | 'random';
/** Shares no factor with a power of ten. */
const STRIDE = 7_368_787;
const ORDERS: readonly Order[] = ['ascending', 'descending', 'random'];

/** Place of the `i`-th of `n`; random is a walk with a large step that visits every place once. */
function place(order: Order, i: number, n: number): number {
  if (order === 'ascending') return i;
  return order === 'descending' ? n - 1 - i : (i * STRIDE) % n;
}

function data(n: number, ack: number, payload: number, position: (i: number) => number): Slab {
  return new Slab(template({ ack }, new Uint8Array(payload)), n, (view, at, i) => view.setUint32(at + AT.seq, (FIRST + position(i)) >>> 0));
}

/** One-byte SACK blocks, every second byte of a flight of 8 MB, four in an ACK. `silence`: and then no more, until all of it is sent again. */
const sackSplitting = (order: Order, silence = false): Case => ({
  name: `SACK splitting, ${order}${silence ? ', then a timeout' : ''}`,
  sizes: SIZES,
  make(n) {
    const flight = 8 << 20;
    const { victim, ack } = openWithFlight(flight);
    const blocks = Array.from({ length: 4 }, (): [number, number] => [0, 1]);
    const packet = template({ seq: FIRST, ack, options: [...NOPS, { kind: 'sack', blocks }] });
    const slab = new Slab(packet, n / 4, (view, at, i) => {
      for (let k = 0; k < 4; k++) {
        const left = (ack + 1 + 2 * place(order, 4 * i + k, n)) >>> 0;
        view.setUint32(at + AT.options + 4 + 8 * k, left);
        view.setUint32(at + AT.options + 8 + 8 * k, (left + 1) >>> 0);
      }
    });
    const attack: Attack = { victim, slab, payload: [flight, 0], limit: 0, step: 0 };
    if (silence) attack.after = () => victim.sleep(SILENCE);
    return attack;
  },
});

/** One-byte segments, every second byte of a window of 16 MB. */
const holes = (order: Order): Case => ({
  name: `holes, ${order}`,
  sizes: SIZES,
  make(n) {
    const { victim, ack } = openPlain();
    return { victim, slab: data(n, ack, 1, (i) => 1 + 2 * place(order, i, n)), payload: [0, 1], limit: BUFFER, step: 1 };
  },
});

const tiny: Case = {
  name: 'one-byte segments in order, unread',
  sizes: SIZES,
  make(n) {
    const { victim, ack } = openPlain();
    return { victim, slab: data(n, ack, 1, (i) => i), payload: [0, 1], limit: CHUNK, step: 1 };
  },
};

/** A thousand bytes, each time one further, ahead of a hole: all but one octet is there already. */
const overlapAhead: Case = {
  name: 'overlapping data ahead of a hole',
  sizes: SIZES,
  make(n) {
    const { victim, ack } = openPlain();
    return { victim, slab: data(n, ack, 1000, (i) => 1 + i), payload: [1000, 1], limit: BUFFER, step: 1 };
  },
};

const overlapInOrder: Case = {
  name: 'overlapping data in order, unread',
  sizes: SIZES,
  make(n) {
    const { victim, ack } = openPlain();
    return { victim, slab: data(n, ack, 1000, (i) => Math.max(0, i - 999)), payload: [0, 1], limit: CHUNK, step: 1 };
  },
};

/** Every ACK acknowledges one byte of what is in flight. */
const ackSplitting: Case = {
  name: 'ACK splitting',
  sizes: SIZES,
  make(n) {
    const flight = 8 << 20;
    const { victim, ack } = openWithFlight(flight);
    const slab = new Slab(template({ seq: FIRST }), n, (view, at, i) => view.setUint32(at + AT.ack, (ack + 1 + i) >>> 0));
    return { victim, slab, payload: [flight, 0], limit: 0, step: 1 };
  },
};

/** The window closes and opens again with every ACK, by `kilobytes`, while much waits to be sent; 0: it stays closed. */
const flapping = (kilobytes: number): Case => ({
  name: kilobytes === 0 ? 'ACKs that close the window' : `window that flaps, 0 and ${kilobytes} kB`,
  sizes: SIZES,
  make(n) {
    const flight = 64 << 10;
    const { victim, ack } = openWithFlight(flight);
    victim.connection.write(new Uint8Array(BUFFER / 2), victim.now);
    victim.drain();
    const slab = new Slab(template({ seq: FIRST, ack }), n, (view, at, i) => view.setUint16(at + AT.window, (i & 1) * kilobytes));
    return { victim, slab, payload: [flight + BUFFER / 2, 0], limit: 0, step: 1 };
  },
});

/** Nobody reads: the window is closed, and the peer asks all the time whether it still is. */
const probing: Case = {
  name: 'probes of our closed window',
  sizes: SIZES,
  make(n) {
    const full = 64 << 10;
    const { victim, ack } = openPlain({ tcp: { receiveBuffer: full, maxReceiveBuffer: full } });
    const block = new Uint8Array(1024);
    for (let at = 0; at < full; at += block.length) victim.ask(template({ seq: FIRST + at, ack }, block));
    return { victim, slab: data(n, ack, 1, () => full), payload: [0, 1], limit: full, step: 1 };
  },
};

// Multipath TCP

function openMultipath(): { c: Conversation; victim: Victim } {
  const c = new Conversation(hostOptions()).talk();
  const victim = new Victim(c.peer);
  victim.drain();
  return { c, victim };
}

const DSS_AT = AT.options;

/** In order on the subflow, one byte in each segment, and in the data stream every second byte (RFC 8684 §3.3.1). */
const dataHoles = (order: Order): Case => ({
  name: `holes of the data level, ${order}`,
  sizes: SIZES,
  make(n) {
    const { c, victim } = openMultipath();
    const flow = c.flows[0]!;
    const option = c.dss(ONE, { at: 0 });
    const packet = template({ seq: flow.seq >>> 0, ack: flow.ack >>> 0, options: [...NOPS, { kind: 'mptcp', option }] }, ONE);
    const slab = new Slab(packet, n, (view, at, i) => {
      const low = (c.key.idsnLow >>> 0) + c.next + 1 + 2 * place(order, i, n);
      view.setUint32(at + AT.seq, (flow.seq + i) >>> 0);
      view.setUint32(at + DSS_AT + 6, (c.key.idsnHigh + Math.floor(low / 0x1_0000_0000)) >>> 0);
      view.setUint32(at + DSS_AT + 10, low >>> 0);
      view.setUint32(at + DSS_AT + 14, (flow.ssn + i) >>> 0);
    });
    return { victim, slab, payload: [0, 1], limit: BUFFER, step: 1 };
  },
});

/** Mappings of bytes that do not come: on ACKs, one byte each, ever further ahead. */
const mappings: Case = {
  name: 'mappings without their data',
  sizes: SIZES,
  make(n) {
    const { c, victim } = openMultipath();
    const flow = c.flows[0]!;
    const option = c.dss(ONE, { at: 0 });
    const packet = template({ seq: flow.seq >>> 0, ack: flow.ack >>> 0, options: [...NOPS, { kind: 'mptcp', option }] });
    const slab = new Slab(packet, n, (view, at, i) => {
      const low = (c.key.idsnLow >>> 0) + c.next + 2 * i;
      view.setUint32(at + DSS_AT + 6, (c.key.idsnHigh + Math.floor(low / 0x1_0000_0000)) >>> 0);
      view.setUint32(at + DSS_AT + 10, low >>> 0);
      view.setUint32(at + DSS_AT + 14, (flow.ssn + 2 * i) >>> 0);
    });
    return { victim, slab, payload: [0, 1], limit: BUFFER, step: 1 };
  },
};

/** DATA_FIN although octets before it are missing, again and again (RFC 8684 §3.3.3). */
const dataFin = (same: boolean): Case => ({
  name: `DATA_FIN flood, ${same ? 'the same' : 'everywhere'}`,
  sizes: SIZES,
  make(n) {
    const { c, victim } = openMultipath();
    const flow = c.flows[0]!;
    const option = c.dss(new Uint8Array(0), { fin: true, at: c.next + 5000 });
    const packet = template({ seq: flow.seq >>> 0, ack: flow.ack >>> 0, options: [...NOPS, { kind: 'mptcp', option }] });
    const low = (c.key.idsnLow + c.next + 5000) | 0;
    const slab = new Slab(packet, n, (view, at, i) => view.setInt32(at + DSS_AT + 10, same ? low : low + (i % 60_000)));
    return { victim, slab, payload: [0, 1], limit: CHUNK, step: 1 };
  },
});

// Floods

const synFlood = (cookies: 'never' | 'when-full' | 'always'): Case => ({
  name: `SYN flood, cookies ${cookies}`,
  sizes: SIZES,
  make(n) {
    const peer = new HandPeer({ mptcp: { synCookies: cookies } });
    const backlog = 128;
    peer.host.listen({ port: PORT, backlog });
    const victim = new Victim(peer);
    const capable: MptcpOption = { subtype: 'capable', version: 1, flags: 1, senderKey: null, receiverKey: null, dataLength: null, checksum: null };
    const packet = template({
      flags: FLAG.syn,
      options: [{ kind: 'mss', value: 1460 }, { kind: 'sack-permitted' }, ...NOPS, { kind: 'mptcp', option: capable }],
    });
    const slab = new Slab(packet, n, (view, at, i) => {
      view.setUint32(at + AT.seq, Math.imul(i, 2_654_435_761) >>> 0);
      floodSource(view, at, i);
    });
    return { victim, slab, payload: [0, packet.length], limit: backlog * 8192, step: 1 };
  },
});

/** Joins with the right token, which go no further than their SYN (RFC 8684 §3.2). */
/** Joins that wait for their third ACK under load: 1,024 at most. */
const JOIN_TABLE = 1024 * 512;

const joinSyns: Case = {
  name: 'join flood, SYNs with the right token',
  sizes: SIZES,
  make(n) {
    const { c, victim } = openMultipath();
    const slab = joinSlab(c, n, 0);
    return { victim, slab, payload: [0, slab.length], limit: 8 * 8192 + JOIN_TABLE, step: 1 };
  },
};

/** And those whose third ACK carries a wrong HMAC: SYNs in batches, then the ACKs that their answers call for. */
const joinHmacs: Case = {
  name: 'join flood, wrong HMACs',
  sizes: SIZES,
  make(n) {
    const { c, victim } = openMultipath();
    const batch = 100;
    const wrong = joinHmac(c.key, c.server, 1, 2, versionOf(1)).slice(0, 20);
    const packet = template({ options: [{ kind: 'mptcp', option: { subtype: 'join-ack', reserved: 0, hmac: wrong } }] });
    victim.kept = [];
    let asked = batch;
    let syns = true;
    const next = (): Slab | null => {
      const answers = victim.takeKept();
      syns = !syns;
      if (syns) {
        asked += batch;
        return 2 * asked > n ? null : joinSlab(c, batch, asked);
      }
      return new Slab(packet, answers.length, (view, at, i) => {
        const { tcp, ip } = answers[i]!;
        setSource(view, at, new DataView(ip.destination.buffer, ip.destination.byteOffset).getUint32(0), tcp!.destinationPort);
        view.setUint32(at + AT.seq, tcp!.ack);
        view.setUint32(at + AT.ack, (tcp!.seq + 1) >>> 0);
      });
    };
    return { victim, slab: joinSlab(c, batch, 0), payload: [0, packet.length], limit: 8 * 8192 + JOIN_TABLE, step: 1, next };
  },
};

function joinSlab(c: Conversation, n: number, from: number): Slab {
  const option: MptcpOption = { subtype: 'join-syn', flags: 0, addressId: 3, token: c.server.token >>> 0, nonce: 1 };
  const packet = template({ flags: FLAG.syn, options: [{ kind: 'mss', value: 1460 }, { kind: 'sack-permitted' }, ...NOPS, { kind: 'mptcp', option }] });
  return new Slab(packet, n, (view, at, i) => {
    view.setUint32(at + AT.seq, i);
    view.setUint32(at + AT.options + 4 + 4 + 8, from + i);
    floodSource(view, at, from + i);
  });
}

export const CASES: readonly Case[] = [
  ...ORDERS.map((order) => sackSplitting(order)),
  sackSplitting('ascending', true),
  ...ORDERS.map(holes),
  tiny,
  overlapAhead,
  overlapInOrder,
  ackSplitting,
  flapping(0),
  flapping(1),
  flapping(64),
  probing,
  ...ORDERS.map(dataHoles),
  mappings,
  dataFin(true),
  dataFin(false),
  synFlood('never'),
  synFlood('when-full'),
  synFlood('always'),
  joinSyns,
  joinHmacs,
];
