/** Captures that are not whole, or not what they seem: tunnels, fragments, one side, the middle, translation, boxes in the way. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { attachMiddlebox, stripMultipath } from '@subflow/emulator';
import { Analyzer } from '@subflow/trace';
import type { TraceEvent } from '@subflow/trace';
import { buildPacket, FLAG, ipHeader, isMalformed, parseAddress, parsePacketValue } from '@subflow/wire';
import { analysedBytes } from '../../../test/trace/analysed.ts';
import { fragmentCapture, linkCaptures, optionCapture, stackCaptures } from '../../../test/trace/corpus.ts';
import { download, emulatedWorld, pcapngOf } from '../../../test/trace/emulated.ts';
import type { Frame, World } from '../../../test/trace/emulated.ts';
import { Ranges } from '../src/analysis/ranges.ts';
import { Series } from '../src/analysis/series.ts';
import { Samples } from '../src/analysis/samples.ts';
import { FlowTable } from '../src/analysis/flow-table.ts';
import { Segment } from '@subflow/wire';

const SIZE = 600_000;

function transfer(options: Parameters<typeof emulatedWorld>[1] = {}, prepare: (world: World) => void = () => undefined): World {
  const world = emulatedWorld(
    [
      { name: 'wifi', link: { rate: 20e6, delay: 10_000, queueTime: 50_000, loss: 0.003 } },
      { name: 'lte', link: { rate: 10e6, delay: 30_000, queueTime: 80_000 } },
    ],
    options,
  );
  prepare(world);
  download(world, SIZE);
  return world;
}

const sorted = (frames: readonly Frame[]): Frame[] => frames.toSorted((a, b) => a.time - b.time);
const events = <T extends TraceEvent['type']>(all: readonly TraceEvent[], type: T): Extract<TraceEvent, { type: T }>[] =>
  all.filter((one): one is Extract<TraceEvent, { type: T }> => one.type === type);

describe('what a frame is wrapped in does not matter', () => {
  for (const capture of linkCaptures())
    it(capture.name, () => {
      const { totals, reports } = analysedBytes(capture.bytes);
      expect(totals).toMatchObject({ mptcpConnections: 1, subflows: 2, versions: { v1: 1 } });
      expect(totals.frames.tcp).toBe(40);
      expect(reports[0]!.subflows.map((one) => one.source)).toEqual(['192.0.2.1', '192.0.2.5']);
    });

  it('fragments are put together, in any order', () => {
    const { totals, reports } = analysedBytes(fragmentCapture().bytes);
    expect(totals.reassembled).toBeGreaterThan(10);
    expect(totals.fragmentsLost).toBe(0);
    expect(reports[0]!.directions[1].bytes).toBe(analysedBytes(linkCaptures()[0]!.bytes).reports[0]!.directions[1].bytes);
  });
});

describe('captures of our stack are told as the stack knows them', () => {
  for (const capture of stackCaptures())
    it(capture.name, () => {
      const { totals, reports, events: all } = analysedBytes(capture.bytes);
      expect(totals).toMatchObject({ mptcpConnections: 1, fallbacks: 0, tcpConnections: 0 });
      const report = reports[0]!;
      const version = capture.name.includes('-v0') ? 0 : 1;
      expect(report.version).toBe(version);
      expect(report.checksum.used).toBe(capture.name.includes('checksum'));
      expect(report.directions[1].bytes).toBe(capture.name === 'stack-cut' ? 4_000_000 : 1_000_000);
      expect(report.directions[1].dataFin).toEqual({ seen: true, acknowledged: true });
      expect(report.subflows.filter((one) => one.kind === 'join').map((one) => one.hmac)).not.toContain('wrong');
      expect(events(all, 'checksum-failure')).toEqual([]);
      expect(events(all, 'key-wrong')).toEqual([]);
      if (report.checksum.used) expect(report.subflows[0]!.sent[1].checksums).toBeGreaterThan(50);
      if (capture.name !== 'stack-cut') expect(events(all, 'address-announced')[0]).toMatchObject({ by: 1, authentic: version === 1 ? true : null });
      if (capture.name !== 'stack-cut') expect(events(all, 'subflow-priority')[0]).toMatchObject({ by: 0, backup: true, subflow: 2 });
    });

  it('options of every form, in segments of their own, are counted and nothing else happens', () => {
    const { totals } = analysedBytes(optionCapture().bytes);
    expect(Array.from(totals.options.subarray(0, 9)).every((count) => count > 0)).toBe(true);
    expect(totals.frames.tcp).toBe(totals.packets);
  });
});

describe('captures that are not whole', () => {
  const world = transfer();
  const frames = sorted(world.captured.client);
  const names = ['wifi', 'lte'];

  it('one that begins in the middle: the subflows are joined by their data sequence numbers', () => {
    const { reports, totals } = analysedBytes(pcapngOf(frames.slice(200), names));
    expect(totals).toMatchObject({ mptcpConnections: 1, subflows: 2, versions: { unknown: 1 } });
    expect(reports[0]).toMatchObject({ version: null, fromTheBeginning: false });
    const whole = analysedBytes(pcapngOf(frames, names)).reports[0]!;
    const before = analysedBytes(pcapngOf(frames.slice(0, 200), names)).reports[0]!;
    // A segment lost before the capture began and sent again in it lies below what is known.
    const after = whole.directions[1].bytes - before.directions[1].bytes;
    expect(reports[0]!.directions[1].bytes).toBeGreaterThan(after - 3000);
    expect(reports[0]!.directions[1].bytes).toBeLessThanOrEqual(after);
    expect(reports[0]!.directions[1].reinjected.bytes).toBe(0);
  });

  it('one direction only', () => {
    const down = frames.filter((frame) => {
      const packet = parsePacketValue(frame.bytes);
      return !isMalformed(packet) && packet.tcp?.sourcePort === 80;
    });
    const { reports, totals } = analysedBytes(pcapngOf(down, names));
    expect(totals).toMatchObject({ mptcpConnections: 1, subflows: 2 });
    expect(reports[0]!.directions[1].bytes).toBe(SIZE);
    expect(reports[0]!.subflows.every((one) => one.sent[1].unseenBytes === 0)).toBe(true);
  });

  it('one interface only: the joined subflow alone', () => {
    const {
      reports,
      totals,
      events: all,
    } = analysedBytes(
      pcapngOf(
        frames.filter((one) => one.path === 1),
        names,
      ),
    );
    expect(totals).toMatchObject({ mptcpConnections: 1, subflows: 1 });
    expect(events(all, 'token-unknown')).toHaveLength(1);
    expect(reports[0]!.subflows[0]).toMatchObject({ kind: 'join', hmac: 'unchecked' });
    expect(reports[0]!.subflows[0]!.sent[1].dataBytes).toBeGreaterThan(50_000);
    // What came on the other interface is no hole that anything waits for.
    const { bytes, unseenBytes, queue } = reports[0]!.directions[1];
    expect(bytes + unseenBytes).toBeGreaterThan(bytes * 2);
    expect(queue.max).toBeLessThan(300_000);
  });

  it('frames cut at 96 bytes tell the same', () => {
    const cut = analysedBytes(pcapngOf(frames, names, { snap: 96 }));
    const whole = analysedBytes(pcapngOf(frames, names));
    expect(cut.reports).toEqual(whole.reports);
  });

  it('seen on both sides of an address translation: one connection, and it is said', () => {
    const translated = frames.map((frame) => {
      const packet = parsePacketValue(frame.bytes);
      if (isMalformed(packet) || packet.tcp === null) throw new Error('not TCP');
      const map = (address: Uint8Array): Uint8Array => (address[3] === 1 || address[3] === 5 ? Uint8Array.of(203, 0, 113, address[3]!) : address);
      const ip = { ...packet.ip, source: map(packet.ip.source), destination: map(packet.ip.destination) };
      return { ...frame, time: frame.time + 100, bytes: buildPacket(ip, { tcp: packet.tcp, payload: packet.payload }) };
    });
    const { totals, reports, events: all } = analysedBytes(pcapngOf(sorted([...frames, ...translated]), names));
    const first = parsePacketValue(translated[0]!.bytes);
    expect(events(all, 'translated')[0]).toMatchObject({ source: `203.0.113.1:${isMalformed(first) ? 0 : first.tcp?.sourcePort}` });
    expect(events(all, 'translated')).toHaveLength(2);
    expect(totals).toMatchObject({ mptcpConnections: 1, subflows: 2 });
    expect(reports[0]!.directions[1]).toMatchObject({ bytes: SIZE, reinjected: { bytes: 0 } });
  });
});

describe('an idle application', () => {
  it('makes no gap, at either end', () => {
    const world = emulatedWorld([{ name: 'wifi', link: { rate: 20e6, delay: 10_000 } }]);
    world.server.host.listen({ port: 80 });
    const connection = world.client.host.connect({ remote: parseAddress('192.0.2.2'), port: 80 }, 0);
    for (const at of [0, 3e6, 3.5e6])
      world.agenda.at(at + 1, (now) => {
        connection.write(new Uint8Array(4000), now);
        world.client.pump();
      });
    world.client.pump();
    world.agenda.runUntil(6e6);
    for (const end of ['client', 'server'] as const) {
      const { reports } = analysedBytes(pcapngOf(sorted(world.captured[end]), ['wifi']));
      expect(reports[0]!.directions[0]).toMatchObject({ bytes: 12_000, longestGap: 0 });
    }
  });
});

describe('boxes in the way', () => {
  const stripped = (where: 'syn' | 'synack' | 'after-handshake' | 'all'): ReturnType<typeof analysedBytes> => {
    const world = transfer({}, (made) => {
      for (const path of made.paths) {
        path.forward.filter = stripMultipath(where, () => true);
        path.backward.filter = stripMultipath(where, () => true);
      }
    });
    return analysedBytes(pcapngOf(sorted(world.captured.client), ['wifi', 'lte']));
  };

  it('the option is taken off the SYN or the SYN+ACK: fallback in the handshake', () => {
    for (const where of ['syn', 'synack', 'all'] as const) {
      const { totals, reports } = stripped(where);
      // The tap of a path stands behind its box: what is captured is what left it.
      if (where === 'synack') expect(reports[0]!.fallback?.reason).toBe('peer-not-capable');
      else expect(totals.mptcpConnections + totals.tcpConnections).toBeGreaterThan(0);
      expect(totals.fallbacks).toBe(where === 'synack' ? 1 : 0);
    }
  });

  it('the option is taken off everything after the handshake', () => {
    const { reports } = stripped('after-handshake');
    expect(['third-ack-without-option', 'no-dss-in-first-data']).toContain(reports[0]!.fallback?.reason);
    expect(reports[0]!.fallback!.packet).toBeGreaterThan(2);
  });

  it('changed payload is found by its DSS checksum, at the packet where the mapping ends', () => {
    let changed = 0;
    const world = transfer({ client: { mptcp: { checksum: true } }, server: { mptcp: { checksum: true } } }, (made) => {
      attachMiddlebox(
        () => ({
          name: 'spoiler',
          backward: (bytes) => {
            const packet = parsePacketValue(bytes);
            if (isMalformed(packet) || packet.tcp === null || packet.payload.length < 1000 || ++changed !== 50) return bytes;
            const payload = packet.payload.slice();
            payload[500]! ^= 0x20;
            return buildPacket(packet.ip, { tcp: packet.tcp, payload });
          },
        }),
        made.agenda,
        made.paths[0]!.forward,
        made.paths[0]!.backward,
      );
    });
    const { events: all } = analysedBytes(pcapngOf(sorted(world.captured.client), ['wifi', 'lte']));
    expect(changed).toBeGreaterThanOrEqual(50);
    expect(events(all, 'checksum-failure').length).toBeGreaterThanOrEqual(1);
    expect(events(all, 'mp-fail').length + events(all, 'subflow-reset').length).toBeGreaterThanOrEqual(1);
  });

  it('a wrong HMAC in MP_JOIN is an error', () => {
    const frames = sorted(transfer().captured.client).map((frame) => {
      const packet = parsePacketValue(frame.bytes);
      if (isMalformed(packet) || packet.tcp === null) return frame;
      const join = packet.tcp.options.find((one) => one.kind === 'mptcp' && one.option.subtype === 'join-ack');
      if (join?.kind !== 'mptcp' || join.option.subtype !== 'join-ack') return frame;
      join.option.hmac[3]! ^= 1;
      return { ...frame, bytes: buildPacket(packet.ip, { tcp: packet.tcp, payload: packet.payload }) };
    });
    const { reports, events: all } = analysedBytes(pcapngOf(frames, ['wifi', 'lte']));
    expect(events(all, 'hmac-wrong')[0]).toMatchObject({ severity: 'error', option: 'MP_JOIN ACK', subflow: 2, by: 0 });
    expect(reports[0]!.subflows[1]!.hmac).toBe('wrong');
  });
});

describe('memory has a bound', () => {
  it('half a million connection attempts: none is kept that can be forgotten', () => {
    const analyzer = new Analyzer();
    const packet = buildPacket(ipHeader(parseAddress('192.0.2.1'), parseAddress('192.0.2.2'), 6), {
      tcp: {
        sourcePort: 1,
        destinationPort: 80,
        seq: 1,
        ack: 0,
        headerLength: 20,
        reserved: 0,
        flags: FLAG.syn,
        window: 1000,
        checksum: 0,
        urgent: 0,
        options: [],
      },
      payload: new Uint8Array(0),
    });
    const view = new DataView(packet.buffer);
    const gc = (globalThis as { gc?: () => void }).gc;
    gc?.();
    const before = process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 500_000; i++) {
      view.setUint32(12, 0x0a000000 + (i >>> 4));
      view.setUint16(20, 1024 + (i & 15));
      analyzer.frame(view, packet, 0, packet.length, packet.length, 101, 1000 + Math.floor(i / 50_000), (i % 50_000) * 20_000);
    }
    gc?.();
    const grown = process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers - before;
    expect(analyzer.totals().tcpConnections).toBe(500_000);
    // 200,000 open conversations are the bound.
    expect(grown).toBeLessThan(900e6);
    analyzer.end();
  }, 60_000);
});

describe('the small parts', () => {
  it('ranges are what a set of numbers says', () => {
    const operation = fc.record({
      kind: fc.constantFrom('add', 'remove', 'advance'),
      start: fc.integer({ min: 0, max: 60 }),
      length: fc.integer({ min: 0, max: 20 }),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
        const ranges = new Ranges();
        let model = new Set<number>();
        for (const { kind, start, length } of operations) {
          if (kind === 'add') {
            let fresh = 0;
            for (let i = start; i < start + length; i++) {
              if (!model.has(i)) fresh++;
              model.add(i);
            }
            expect(ranges.add(start, start + length)).toBe(fresh);
          } else if (kind === 'remove') {
            let gone = 0;
            for (let i = start; i < start + length; i++) if (model.delete(i)) gone++;
            expect(ranges.remove(start, start + length)).toBe(gone);
          } else {
            const edge = ranges.advance(start);
            let expected = start;
            // A range that begins at or below the position is swallowed whole.
            for (const value of [...model].toSorted((a, b) => a - b)) if (value <= expected) expected = Math.max(expected, value + 1);
            expect(edge).toBe(expected);
            model = new Set([...model].filter((value) => value >= edge));
          }
          expect(ranges.total).toBe(model.size);
          const listed = ranges.starts.flatMap((from, i) => Array.from({ length: ranges.ends[i]! - from }, (_, k) => from + k));
          expect(listed).toEqual([...model].toSorted((a, b) => a - b));
        }
      }),
    );
  });

  it('a series keeps its sum while its bins widen', () => {
    const series = new Series();
    let total = 0;
    for (let i = 0; i < 50_000; i++) {
      series.add(i * 997, i % 1500);
      total += i % 1500;
    }
    expect(series.used).toBeLessThanOrEqual(512);
    expect(series.bins.reduce((a, b) => a + b)).toBe(total);
    expect(series.resampled(0, 100_000, 600).reduce((a, b) => a + b)).toBeCloseTo(total, 3);
  });

  it('quantiles are right to a few per cent', () => {
    const samples = new Samples();
    for (let i = 1; i <= 10_000; i++) samples.add(i * 10);
    const { median, p95, min, max, mean } = samples.distribution()!;
    expect([min, max, mean]).toEqual([10, 100_000, 50_005]);
    expect(median / 50_000).toBeCloseTo(1, 1);
    expect(p95 / 95_000).toBeCloseTo(1, 1);
  });

  it('the flow table finds both directions, forgets, and uses numbers again', () => {
    const table = new FlowTable();
    const segment = new Segment();
    const set = (i: number, reverse: boolean): Segment => {
      segment.ipVersion = i % 3 === 0 ? 6 : 4;
      segment.source0 = reverse ? 7 : i;
      segment.destination0 = reverse ? i : 7;
      segment.sourcePort = reverse ? 80 : 1000 + (i % 100);
      segment.destinationPort = reverse ? 1000 + (i % 100) : 80;
      return segment;
    };
    const numbers = new Map<number, number>();
    for (let i = 0; i < 5000; i++) {
      expect(table.find(set(i, false))).toBe(-1);
      numbers.set(i, table.add(set(i, false)));
    }
    for (let i = 0; i < 5000; i++) expect(table.find(set(i, true))).toBe(numbers.get(i));
    for (let i = 0; i < 5000; i += 2) table.remove(numbers.get(i)!);
    for (let i = 0; i < 5000; i++) expect(table.find(set(i, false))).toBe(i % 2 === 0 ? -1 : numbers.get(i));
    expect(table.size).toBe(2500);
    expect(table.add(set(0, false))).toBeLessThan(5000);
  });
});
