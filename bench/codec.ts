/** Header parse and emit, checksum: nanoseconds, against the aims and against the plain way to do it. */
import { DSS_FLAG, FLAG, parseTcp, parseTcpInto, Segment, sum, writeDss, writeTcp, writeTimestamps } from '@subflow/wire';
import { median, row } from './rows.ts';
import type { Row } from './rows.ts';

const RUNS = 7;
const ROUNDS = 2_000_000;

/** Nanoseconds per call, `RUNS` times, both functions interleaved. */
function time(ours: (i: number) => number, peer: (i: number) => number, peerRounds: number): [number[], number[]] {
  const a: number[] = [];
  const b: number[] = [];
  let sink = 0;
  const measure = (f: (i: number) => number, rounds: number): number => {
    const start = process.hrtime.bigint();
    for (let i = 0; i < rounds; i++) sink += f(i);
    return Number(process.hrtime.bigint() - start) / rounds;
  };
  measure(ours, ROUNDS / 4);
  measure(peer, peerRounds / 4);
  for (let i = 0; i < RUNS; i++) {
    a.push(measure(ours, ROUNDS));
    b.push(measure(peer, peerRounds));
  }
  if (sink === 0.5) console.log(sink);
  return [a, b];
}

const slab = new Uint8Array(65_536);
const view = new DataView(slab.buffer);

function header(at: number, i: number): number {
  writeTcp(view, at, 1000, 80, i, 7, FLAG.ack, 500, 40);
  writeTimestamps(view, at + 20, i, 9);
  writeDss(view, at + 32, DSS_FLAG.dataAck | DSS_FLAG.dataAck64 | DSS_FLAG.mapping | DSS_FLAG.dsn64, 1, i, 3, i, i, 1400, -1);
  return at;
}

export function codec(): Row[] {
  for (let i = 0; i < 512; i++) header(i * 128, i);
  const segment = new Segment();
  const [parse, parseValue] = time(
    (i) => parseTcpInto(view, (i & 511) << 7, 100, segment) + segment.dsnLow,
    (i) => (parseTcp(view, (i & 511) << 7, 100) as { seq: number }).seq,
    ROUNDS / 10,
  );
  const [emit, emitBuffer] = time(
    (i) => header((i & 511) << 7, i),
    (i) => {
      const bytes = Buffer.allocUnsafe(60);
      bytes.writeUInt16BE(1000, 0);
      bytes.writeUInt16BE(80, 2);
      bytes.writeUInt32BE(i, 4);
      bytes.writeUInt32BE(7, 8);
      bytes.writeUInt32BE(0xf0100000 + 500, 12);
      bytes.writeUInt32BE(0, 16);
      bytes.writeUInt32BE(0x0101080a, 20);
      bytes.writeUInt32BE(i, 24);
      bytes.writeUInt32BE(9, 28);
      bytes.writeUInt32BE(0x01011e1a, 32);
      bytes.writeUInt16BE(0x200f, 36);
      bytes.writeBigUInt64BE(BigInt(i), 38);
      bytes.writeBigUInt64BE(BigInt(i), 46);
      bytes.writeUInt32BE(i, 54);
      bytes.writeUInt16BE(1400, 58);
      return bytes[4]!;
    },
    ROUNDS / 4,
  );
  const [checksum, simple] = time(
    (i) => (i % 100 === 0 ? sum(slab, 0, 65_536) : 0),
    (i) => {
      if (i % 100 !== 0) return 0;
      let total = 0;
      for (let k = 0; k < 65_536; k += 2) total += view.getUint16(k);
      return total;
    },
    ROUNDS / 10,
  );
  return [
    row('parse: TCP header with timestamps and DSS', 'ns', parse, 'aim', 100, true),
    row('parse: the same', 'ns', parse, 'value parser', median(parseValue), true),
    row('emit: TCP header with timestamps and DSS', 'ns', emit, 'aim', 30, true),
    row('emit: the same', 'ns', emit, 'Buffer.write', median(emitBuffer), true),
    row(
      'checksum: 64 KB',
      'µs',
      checksum.map((ns) => ns / 10),
      'DataView',
      median(simple) / 10,
      true,
    ),
  ];
}
