/** The signalling packets of a connection as a sequence diagram: one lane for each subflow between client and server. */
import type { ConnectionReport } from '../analysis/report.ts';
import { seconds, sentence } from '../analysis/story.ts';
import type { TraceEvent } from '../analysis/events.ts';
import { PALETTE } from './plot.ts';
import { escapeXml } from './svg.ts';

const MOST = 80;
const ROW = 26;
const TOP = 64;
const TIME = 150;
const LANE = 230;

const LABELS: Partial<Record<TraceEvent['type'], (event: never) => string>> = {
  'subflow-created': (event: Extract<TraceEvent, { type: 'subflow-created' }>) =>
    event.join
      ? `SYN, MP_JOIN id=${event.addressId}${event.backup ? ' backup' : ''}`
      : event.version === null
        ? '(begins in the middle)'
        : `SYN, MP_CAPABLE v${event.version}`,
  'connection-established': (event: Extract<TraceEvent, { type: 'connection-established' }>) => `ACK, MP_CAPABLE: established v${event.version}`,
  'subflow-established': () => 'ACK: subflow established',
  'connection-fallback': (event: Extract<TraceEvent, { type: 'connection-fallback' }>) => `fallback: ${event.reason}`,
  'subflow-priority': (event: Extract<TraceEvent, { type: 'subflow-priority' }>) => `MP_PRIO ${event.backup ? 'backup' : 'regular'}`,
  'address-announced': (event: Extract<TraceEvent, { type: 'address-announced' }>) => `ADD_ADDR id=${event.addressId} ${event.address}`,
  'address-echoed': (event: Extract<TraceEvent, { type: 'address-echoed' }>) => `ADD_ADDR echo id=${event.addressId}`,
  'address-removed': (event: Extract<TraceEvent, { type: 'address-removed' }>) => `REMOVE_ADDR id=${event.addressIds.join(',')}`,
  'mp-fail': () => 'MP_FAIL',
  'fast-close': () => 'MP_FASTCLOSE',
  'data-fin': () => 'DATA_FIN',
  'subflow-end': () => 'FIN',
  'subflow-reset': (event: Extract<TraceEvent, { type: 'subflow-reset' }>) =>
    `RST${event.zeroWindow ? ', window 0' : ''}${event.explained ? `, MP_TCPRST ${event.reason}` : ''}`,
  'zero-window': () => 'zero window',
  'window-opened': () => 'window opens',
};

export function signallingEvents(report: ConnectionReport): TraceEvent[] {
  return report.events.filter((event) => LABELS[event.type] !== undefined && event.packet > 0).slice(0, MOST);
}

export function signallingSvg(report: ConnectionReport): string {
  const events = signallingEvents(report);
  const lanes = Math.max(1, report.subflows.length);
  const width = TIME + lanes * LANE + 20;
  const height = TOP + (events.length + 1) * ROW;
  const left = (lane: number): number => TIME + lane * LANE + 20;
  const right = (lane: number): number => TIME + (lane + 1) * LANE - 20;
  const out: string[] = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="DejaVu Sans, Verdana, sans-serif" font-size="11" role="img" aria-label="Signalling packets">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="#333"/></marker></defs>',
  ];
  report.subflows.forEach((one, i) => {
    const color = PALETTE[i % PALETTE.length]!;
    out.push(
      `<text x="${(left(i) + right(i)) / 2}" y="18" text-anchor="middle" font-weight="bold" fill="${color}">subflow ${one.number}</text>`,
      `<text x="${(left(i) + right(i)) / 2}" y="32" text-anchor="middle" fill="${color}">${escapeXml(`${one.source} → ${one.destination}`)}</text>`,
      `<text x="${left(i)}" y="${TOP - 16}" text-anchor="middle" fill="#666">client</text><text x="${right(i)}" y="${TOP - 16}" text-anchor="middle" fill="#666">server</text>`,
      `<path d="M${left(i)} ${TOP - 10}V${height - 8}M${right(i)} ${TOP - 10}V${height - 8}" stroke="${color}" stroke-width="1.4"/>`,
    );
  });
  events.forEach((event, row) => {
    const y = TOP + 14 + row * ROW;
    const lane = Math.max(0, Math.min(lanes - 1, event.subflow - 1));
    const [from, to] = event.by === 0 ? [left(lane), right(lane)] : [right(lane), left(lane)];
    const label = (LABELS[event.type] as (event: TraceEvent) => string)(event);
    out.push(
      `<g><title>${escapeXml(sentence(event, report))}</title><text x="${TIME - 8}" y="${y + 4}" text-anchor="end" fill="#444">${seconds(event.time - report.start)}  #${event.packet}</text>`,
      `<path d="M${from} ${y}H${to}" stroke="#333" marker-end="url(#tip)"/><text x="${(from + to) / 2}" y="${y - 4}" text-anchor="middle">${escapeXml(label)}</text></g>`,
    );
  });
  out.push('</svg>');
  return `${out.join('\n')}\n`;
}

/** The same as lines of text. */
export function signallingLines(report: ConnectionReport): string[] {
  return signallingEvents(report).map((event) => {
    const label = (LABELS[event.type] as (event: TraceEvent) => string)(event);
    const arrow = event.by === 0 ? '────────▶' : '◀────────';
    return `${seconds(event.time - report.start).padStart(10)}  #${String(event.packet).padEnd(8)} subflow ${event.subflow}  client ${arrow} server  ${label}`;
  });
}
