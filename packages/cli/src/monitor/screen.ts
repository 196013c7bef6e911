/** The monitor's picture: a band for each interface, then connections with their subflows, then what the counters did. */
import { styleText } from 'node:util';
import { color, rateText, sizeText, sparkline } from '../network/terminal.ts';
import type { ConnectionRow, InterfaceRow, View } from '@subflow/net';

const MOST_CONNECTIONS = 12;

export interface ScreenOptions {
  columns: number;
  rows: number;
  /** Interfaces to show; null: those with traffic. */
  interfaces: readonly string[] | null;
  plain: boolean;
}

/** Lines for a terminal. */
export function drawView(view: View, options: ScreenOptions): string[] {
  const paint = (index: number, text: string): string => (options.plain ? text : color(index, text));
  const dim = (text: string): string => (options.plain ? text : styleText('gray', text));
  const width = Math.max(60, options.columns - 1);
  const out: string[] = [`subflow monitor   ${new Date(view.time).toISOString().slice(11, 19)}   ${view.connections.length} connections`];
  const interfaces = shownInterfaces(view, options.interfaces);
  const names = interfaces.map((one) => one.name);
  const top = Math.max(1, ...interfaces.flatMap((one) => one.history));
  interfaces.forEach((one, i) => {
    const graph = sparkline(one.history, top, width - 50);
    const label = one.source === 'kernel' ? one.name : `${one.name} (${one.source})`;
    out.push(`${paint(i, label.padEnd(16).slice(0, 16))} ${paint(i, graph)} ↓ ${rateText(one.received).padStart(12)} ↑ ${rateText(one.sent).padStart(12)}`);
  });
  const busiest = view.connections.toSorted((a, b) => trafficOf(b) - trafficOf(a));
  for (const row of busiest.slice(0, MOST_CONNECTIONS)) out.push(...drawConnection(row, names, paint, width));
  if (busiest.length > MOST_CONNECTIONS) out.push(dim(`… and ${busiest.length - MOST_CONNECTIONS} more connections`));
  if (view.moved.length > 0) out.push(dim(view.moved.map(({ name, value, by }) => `${name} ${value} (+${by})`).join('  ')).slice(0, width));
  return out.slice(0, Math.max(5, options.rows - 1));
}

function shownInterfaces(view: View, wanted: readonly string[] | null): InterfaceRow[] {
  if (wanted !== null) return view.interfaces.filter((one) => wanted.includes(one.name));
  const used = new Set(view.connections.flatMap((row) => row.subflows.map(({ facts }) => `${row.source}|${facts.interface}`)));
  return view.interfaces.filter((one) => used.has(`${one.source}|${one.name}`) || (one.name !== 'lo' && one.history.some((value) => value > 0)));
}

function trafficOf(row: ConnectionRow): number {
  return row.subflows.reduce((sum, one) => sum + one.received + one.sent, 0);
}

function drawConnection(row: ConnectionRow, names: readonly string[], paint: (index: number, text: string) => string, width: number): string[] {
  const { status } = row;
  const token = status.localToken === null || status.localToken === 0 ? '' : `  token ${status.localToken.toString(16).padStart(8, '0')}`;
  const kind = status.version === null ? `plain TCP (${status.fallback ?? 'fallback'})` : `v${status.version}`;
  const reinjected = status.bytesReinjected > 0 ? `  reinjected ${sizeText(status.bytesReinjected)}` : '';
  const out = [
    `${status.local} → ${status.remote}  ${kind}${token}  ${status.state}${row.source === 'kernel' ? '' : `  ${row.source}`}${reinjected}`.slice(0, width),
  ];
  for (const { facts, received, sent } of row.subflows) {
    const index = Math.max(0, names.indexOf(facts.interface ?? ''));
    const name = (facts.interface ?? '?').padEnd(10).slice(0, 10);
    const ends = `${facts.localAddress}:${facts.localPort} → ${facts.remoteAddress}:${facts.remotePort}`;
    const numbers = `RTT ${(facts.srtt / 1000).toFixed(1)} ms  cwnd ${sizeText(facts.cwnd)}  ↓ ${rateText(received)}  ↑ ${rateText(sent)}`;
    const marks = `${facts.backup === true ? ' backup' : ''}${facts.retransmissions > 0 ? ` retrans ${facts.retransmissions}` : ''}`;
    out.push(`  ${paint(index, name)} ${`${ends}  ${facts.state}${marks}  ${numbers}`.slice(0, width - 14)}`);
  }
  return out;
}
