/**
 * A large capture for benchmarks: connections of two hosts of ours over two lossy paths, laid one over the other with
 * addresses, ports and times of their own, cut at 128 bytes. `node scripts/run.mjs test/trace/big-capture.ts FILE [--size 500e6]`.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { joinHmac, keyMaterial } from '@subflow/stack';
import type { KeyMaterial } from '@subflow/stack';
import { DSS_FLAG, ETHERNET, ethernetFrame, IPV4, LINKTYPE, mptcpSubtype, parsePacket, pcapHeader, Segment, SUBTYPE } from '@subflow/wire';
import { download, emulatedWorld } from './emulated.ts';
import type { Frame } from './emulated.ts';

const SNAP = 128;
const EPOCH = 1_700_000_000;
/** Connections that are open at the same time. */
const TOGETHER = 64;

/** One connection of 4 MB over two subflows, as its client sees it. */
function record(seed: number): Frame[] {
  const world = emulatedWorld(
    [
      { name: 'wifi', link: { rate: 20e6, delay: 10_000, queueTime: 50_000, loss: 0.002 } },
      { name: 'lte', link: { rate: 10e6, delay: 30_000, queueTime: 80_000, loss: 0.001 } },
    ],
    { seed },
  );
  download(world, 4_000_000);
  return world.captured.client.toSorted((a, b) => a.time - b.time);
}

interface Record {
  time: number;
  bytes: Uint8Array;
  original: number;
  /** From the client. */
  up: boolean;
  /** Offsets of what belongs to this connection alone: keys, tokens, HMACs, data sequence numbers. */
  keys: { at: number; side: 0 | 1 }[];
  token: number;
  hmac: { at: number; length: number; side: 0 | 1 } | null;
  numbers: { at: number; wide: boolean; side: 0 | 1 }[];
}

interface Pattern {
  records: Record[];
  length: number;
  keys: [KeyMaterial, KeyMaterial];
  nonces: [number, number];
}

function patternOf(seed: number): Pattern {
  const frames = record(seed);
  const segment = new Segment();
  const keys: (KeyMaterial | null)[] = [null, null];
  const nonces: [number, number] = [0, 0];
  const records = frames.map((frame): Record => {
    const framed = ethernetFrame(frame.bytes, new Uint8Array(6), new Uint8Array(6));
    const view = new DataView(framed.buffer, 0, framed.length);
    parsePacket(view, framed, ETHERNET.header, framed.length - ETHERNET.header, false, segment);
    const up = segment.destinationPort === 80;
    const side = up ? 0 : 1;
    const out: Record = { time: frame.time, bytes: framed.slice(0, SNAP), original: framed.length, up, keys: [], token: -1, hmac: null, numbers: [] };
    for (let i = 0; i < segment.otherMptcpCount; i++) {
      const at = segment.otherMptcp[i]!;
      const size = view.getUint8(at + 1);
      const subtype = mptcpSubtype(view, at);
      if (subtype === SUBTYPE.capable && size >= 12) {
        out.keys.push({ at: at + 4, side });
        keys[side] = keyMaterial(view.getInt32(at + 4), view.getInt32(at + 8));
        if (size >= 20) out.keys.push({ at: at + 12, side: side === 0 ? 1 : 0 });
      }
      if (subtype !== SUBTYPE.join) continue;
      if (size === 12) {
        out.token = at + 4;
        nonces[0] = view.getInt32(at + 8);
      } else if (size === 16) {
        nonces[1] = view.getInt32(at + 12);
        out.hmac = { at: at + 4, length: 8, side: 1 };
      } else {
        out.hmac = { at: at + 4, length: 20, side: 0 };
      }
    }
    if (segment.hasDss) dssOffsets(segment, out);
    return out;
  });
  return { records, length: frames.at(-1)!.time, keys: [keys[0]!, keys[1]!], nonces };
}

/** Where the numbers of a segment's DSS stand. */
function dssOffsets(segment: Segment, out: Record): void {
  let next = segment.dssOffset + 4;
  if ((segment.dssFlags & DSS_FLAG.dataAck) !== 0) {
    const wide = (segment.dssFlags & DSS_FLAG.dataAck64) !== 0;
    out.numbers.push({ at: next, wide, side: out.up ? 1 : 0 });
    next += wide ? 8 : 4;
  }
  if ((segment.dssFlags & DSS_FLAG.mapping) !== 0) out.numbers.push({ at: next, wide: (segment.dssFlags & DSS_FLAG.dsn64) !== 0, side: out.up ? 0 : 1 });
}

interface Lane {
  pattern: Pattern;
  at: number;
  start: number;
  number: number;
  keys: [KeyMaterial, KeyMaterial];
  hmacs: [Uint8Array, Uint8Array];
}

function lane(pattern: Pattern, start: number, number: number): Lane {
  const keys = pattern.keys.map((key) => keyMaterial(key.high + number, key.low)) as Lane['keys'];
  const [a, b] = keys;
  return {
    pattern,
    at: 0,
    start,
    number,
    keys,
    hmacs: [joinHmac(a, b, pattern.nonces[0], pattern.nonces[1]), joinHmac(b, a, pattern.nonces[1], pattern.nonces[0])],
  };
}

/** Writes the record as the lane's connection would have sent it. */
function emit(one: Lane, record: Record, out: Uint8Array, view: DataView, base: number): void {
  out.set(record.bytes, base);
  // 192.0.2.x becomes 10.a.b.x at both ends.
  for (const at of [base + ETHERNET.header + IPV4.source, base + ETHERNET.header + IPV4.destination]) {
    out[at] = 10;
    out[at + 1] = (one.number >>> 8) & 0xff;
    out[at + 2] = one.number & 0xff;
  }
  for (const { at, side } of record.keys) view.setInt32(base + at, one.keys[side].high);
  if (record.token >= 0) view.setInt32(base + record.token, one.keys[1].token);
  if (record.hmac !== null) out.set(one.hmacs[record.hmac.side].subarray(0, record.hmac.length), base + record.hmac.at);
  for (const { at, wide, side } of record.numbers) {
    const old = one.pattern.keys[side];
    const fresh = one.keys[side];
    if (!wide) {
      view.setInt32(base + at, (view.getInt32(base + at) - old.idsnLow + fresh.idsnLow) | 0);
      continue;
    }
    const position = view.getBigUint64(base + at) - idsn(old) + idsn(fresh);
    view.setBigUint64(base + at, BigInt.asUintN(64, position));
  }
}

function idsn(key: KeyMaterial): bigint {
  return (BigInt(key.idsnHigh >>> 0) << 32n) | BigInt(key.idsnLow >>> 0);
}

/** Writes a capture of about `size` bytes; returns packets and connections in it. */
export function writeBigCapture(file: string, size: number): { packets: number; connections: number } {
  const patterns = [1, 2, 3, 4].map(patternOf);
  const fd = openSync(file, 'w');
  writeSync(fd, pcapHeader(LINKTYPE.ethernet, SNAP));
  const out = new Uint8Array(4 << 20);
  const view = new DataView(out.buffer);
  let used = 0;
  let written = 24;
  let connections = 0;
  let packets = 0;
  const next = (start: number): Lane => lane(patterns[connections % patterns.length]!, start, connections++);
  // Connections begin one after the other, so that packets of all are mixed.
  const heap = Array.from({ length: TOGETHER }, (_, i) => next((i * patterns[0]!.length) / TOGETHER));
  const timeOf = (one: Lane): number => one.start + one.pattern.records[one.at]!.time;
  const sift = (): void => {
    for (let i = 0; ;) {
      let least = i;
      for (const child of [2 * i + 1, 2 * i + 2]) if (child < heap.length && timeOf(heap[child]!) < timeOf(heap[least]!)) least = child;
      if (least === i) return;
      [heap[i], heap[least]] = [heap[least]!, heap[i]!];
      i = least;
    }
  };
  heap.sort((a, b) => timeOf(a) - timeOf(b));
  while (written < size) {
    const top = heap[0]!;
    const record = top.pattern.records[top.at]!;
    const time = timeOf(top);
    const need = 16 + record.bytes.length;
    if (used + need > out.length) {
      writeSync(fd, out, 0, used);
      used = 0;
    }
    const seconds = Math.floor(time / 1e6);
    view.setUint32(used, EPOCH + seconds, true);
    view.setUint32(used + 4, Math.floor((time - seconds * 1e6) * 1000), true);
    view.setUint32(used + 8, record.bytes.length, true);
    view.setUint32(used + 12, record.original, true);
    emit(top, record, out, view, used + 16);
    used += need;
    written += need;
    packets++;
    if (++top.at === top.pattern.records.length) heap[0] = next(time + 1000);
    sift();
  }
  writeSync(fd, out, 0, used);
  closeSync(fd);
  return { packets, connections };
}

if (process.argv[1]?.endsWith('big-capture.ts') === true) {
  const [, , file, , size] = process.argv;
  if (file === undefined) throw new Error('big-capture.ts FILE [--size BYTES]');
  console.log(JSON.stringify(writeBigCapture(file, Number(size ?? 500e6))));
}
