/** The published story of a phone leaving cellular for Wi-Fi, told by the report: each sentence, with the packets that prove it. */
import { beforeAll, describe, expect, it } from 'vitest';
import { plotOf, sentence, signallingLines, svgOf, terminalPlot, PLAIN, Recorder, Analyzer, connectionReport, verdicts } from '@subflow/trace';
import type { Connection, ConnectionReport, TraceEvent } from '@subflow/trace';
import { FLAG, isMalformed, parsePacketValue } from '@subflow/wire';
import type { TcpHeader } from '@subflow/wire';
import { analysedBytes } from '../../../test/trace/analysed.ts';
import { pcapngOf } from '../../../test/trace/emulated.ts';
import type { Frame } from '../../../test/trace/emulated.ts';
import { phone, RESET_AT, WIFI_AT } from '../../../test/trace/phone.ts';

interface Truth {
  number: number;
  time: number;
  path: number;
  up: boolean;
  tcp: TcpHeader;
  payload: number;
  subtypes: string[];
}

describe('the phone that leaves cellular for wifi', () => {
  let frames: Frame[];
  let truth: Truth[];
  let report: ConnectionReport;
  let bytes: Uint8Array;

  const told = <T extends TraceEvent['type']>(type: T): Extract<TraceEvent, { type: T }>[] =>
    report.events.filter((one): one is Extract<TraceEvent, { type: T }> => one.type === type);
  const text = (event: TraceEvent | undefined): string => (event === undefined ? '' : `${event.packet}: ${sentence(event, report)}`);

  beforeAll(() => {
    const world = phone();
    frames = world.captured.client.toSorted((a, b) => a.time - b.time);
    bytes = pcapngOf(frames, ['cellular', 'wifi']);
    const capture = analysedBytes(bytes);
    report = capture.reports[0]!;
    expect(capture.reports).toHaveLength(1);
    // What really is in the packets, looked up without the analyzer.
    truth = frames.map((frame, i) => {
      const packet = parsePacketValue(frame.bytes);
      if (isMalformed(packet) || packet.tcp === null) throw new Error('not TCP');
      return {
        number: i + 1,
        time: frame.time - frames[0]!.time,
        path: frame.path,
        up: packet.tcp.destinationPort === 443,
        tcp: packet.tcp,
        payload: packet.payload.length,
        subtypes: packet.tcp.options.flatMap((one) => (one.kind === 'mptcp' ? [one.option.subtype] : [])),
      };
    });
  });

  it('begins on cellular with version 0', () => {
    expect(text(told('subflow-created')[0])).toBe(
      `1: The client opens a connection from 198.51.100.7:${truth[0]!.tcp.sourcePort} to 203.0.113.10:443 and offers Multipath TCP version 0.`,
    );
    expect(report).toMatchObject({ version: 0, vantage: 'client', checksum: { used: true } });
  });

  it('the fourth packet makes it a backup', () => {
    const prio = truth.find((one) => one.subtypes.includes('prio'))!;
    expect(prio.number).toBe(4);
    expect(text(told('subflow-priority')[0])).toBe('4: The client asks that subflow 1 be a backup (MP_PRIO).');
  });

  it('wifi joins at 4.74 s with the backup flag off', () => {
    const join = truth.find((one) => one.subtypes.includes('join-syn'))!;
    expect(Math.abs(join.time - WIFI_AT)).toBeLessThan(2000);
    const event = told('subflow-created')[1]!;
    expect(text(event)).toBe(
      `${join.number}: The client joins subflow 2 from 192.0.2.33:${join.tcp.sourcePort} to 203.0.113.10:443 (address identifier 1), with the backup flag off.`,
    );
    expect(event.time).toBeCloseTo(join.time, 3);
  });

  it('all traffic moves', () => {
    const first = truth.find((one) => one.path === 1 && one.payload > 0)!;
    expect(text(told('traffic-moved')[0])).toBe(`${first.number}: From here on what the server sends goes on subflow 2, no longer on subflow 1.`);
    expect(told('traffic-moved')).toHaveLength(1);
  });

  it('zero windows, then a reset of the cellular subflow at 5.103 s', () => {
    const zero = truth.find((one) => one.path === 0 && one.up && one.tcp.window === 0)!;
    const reset = truth.find((one) => (one.tcp.flags & FLAG.rst) !== 0)!;
    expect(Math.abs(reset.time - RESET_AT)).toBeLessThan(2000);
    expect(text(told('zero-window')[0])).toBe(`${zero.number}: The client closes its window on subflow 1 (zero window): the server must stop sending there.`);
    expect(text(told('subflow-reset')[0])).toBe(`${reset.number}: The client resets subflow 1 (RST) with a zero window.`);
    expect(report.subflows[0]!.sent[0].zeroWindows).toBe(truth.filter((one) => one.path === 0 && one.up && one.tcp.window === 0).length);
  });

  it('what was lost on cellular is reinjected on wifi, to the byte', () => {
    // Bytes of the stream by path, from the DSS options alone: what wifi carried below what it had carried before.
    let highest = 0n;
    let count = 0;
    const numbers: number[] = [];
    let end: number | null = null;
    for (const one of truth) {
      if (one.path !== 1 || one.up || one.payload === 0) continue;
      // New to the subflow: a TCP retransmission is none of our business here.
      const fresh: boolean = end === null || ((one.tcp.seq - end) | 0) >= 0;
      if (fresh) end = (one.tcp.seq + one.payload) | 0;
      const dss = one.tcp.options.flatMap((option) => (option.kind === 'mptcp' && option.option.subtype === 'dss' ? [option.option] : []))[0];
      if (dss?.dsn === undefined || dss.dsn === null) continue;
      const dsn = (BigInt(dss.dsn.high >>> 0) << 32n) | BigInt(dss.dsn.low >>> 0);
      if (fresh && dsn < highest) {
        count += one.payload;
        numbers.push(one.number);
      }
      if (dsn > highest) highest = dsn;
    }
    const [event] = told('reinjection');
    expect(told('reinjection')).toHaveLength(1);
    expect(event).toMatchObject({ from: 1, to: 2, bytes: count, packet: numbers[0], lastPacket: numbers.at(-1), useful: count, wasted: 0 });
    const within = Math.round((truth[numbers.at(-1)! - 1]!.time - truth[numbers[0]! - 1]!.time) / 1000);
    expect(sentence(event!, report)).toBe(
      `${Math.round(count / 1000)} kB that subflow 1 had carried were reinjected on subflow 2 within ${within} ms ` +
        `(packets ${numbers[0]} to ${numbers.at(-1)}); the copies were the ones that arrived.`,
    );
    expect(report.directions[1].reinjected.bytes).toBe(count);
  });

  it('the out-of-order queue, and the hole that explains it', () => {
    const first = truth.find((one) => one.path === 1 && one.payload > 0)!;
    const event = told('blocked')[0]!;
    expect(event).toMatchObject({ packet: first.number, waiting: 2, filledBy: 2, retransmissions: 0 });
    expect(event.reinjections).toBeGreaterThan(5);
    expect(event.originals).toBeGreaterThan(50);
    expect(sentence(event, report)).toMatch(
      /^Out-of-order queue for 3\d\d ms \(packets \d+ to \d+\), up to \d+ kB: what came on subflow 2 waited behind a hole/,
    );
  });

  it('the pictures of it', () => {
    const kept: Connection[] = [];
    const recorder = new Recorder(() => true);
    const analyzer = new Analyzer({ points: recorder, onConnection: (one) => kept.push(one) });
    frames.forEach((frame) =>
      analyzer.frame(
        new DataView(frame.bytes.buffer),
        frame.bytes,
        0,
        frame.bytes.length,
        frame.bytes.length,
        101,
        Math.floor(frame.time / 1e6),
        (frame.time % 1e6) * 1000,
      ),
    );
    analyzer.end();
    const drawn = { connection: kept[0]!, report: connectionReport(kept[0]!), recording: recorder.recordings.get(0)! };
    const plot = plotOf('seq', drawn);
    expect(plot.series.map((one) => one.name)).toEqual(['right edge of the window', 'DATA_ACK', 'subflow 1', 'subflow 2', 'retransmitted', 'reinjected']);
    expect(plot.marks.map((one) => one.label)).toEqual(['MP_PRIO 1 backup', 'join 2', 'to 2', 'zero window 1', 'RST 1']);
    expect(svgOf(plot)).toMatch(/^<svg .*<\/svg>\n$/s);
    const lines = terminalPlot(plotOf('throughput', drawn), 100, 20, PLAIN);
    expect(lines[0]).toContain('Throughput of what the server sent');
    expect(lines.join('\n')).toMatch(/[⠀-⣿]{20}/u);
    expect(signallingLines(drawn.report)[3]).toMatch(/#4 .*MP_PRIO backup/);
  });

  it('what comes late on a subflow that was reset belongs to its connection, as long as that lives', () => {
    const shifted = frames.map((frame) => (frame.time > 5.3e6 ? { ...frame, time: frame.time + 8e6 } : frame));
    const old = frames.filter((frame) => frame.path === 0 && frame.bytes.length > 1000).slice(-20);
    const late = old.map((frame, i) => ({ ...frame, time: 12e6 + i * 1000 }));
    const { totals, reports } = analysedBytes(pcapngOf([...shifted, ...late], ['cellular', 'wifi']));
    expect(totals).toMatchObject({ mptcpConnections: 1, subflows: 2 });
    expect(reports[0]!.subflows[0]!.end).toBeGreaterThan(11.9e6);
  });

  it('the verdict', () => {
    // The change of paths blocks about a tenth of the time, and a tenth is where a verdict begins.
    const share = report.directions[1].queue.blockedTime / (report.end - report.start);
    expect(share).toBeGreaterThan(0.07);
    expect(share).toBeLessThan(0.15);
    const blocking = expect.stringMatching(/^head-of-line blocking of the server's data for 1\d % of the time/);
    expect(verdicts(report).map((one) => one.text)).toEqual(share > 0.1 ? [blocking] : []);
  });
});
