/** First inputs: packets of real emulated conversations for the codec, well-formed programs for the live connection. */
import { runSeed } from '../simulation/run-seed.ts';
import { LinkDirection } from '@subflow/emulator';
import { isMalformed, pcapHeader, pcapngInterface, pcapngPacket, pcapngSection, pcapRecord, readCapture } from '@subflow/wire';
import { concat, fragmentCapture, linkCaptures, optionCapture, stackCaptures } from '../trace/corpus.ts';

/** Packets of a few random scenarios, one of each shape. */
export function packetSeeds(): Uint8Array[] {
  const seen = new Map<string, Uint8Array>();
  const original = LinkDirection.prototype.send;
  LinkDirection.prototype.send = function (this: LinkDirection, packet: Uint8Array, now?: number): void {
    const headers = packet.slice(0, Math.min(packet.length, 160));
    const shape = `${packet[0]! >>> 4}:${packet.length > 100}:${optionShape(packet)}`;
    if (!seen.has(shape)) seen.set(shape, headers);
    original.call(this, packet, now);
  };
  try {
    for (let seed = 1; seed <= 60; seed++) runSeed(seed);
  } finally {
    LinkDirection.prototype.send = original;
  }
  return [...seen.values()];
}

function optionShape(packet: Uint8Array): string {
  const tcp = packet[0]! >>> 4 === 6 ? 40 : (packet[0]! & 15) * 4;
  let out = '';
  const end = tcp + (packet[tcp + 12]! >>> 4) * 4;
  for (let at = tcp + 20; at < end;) {
    const kind = packet[at]!;
    if (kind === 0) break;
    out += kind === 30 ? `m${packet[at + 2]! >>> 4}.${packet[at + 1]}` : `${kind}`;
    at += kind === 1 ? 1 : Math.max(2, packet[at + 1]!);
  }
  return out;
}

/** Programs: handshake of either version, data, a join, addresses, ends of every kind. */
export function programSeeds(): Uint8Array[] {
  const hello = [0, 1, 2, 0, 4, 1, 16, 0];
  const older = [0, 0, 2, 0, 4, 1, 16, 0];
  const join = [64 | 24, 16, 64 | 26, 0, 64 | 4, 1, 64 | 16, 0];
  const tails = [
    [20, 40, 16, 0, 18, 20, 21, 0],
    [9, 1, 10, 1, 11, 1],
    [12, 0, 8, 4],
    [13, 0],
    [13, 2],
    [14, 1, 22, 1, 16, 0, 18, 200],
    [15, 0],
    [22, 2, 18, 50],
    [23, 1, 23, 4, 18, 30],
    [4, 4, 4, 8, 4, 12, 4, 16, 4, 20, 4, 24, 4, 28, 4, 32, 4, 36, 4, 40],
    [28, 30, 30, 0, 31, 9],
  ];
  const out: Uint8Array[] = [];
  for (const setting of [0, 1, 6, 8, 16]) {
    for (const start of [hello, older, [...hello, ...join], [...older, ...join], [0, 0x61, 2, 0, 4, 1]]) {
      for (const tail of tails) out.push(Uint8Array.from([setting, ...start, ...tail]));
    }
  }
  return out;
}

const CAPTURE_SNAP = 96;
const CAPTURE_SIZE = 1900;

/** Small captures of both formats and every link layer: beginnings of connections, and pieces from their middle. */
export function captureSeeds(): Uint8Array[] {
  const out: Uint8Array[] = [];
  for (const { bytes } of [...stackCaptures(), optionCapture(), ...linkCaptures(), fragmentCapture()]) {
    const capture = readCapture(bytes);
    if (isMalformed(capture)) continue;
    const { frames } = capture;
    const some = frames.length > 100;
    for (const start of some ? [0, 30, Math.floor(frames.length / 2), frames.length - 20] : [0]) {
      const linkType = frames[0]!.linkType;
      const pcap = [pcapHeader(linkType)];
      const pcapng = [pcapngSection('fuzz'), pcapngInterface(linkType, 'a'), pcapngInterface(linkType, 'b')];
      // From the middle the handshake comes along, so that there is a connection to speak of.
      for (const frame of [...(start > 0 ? frames.slice(0, 3) : []), ...frames.slice(start, start + 40)]) {
        const cut = { ...frame, interface: frame.interface & 1, comment: null, bytes: frame.bytes.slice(0, CAPTURE_SNAP) };
        if (total(pcap) < CAPTURE_SIZE) pcap.push(pcapRecord(cut));
        if (total(pcapng) < CAPTURE_SIZE) pcapng.push(pcapngPacket(cut));
      }
      out.push(concat(pcap), concat(pcapng));
    }
  }
  return out;
}

function total(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}
