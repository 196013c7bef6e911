/** Field by field the same as tshark, packet by packet, on captures of everything we can make. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Analyzer, compileFilter, DissectedPacket } from '@subflow/trace';
import { CaptureReader } from '@subflow/wire';
import { analysed } from './analysed.ts';
import { cutCaptures, fragmentCapture, linkCaptures, optionCapture, quoteCapture, randomOptionCapture, stackCaptures } from './corpus.ts';
import { compareWithTshark, MPTCP_FIELDS, OTHER_FIELDS, unexplained } from './tshark-fields.ts';

const directory = mkdtempSync(join(tmpdir(), 'subflow-tshark-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('the same as tshark, but for what tshark 4.0 gets wrong', () => {
  for (const capture of [
    ...stackCaptures(),
    optionCapture(),
    ...linkCaptures(),
    fragmentCapture(),
    randomOptionCapture(1),
    randomOptionCapture(2),
    quoteCapture(),
    ...cutCaptures(),
  ])
    it(capture.name, async () => {
      const file = join(directory, `${capture.name}.pcap`);
      writeFileSync(file, capture.bytes);
      // Segments that belong to no conversation: what is relative to one cannot be compared; nor what follows a malformed option.
      const random = capture.name.startsWith('random');
      const fields = random ? [] : capture.name === 'every-option' ? OTHER_FIELDS.filter((name) => name !== 'tcp.ack') : OTHER_FIELDS;
      const { packets, values, differences } = await compareWithTshark(file, [...MPTCP_FIELDS, ...fields]);
      expect(packets).toBeGreaterThan(30);
      expect(values).toBeGreaterThan(packets * (random ? 3 : 15));
      expect(unexplained(differences)).toEqual([]);
    });
});

const FILTERS = [
  'tcp.options.mptcp.subtype == 1',
  'tcp.options.mptcp.subtype == 2 && tcp.len > 0',
  'tcp.options.mptcp.backup.flag == 1 || tcp.options.mptcp.echo == 1',
  'ip.addr == 192.0.2.5 and not tcp.port == 80',
  'ip.src == 192.0.2.0/30',
  'tcp.flags.syn == 1 && !(tcp.flags.ack == 1)',
  'tcp.flags & 0x02',
  'tcp.len in {1420, 100..200}',
  'tcp.options.mptcp.datalvllen > 1000 and tcp.options.mptcp.dataack8.flag == 0',
  'tcp.options.mptcp.rawdataack',
  'tcp.port != 80',
  'tcp.port ~= 80',
  'tcp.options.mss_val ge 1400',
  'tcp.payload[0:2] == 00:1f',
  'tcp.payload contains 1f:3e',
  'frame.len <= 64 or frame.number < 4',
  'ipv6.src == 2001:db8:1::1',
  'tcp.stream eq 1',
  'tcp.window_size > 262144',
  'tcp.options.timestamp.tsval and tcp.seq == 1',
  'len(tcp.payload) > 1000',
];

describe('display filters choose the same packets as tshark -Y', () => {
  for (const name of ['stack-v1-ipv4', 'stack-v0-checksum-ipv6'])
    it(
      name,
      () => {
        const file = join(directory, `${name}.pcap`);
        writeFileSync(file, stackCaptures().find((one) => one.name === name)!.bytes);
        let chosen = 0;
        for (const filter of FILTERS) {
          const theirs = spawnSync('tshark', ['-r', file, '-n', '-d', 'tcp.port==80,data', '-Y', filter, '-T', 'fields', '-e', 'frame.number'], {
            encoding: 'utf8',
          });
          expect({ filter, status: theirs.status }).toEqual({ filter, status: 0 });
          const ours = numbersOf(file, filter);
          expect({ filter, packets: ours.join(' ') }).toEqual({ filter, packets: theirs.stdout.trim().split('\n').join(' ') });
          chosen += ours.length;
        }
        expect(chosen).toBeGreaterThan(3000);
      },
      90_000,
    );
});

describe('every format that editcap writes reads the same', () => {
  it('pcap of micro- and nanoseconds, modified pcap, pcapng', async () => {
    const file = join(directory, 'formats.pcapng');
    writeFileSync(file, linkCaptures()[0]!.bytes);
    const reference = await analysed([file]);
    for (const format of ['pcap', 'nsecpcap', 'modpcap', 'pcapng']) {
      const other = join(directory, `formats.${format}`);
      expect(spawnSync('editcap', ['-F', format, file, other]).status).toBe(0);
      const read = await analysed([other]);
      expect({ format, subflows: read.reports[0]!.subflows.map((one) => one.sent[1].bytes) }).toEqual({
        format,
        subflows: reference.reports[0]!.subflows.map((one) => one.sent[1].bytes),
      });
    }
  });
});

function numbersOf(file: string, text: string): number[] {
  const filter = compileFilter(text);
  const analyzer = new Analyzer();
  const reader = new CaptureReader();
  reader.push(readFileSync(file));
  const out: number[] = [];
  let number = 0;
  while (reader.next()) {
    analyzer.read(reader);
    if (filter(new DissectedPacket(analyzer, reader, ++number, 0))) out.push(number);
  }
  return out;
}
