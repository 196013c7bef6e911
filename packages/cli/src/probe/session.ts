/** A prober on this machine for the time of one command: port, hub, record of packets, clean end. */
import { styleText } from 'node:util';
import type { Command } from 'commander';
import { OutputFile, PcapngTap, RawPort, removeLeftovers, removeProbeTables } from '@subflow/link';
import { Hub } from '@subflow/probe';
import type { Paint, ProbePort, RecordedPacket } from '@subflow/probe';
import { OwnAddressPort } from '@subflow/probe/node';
import { UsageError } from '../errors.ts';

export interface PortFlags {
  firewall?: boolean;
  interface?: string;
  /** Addresses of the prober's own on the interface, with commas between. */
  address?: string;
  gateway?: string;
}

/** The options of {@link PortFlags}. */
export function withPort(command: Command): Command {
  return command
    .option('--firewall', 'drop the kernel’s resets by an nft rule')
    .option('--interface <name>', 'listen on this interface only')
    .option('--address <prefix>', 'an address of our own on --interface, 192.0.2.9/24: the kernel stays out; on a macvtap no privilege is needed')
    .option('--gateway <address>', 'router for --address');
}

function openPort(flags: PortFlags): ProbePort {
  if (flags.address === undefined) {
    if (flags.gateway !== undefined) throw new UsageError('BAD_ARGUMENT', '--gateway needs --address');
    return new RawPort({ firewall: flags.firewall === true, ...(flags.interface === undefined ? {} : { interface: flags.interface }) });
  }
  if (flags.interface === undefined) throw new UsageError('BAD_ARGUMENT', '--address needs --interface');
  return new OwnAddressPort({ interface: flags.interface, addresses: flags.address.split(','), gateways: flags.gateway?.split(',') ?? [] });
}

/** Packets that a report keeps; the capture file keeps all. */
const MAX_RECORDED = 50_000;

export class ProbeSession {
  readonly hub: Hub;
  readonly packets: RecordedPacket[] = [];
  private readonly port: ProbePort;
  private readonly tap: PcapngTap | null;
  private started = -1;

  /** `capture`: a file for every packet. `record`: keep packets for a report. */
  static async open(flags: PortFlags, capture: string | undefined, record = true): Promise<ProbeSession> {
    removeLeftovers();
    if (flags.firewall === true) removeProbeTables();
    const port = openPort(flags);
    try {
      const tap = capture === undefined ? null : new PcapngTap(await OutputFile.open(capture, { how: 'grow' }), ['probe']);
      return new ProbeSession(port, tap, record);
    } catch (error) {
      port.close();
      throw error;
    }
  }

  private constructor(port: ProbePort, tap: PcapngTap | null, record: boolean) {
    this.port = port;
    this.hub = new Hub(port);
    this.tap = tap;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => {
        this.close();
        process.exit(signal === 'SIGINT' ? 130 : 143);
      });
    }
    if (!record && this.tap === null) return;
    this.hub.log = (direction, bytes, now) => {
      if (this.started < 0) this.started = now;
      this.tap?.record(bytes, now, 0, direction === 'out' ? 'sent' : null);
      if (record && this.packets.length < MAX_RECORDED) this.packets.push({ at: now - this.started, direction, label: this.labelOf(bytes, direction), bytes });
    };
  }

  close(): void {
    this.hub.close();
    this.tap?.close();
    this.port.close();
  }

  private labelOf(bytes: Uint8Array, direction: 'out' | 'in'): string {
    const v4 = bytes[0]! >>> 4 === 4;
    const at = (v4 ? (bytes[0]! & 15) * 4 : 40) + (direction === 'out' ? 0 : 2);
    if (bytes[v4 ? 9 : 6] !== 6 || bytes.length < at + 2) return '';
    return this.hub.labels.get((bytes[at]! << 8) | bytes[at + 1]!) ?? '';
  }
}

const COLORS = { good: 'green', bad: 'red', warn: 'yellow', dim: 'gray', bold: 'bold' } as const;

/** Colours on a terminal, none in a pipe. */
export function paintFor(stream: NodeJS.WriteStream): Paint {
  return stream.isTTY ? (kind, text) => styleText(COLORS[kind], text) : (_, text) => text;
}
