/** The report of a connection as lines of text. */
import { roundTrip } from '../analysis/report.ts';
import type { ConnectionReport, SubflowReport } from '../analysis/report.ts';
import { ms, seconds, sentence, size, verdicts } from '../analysis/story.ts';
import type { Totals } from '../analysis/analyzer.ts';
import type { Severity, TraceEvent } from '../analysis/events.ts';
import { subtypeName } from '../dissect/info.ts';

/** Colours come from outside: this draws for pipes and terminals alike. */
export interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  /** By number of the subflow, from 0. */
  subflow(index: number, text: string): string;
  severity(severity: Severity, text: string): string;
}

export const PLAIN: Paint = { bold: (text) => text, dim: (text) => text, subflow: (_, text) => text, severity: (_, text) => text };

const MARKS: Record<Severity, string> = { note: '·', warning: '!', error: 'X' };
/** Subflows listed one by one; more only with `all`. */
const MOST_SUBFLOWS = 12;

export function connectionLines(report: ConnectionReport, paint: Paint, options: { story?: boolean; all?: boolean } = {}): string[] {
  const out: string[] = [];
  const version = report.version === null ? 'version unknown' : `v${report.version}`;
  const [up, down] = report.directions;
  out.push(
    `${paint.bold(`#${report.index}  ${report.client} → ${report.server}`)}  Multipath TCP ${version}, ${count(report.subflows.length, 'subflow')}, ${seconds(report.start)} to ${seconds(report.end)}${report.fallback === null ? '' : paint.severity('warning', '  FELL BACK TO TCP')}`,
  );
  out.push(
    `    up ${size(up.bytes)} at ${rate(up.goodput)}, down ${size(down.bytes)} at ${rate(down.goodput)}; checksums ${report.checksum.used ? 'on' : 'off'}; ${VANTAGES[report.vantage]}`,
  );
  report.subflows.slice(0, options.all === true ? undefined : MOST_SUBFLOWS).forEach((one, i) => out.push(...subflowLines(one, i, report, paint)));
  if (options.all !== true && report.subflows.length > MOST_SUBFLOWS) out.push(`    and ${report.subflows.length - MOST_SUBFLOWS} more subflows`);
  if (report.subflowsNotKept > 0) out.push(`    ${report.subflowsNotKept} subflows beyond the first 256 were not analysed`);
  for (const [by, one] of report.directions.entries()) {
    if (one.bytes === 0) continue;
    const parts = [`${by === 0 ? 'up' : 'down'}: ${one.scheduler}`];
    // At the receiver a DATA_ACK leaves at once: that is no round trip.
    if (one.dataRtt !== null && report.vantage !== (by === 0 ? 'server' : 'client')) parts.push(`data-level RTT ${ms(one.dataRtt.median)}`);
    if (one.reinjected.bytes > 0)
      parts.push(`reinjected ${size(one.reinjected.bytes)} (${size(one.reinjected.useful)} useful, ${size(one.reinjected.wasted)} wasted)`);
    if (one.queue.max > 0) parts.push(`out-of-order queue up to ${size(one.queue.max)}, blocked ${ms(one.queue.blockedTime)}`);
    if (one.longestGap > 0) parts.push(`longest gap ${ms(one.longestGap)}`);
    out.push(paint.dim(`    ${parts.join('; ')}`));
  }
  for (const verdict of verdicts(report)) out.push(`    ${paint.severity(verdict.severity, `${MARKS[verdict.severity]} ${verdict.text}`)}`);
  if (options.story === true) out.push(...storyLines(report, paint));
  return out;
}

const VANTAGES = {
  client: 'captured at the client',
  server: 'captured at the server',
  middle: 'captured between the two',
  local: 'captured on a path too short to tell where',
  unknown: 'captured at an unknown place',
} as const;

function subflowLines(one: SubflowReport, index: number, report: ConnectionReport, paint: Paint): string[] {
  const parts = [
    `${one.kind === 'join' ? (one.openedBy === 0 ? 'join' : 'join by the server') : 'first'}${one.backup[0] || one.backup[1] ? ', backup' : ''}`,
    `${seconds(one.start)}–${seconds(one.end)}`,
  ];
  if (one.handshake !== null) parts.push(`handshake ${ms(one.handshake)}`);
  const rtt = roundTrip(one);
  if (rtt !== null) parts.push(`RTT ${ms(rtt.median)} (least ${ms(rtt.min)})`);
  const lines = [
    `    ${paint.subflow(index, `${one.number}  ${endpoint(one.source, one.sourcePort)} → ${endpoint(one.destination, one.destinationPort)}`)}  ${parts.join(', ')}`,
  ];
  const features = featuresText(one);
  if (features !== null) lines.push(paint.dim(`         ${features}`));
  one.sent.forEach((half, by) => {
    if (half.bytes === 0) return;
    const share = report.directions[by]!.share.find((entry) => entry.subflow === one.number)?.part ?? 0;
    const again = half.retransmittedPackets > 0 ? `, ${size(half.retransmittedBytes)} again (${causes(half.causes)})` : '';
    const spurious = half.spurious > 0 ? `, ${half.spurious} spurious` : '';
    const reordered = half.reordered > 0 ? `, ${half.reordered} reordered` : '';
    const reinjected = half.reinjectedBytes > 0 ? `, ${size(half.reinjectedBytes)} reinjected here` : '';
    lines.push(
      `         ${by === 0 ? 'up  ' : 'down'} ${size(half.bytes)}, ${(share * 100).toFixed(0)} % of the new data${reinjected}${again}${spurious}${reordered}`,
    );
  });
  return lines;
}

/** What the SYNs agreed on, client before server where they differ; null when they were not seen. */
export function featuresText(one: SubflowReport): string | null {
  const [a, b] = one.sent;
  if (a.mss === null && b.mss === null && a.windowScale === null && b.windowScale === null) return null;
  const both = (name: string, x: number | null, y: number | null): string =>
    x === null && y === null ? `no ${name}` : x === y ? `${name} ${x}` : `${name} ${x ?? 'none'} / ${y ?? 'none'}`;
  const yes = (name: string, x: boolean, y: boolean): string => (x && y ? name : x || y ? `${name} of the ${x ? 'client' : 'server'} alone` : `no ${name}`);
  return [
    both('MSS', a.mss, b.mss),
    both('window scale', a.windowScale, b.windowScale),
    yes('SACK', a.sackPermitted, b.sackPermitted),
    yes('timestamps', a.timestamps, b.timestamps),
  ].join(', ');
}

/** What happened, one sentence each. */
export function storyLines(report: ConnectionReport, paint: Paint, most = 200): string[] {
  const events = report.events.filter(worthTelling);
  const out = events.slice(0, most).map((event) => {
    const where = event.packet > 0 ? `packet ${event.packet}` : '';
    const text = sentence(event, report);
    return `    ${seconds(event.time).padStart(10)}  ${where.padEnd(13)} ${event.severity === 'note' ? text : paint.severity(event.severity, text)}`;
  });
  const rest = events.length - most + report.eventsNotKept;
  if (rest > 0) out.push(`    and ${rest} more events (--json has them)`);
  return out;
}

/** Short waits for a hole are daily bread; the story tells of those that a person could notice. */
const NOTICEABLE = 10_000;
/** A pause on one subflow is most often a hole, and told as such. */
const PAUSE = 200_000;

export function worthTelling(event: TraceEvent): boolean {
  if (event.type === 'gap') return event.from !== event.to || event.end - event.start >= PAUSE;
  if (event.type === 'blocked') return event.end - event.start >= NOTICEABLE;
  return event.type !== 'token-unknown';
}

export function totalsLines(totals: Totals, files: readonly string[], span: { start: string; seconds: number }): string[] {
  const out = [
    `${files.join(', ')}: ${totals.packets.toLocaleString('en')} packets, ${size(totals.bytes)} on the wire, ${span.seconds.toFixed(3)} s from ${span.start}`,
    `${count(totals.mptcpConnections, 'Multipath TCP connection')} (${versions(totals)}) with ${count(totals.subflows, 'subflow')}, ${totals.fallbacks} fallen back; ${count(totals.tcpConnections, 'plain TCP connection')}`,
  ];
  const options = Array.from(totals.options.entries()).filter(([, n]) => n > 0);
  if (options.length > 0) out.push(`options: ${options.map(([subtype, n]) => `${subtypeName(subtype)} ${n.toLocaleString('en')}`).join(', ')}`);
  const others = Object.entries(totals.frames).filter(([name, n]) => name !== 'tcp' && n > 0);
  if (others.length > 0) out.push(`not looked at: ${others.map(([name, n]) => `${n.toLocaleString('en')} ${name}`).join(', ')}`);
  if (totals.reassembled > 0 || totals.fragmentsLost > 0)
    out.push(`fragments: ${totals.reassembled} packets put together, ${totals.fragmentsLost} fragments without their packet`);
  if (totals.copies > 0) out.push(`${totals.copies.toLocaleString('en')} packets were seen on a second interface and left out`);
  return out;
}

/** RFC 3986 §3.2.2 brackets around IPv6. */
export function endpoint(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function versions({ versions: v }: Totals): string {
  const parts = [];
  if (v.v1 > 0) parts.push(`${v.v1} v1`);
  if (v.v0 > 0) parts.push(`${v.v0} v0`);
  if (v.unknown > 0) parts.push(`${v.unknown} of unknown version`);
  return parts.length === 0 ? 'none' : parts.join(', ');
}

function causes(counts: Record<string, number>): string {
  return (
    Object.entries(counts)
      .filter(([, n]) => n > 0)
      .map(([cause, n]) => `${n} ${cause}`)
      .join(', ') || 'causes not looked at'
  );
}

function count(n: number, what: string): string {
  return `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;
}

function rate(bits: number): string {
  if (bits >= 1e6) return `${(bits / 1e6).toFixed(2)} Mbit/s`;
  return `${(bits / 1e3).toFixed(1)} kbit/s`;
}
