/** Captures with everything in them: both versions, every option, several link layers, from our stack and made by hand. */
import { Random } from '@subflow/emulator';
import {
  buildPacket,
  cookedFrame,
  emitMptcpOption,
  ethernetFrame,
  FLAG,
  ICMP,
  ipHeader,
  ipSource,
  LINKTYPE,
  mptcpOptionLength,
  OPTION,
  parseAddress,
  pcapHeader,
  pcapRecord,
  PROTOCOL,
} from '@subflow/wire';
import type { MptcpOption, TcpOption } from '@subflow/wire';
import { download, emulatedWorld, pcapngOf, SECOND } from './emulated.ts';
import type { PathOptions } from './emulated.ts';

export interface CorpusCapture {
  name: string;
  bytes: Uint8Array;
}

const PATHS: readonly PathOptions[] = [
  { name: 'wifi', link: { rate: 20e6, delay: 10_000, queueTime: 50_000, loss: 0.005 } },
  { name: 'lte', link: { rate: 10e6, delay: 30_000, queueTime: 80_000, loss: 0.002 }, backup: false },
];
const V6: readonly PathOptions[] = [
  { name: 'wifi', client: '2001:db8:1::1', server: '2001:db8:1::2', link: { rate: 20e6, delay: 10_000, queueTime: 50_000 } },
  { name: 'lte', client: '2001:db8:2::1', server: '2001:db8:2::2', link: { rate: 10e6, delay: 30_000, queueTime: 80_000 } },
];

/** Captures of our own stack: what each shows is in its name. */
export function stackCaptures(): CorpusCapture[] {
  const out: CorpusCapture[] = [];
  for (const version of [0, 1] as const)
    for (const checksum of [false, true])
      for (const v6 of [false, true]) {
        const world = emulatedWorld(v6 ? V6 : PATHS, {
          client: { mptcp: { versions: [version], checksum } },
          server: { mptcp: { acceptVersions: [version] } },
        });
        world.server.host.addEndpoint({ address: world.paths[1]!.far.addresses[0]!.address, signal: true });
        world.agenda.at(300_000, (now) => {
          const connection = [...world.client.host.connections.values()][0];
          if (connection?.subflows[1] !== undefined) connection.setBackup(connection.subflows[1], true, now);
          world.client.pump();
        });
        world.agenda.at(500_000, (now) => {
          world.client.host.removeEndpoint(1, now);
          world.client.pump();
        });
        download(world, 1_000_000);
        out.push({ name: `stack-v${version}${checksum ? '-checksum' : ''}-${v6 ? 'ipv6' : 'ipv4'}`, bytes: pcapngOf(world.captured.client, ['wifi', 'lte']) });
      }
  const cut = emulatedWorld(PATHS);
  cut.agenda.at(500_000, () => cut.setUp(0, false));
  cut.agenda.at(3 * SECOND, () => cut.setUp(0, true));
  download(cut, 4_000_000);
  out.push({ name: 'stack-cut', bytes: pcapngOf(cut.captured.server, ['wifi', 'lte']) });
  return out;
}

/** Every option in every form that the RFCs give it, valid and not, in segments of their own. */
export function optionCapture(): CorpusCapture {
  const random = new Random(7);
  const u64 = (): { high: number; low: number } => ({ high: random.uint32(), low: random.uint32() });
  const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, () => random.integer(0, 255));
  const options: { option: MptcpOption; flags: number; payload?: number }[] = [];
  const ack = FLAG.ack;
  for (const version of [0, 1, 2]) {
    if (version > 0)
      options.push({
        option: { subtype: 'capable', version, flags: 0x01, senderKey: null, receiverKey: null, dataLength: null, checksum: null },
        flags: FLAG.syn,
      });
    for (const flags of [0x01, 0x81, 0xa1, 0xff]) {
      options.push({
        option: { subtype: 'capable', version, flags, senderKey: u64(), receiverKey: null, dataLength: null, checksum: null },
        flags: version === 0 ? FLAG.syn : FLAG.syn | ack,
      });
      options.push({ option: { subtype: 'capable', version, flags, senderKey: u64(), receiverKey: u64(), dataLength: null, checksum: null }, flags: ack });
    }
  }
  options.push({
    option: { subtype: 'capable', version: 1, flags: 0x01, senderKey: u64(), receiverKey: u64(), dataLength: 20, checksum: null },
    flags: ack,
    payload: 20,
  });
  options.push({
    option: { subtype: 'capable', version: 1, flags: 0x81, senderKey: u64(), receiverKey: u64(), dataLength: 20, checksum: 0xbeef },
    flags: ack,
    payload: 20,
  });
  for (const flags of [0, 1, 15]) {
    options.push({ option: { subtype: 'join-syn', flags, addressId: 3, token: random.uint32(), nonce: random.uint32() }, flags: FLAG.syn });
    options.push({ option: { subtype: 'join-synack', flags, addressId: 4, hmac: bytes(8), nonce: random.uint32() }, flags: FLAG.syn | ack });
  }
  options.push({ option: { subtype: 'join-ack', reserved: 0, hmac: bytes(20) }, flags: ack });
  for (let flags = 0; flags < 32; flags++)
    for (const checksum of (flags & 4) !== 0 ? [null, 0x1234] : [null]) {
      const option: MptcpOption = {
        subtype: 'dss',
        flags,
        dataAck: (flags & 1) !== 0 ? ((flags & 2) !== 0 ? u64() : { high: 0, low: random.uint32() }) : null,
        dsn: (flags & 4) !== 0 ? ((flags & 8) !== 0 ? u64() : { high: 0, low: random.uint32() }) : null,
        ssn: random.integer(1, 100_000),
        dataLength: 10,
        checksum,
      };
      options.push({ option, flags: ack, payload: (flags & 4) !== 0 ? 10 : 0 });
    }
  for (const address of [parseAddress('192.0.2.9'), parseAddress('2001:db8::9')])
    for (const port of [null, 8080]) {
      options.push({ option: { subtype: 'add-addr', version: 0, flags: address.length === 4 ? 4 : 6, addressId: 5, address, port, hmac: null }, flags: ack });
      options.push({ option: { subtype: 'add-addr', version: 1, flags: 0, addressId: 5, address, port, hmac: bytes(8) }, flags: ack });
      options.push({ option: { subtype: 'add-addr', version: 1, flags: 1, addressId: 5, address, port, hmac: null }, flags: ack });
    }
  for (const addressIds of [[1], [1, 2, 250]]) options.push({ option: { subtype: 'remove-addr', flags: 0, addressIds }, flags: ack });
  for (const flags of [0, 1]) for (const addressId of [null, 7]) options.push({ option: { subtype: 'prio', flags, addressId }, flags: ack });
  options.push({ option: { subtype: 'fail', reserved: 0, dsn: u64() }, flags: ack });
  options.push({ option: { subtype: 'fastclose', reserved: 0, receiverKey: u64() }, flags: ack });
  options.push({ option: { subtype: 'fastclose', reserved: 0, receiverKey: u64() }, flags: FLAG.rst });
  for (const flags of [0, 1, 15]) for (let reason = 0; reason < 8; reason++) options.push({ option: { subtype: 'tcprst', flags, reason }, flags: FLAG.rst });
  const parts = [pcapHeader(LINKTYPE.ethernet)];
  options.forEach(({ option, flags, payload }, i) => {
    const v6 = i % 3 === 2;
    const [a, b] = v6 ? [parseAddress('2001:db8::1'), parseAddress('2001:db8::2')] : [parseAddress('192.0.2.1'), parseAddress('192.0.2.2')];
    const packet = segment(a, b, 10_000 + i, flags, [{ kind: 'mptcp', option }], payload ?? 0, random);
    parts.push(record(i, ethernetFrame(packet, new Uint8Array(6), new Uint8Array(6))));
    if (mptcpOptionLength(option) !== emitMptcpOption(option, new DataView(new ArrayBuffer(64)), 0)) throw new Error('lengths differ');
  });
  return { name: 'every-option', bytes: concat(parts) };
}

/** One connection's first packets behind every link layer and tunnel. */
export function linkCaptures(): CorpusCapture[] {
  const world = emulatedWorld(PATHS);
  download(world, 20_000);
  const frames = world.captured.client.slice(0, 40);
  const wrap = (name: string, linkType: number, around: (packet: Uint8Array) => Uint8Array): CorpusCapture => ({
    name,
    bytes: concat([pcapHeader(linkType), ...frames.map((frame) => record(frame.time / 1e6, around(frame.bytes)))]),
  });
  const mac = new Uint8Array(6);
  const ethernet = (packet: Uint8Array): Uint8Array => ethernetFrame(packet, mac, mac);
  const tagged = (packet: Uint8Array, ...tags: number[]): Uint8Array => {
    const plain = ethernet(packet);
    return concat([plain.slice(0, 12), Uint8Array.from(tags), plain.slice(12)]);
  };
  const outer = (protocol: number, body: Uint8Array): Uint8Array => rawPacket(parseAddress('198.51.100.1'), parseAddress('198.51.100.2'), protocol, body);
  return [
    wrap('link-ethernet', LINKTYPE.ethernet, ethernet),
    wrap('link-vlan', LINKTYPE.ethernet, (packet) => tagged(packet, 0x81, 0x00, 0x00, 0x05)),
    wrap('link-qinq', LINKTYPE.ethernet, (packet) => tagged(packet, 0x88, 0xa8, 0x00, 0x05, 0x81, 0x00, 0x00, 0x06)),
    wrap('link-sll', LINKTYPE.sll, (packet) => cookedFrame(packet, 1, true)),
    wrap('link-sll2', LINKTYPE.sll2, (packet) => cookedFrame(packet, 2, true)),
    wrap('link-raw', LINKTYPE.raw, (packet) => packet),
    wrap('link-null', LINKTYPE.null, (packet) => concat([Uint8Array.of(2, 0, 0, 0), packet])),
    wrap('link-ppp', LINKTYPE.ppp, (packet) => concat([Uint8Array.of(0xff, 0x03, 0x00, 0x21), packet])),
    wrap('tunnel-ipip', LINKTYPE.raw, (packet) => outer(4, packet)),
    wrap('tunnel-gre', LINKTYPE.raw, (packet) => outer(47, concat([Uint8Array.of(0x20, 0, 8, 0, 0, 0, 0, 7), packet]))),
    wrap('tunnel-vxlan', LINKTYPE.raw, (packet) => {
      const inner = ethernet(packet);
      const udp = new Uint8Array(16);
      const view = new DataView(udp.buffer);
      view.setUint16(0, 50_000);
      view.setUint16(2, 4789);
      view.setUint16(4, 16 + inner.length);
      udp[8] = 0x08;
      udp[14] = 9;
      return outer(17, concat([udp, inner]));
    }),
  ];
}

/** The first packets cut into IP fragments. */
export function fragmentCapture(): CorpusCapture {
  const world = emulatedWorld(PATHS);
  download(world, 20_000);
  const parts = [pcapHeader(LINKTYPE.raw)];
  let id = 1;
  for (const frame of world.captured.client.slice(0, 40)) {
    const { bytes } = frame;
    const header = bytes.slice(0, 20);
    const body = bytes.slice(20);
    id++;
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < body.length; at += 576) pieces.push(fragment(header, body.slice(at, at + 576), at, at + 576 < body.length, id));
    // Out of order, too.
    for (const piece of id % 2 === 0 ? pieces : pieces.toReversed()) parts.push(record(frame.time / 1e6, piece));
  }
  return { name: 'fragments', bytes: concat(parts) };
}

function fragment(header: Uint8Array, body: Uint8Array, offset: number, more: boolean, id: number): Uint8Array {
  const out = concat([header, body]);
  const view = new DataView(out.buffer);
  view.setUint16(2, out.length);
  view.setUint16(4, id);
  view.setUint16(6, (more ? 0x2000 : 0) | (offset >>> 3));
  fixChecksum(out);
  return out;
}

function rawPacket(source: Uint8Array, destination: Uint8Array, protocol: number, body: Uint8Array): Uint8Array {
  const out = new Uint8Array(20 + body.length);
  const view = new DataView(out.buffer);
  view.setUint16(0, 0x4500);
  view.setUint16(2, out.length);
  view.setUint8(8, 64);
  view.setUint8(9, protocol);
  out.set(source, 12);
  out.set(destination, 16);
  out.set(body, 20);
  fixChecksum(out);
  return out;
}

function fixChecksum(packet: Uint8Array): void {
  const view = new DataView(packet.buffer);
  view.setUint16(10, 0);
  let total = 0;
  for (let i = 0; i < 20; i += 2) total += view.getUint16(i);
  total = (total & 0xffff) + (total >>> 16);
  view.setUint16(10, ~(total + (total >>> 16)) & 0xffff);
}

function segment(source: Uint8Array, destination: Uint8Array, port: number, flags: number, options: TcpOption[], payload: number, random: Random): Uint8Array {
  return buildPacket(ipHeader(source, destination, 6), {
    tcp: {
      sourcePort: port,
      destinationPort: 80,
      seq: random.uint32(),
      ack: random.uint32(),
      headerLength: 20,
      reserved: 0,
      flags,
      window: 1000,
      checksum: 0,
      urgent: 0,
      options,
    },
    payload: new Uint8Array(payload).fill(0x41),
  });
}

export function record(seconds: number, bytes: Uint8Array): Uint8Array {
  const whole = Math.floor(seconds);
  return pcapRecord({ seconds: 1_700_000_000 + whole, nanoseconds: Math.round((seconds - whole) * 1e9), bytes, originalLength: bytes.length });
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Options of every subtype with random contents and random lengths, most of them wrong, each in a segment of its own. */
export function randomOptionCapture(seed: number, count = 2000): CorpusCapture {
  const random = new Random(seed);
  const parts = [pcapHeader(LINKTYPE.raw)];
  const [a, b] = [parseAddress('192.0.2.1'), parseAddress('192.0.2.2')];
  for (let i = 0; i < count; i++) {
    const subtype = random.integer(0, 9);
    const size = random.chance(0.5) ? random.pick([4, 8, 10, 12, 16, 18, 20, 22, 24, 26, 28, 30]) : random.integer(3, 40);
    const data = Uint8Array.from({ length: size - 2 }, () => random.integer(0, 255));
    data[0] = (subtype << 4) | (random.chance(0.7) ? random.pick([0, 1, 4, 6]) : random.integer(0, 15));
    const flags = random.pick([0x02, 0x12, 0x10, 0x18, 0x14, 0x04, 0x11]);
    parts.push(record(i / 1000, segment(a, b, 1024 + i, flags, [{ kind: 'unknown', code: OPTION.mptcp, data }], random.pick([0, 0, 10]), random)));
  }
  return { name: `random-options-${seed}`, bytes: concat(parts) };
}

/** Errors of routers that quote segments, whole and in part. */
export function quoteCapture(): CorpusCapture {
  const world = emulatedWorld(PATHS);
  download(world, 20_000);
  const parts = [pcapHeader(LINKTYPE.raw)];
  world.captured.client.slice(0, 30).forEach((frame, i) => {
    parts.push(record(frame.time / 1e6, frame.bytes));
    for (const length of [28, 40, 60, 80, 128, 400]) {
      const quote = frame.bytes.slice(0, length);
      const packet = buildPacket(ipHeader(parseAddress('198.51.100.1'), ipSource(frame.bytes)!, PROTOCOL.icmp), {
        icmp: { kind: 'error', version: 4, type: i % 2 === 0 ? ICMP.timeExceeded : ICMP.unreachable, code: i % 2 === 0 ? 0 : 4, checksum: 0, rest: 0, quote },
      });
      parts.push(record(frame.time / 1e6 + 0.0001, packet));
    }
  });
  return { name: 'icmp-quotes', bytes: concat(parts) };
}

/** Frames cut within the TCP options. */
export function cutCaptures(): CorpusCapture[] {
  const world = emulatedWorld(PATHS);
  download(world, 200_000);
  return [44, 56, 60, 64, 70, 76].map((snap) => ({ name: `cut-at-${snap}`, bytes: pcapngOf(world.captured.client, ['wifi', 'lte'], { snap }) }));
}
