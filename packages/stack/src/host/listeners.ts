/** Who listens where. */
import { sameAddress } from '@subflow/wire';
import { StackError } from '../errors.ts';
import { checkSettings } from '../mptcp/settings.ts';
import type { ConnectionSettings } from '../mptcp/settings.ts';

const DEFAULT_BACKLOG = 4096;

/** A passive opener. */
export interface Listener {
  readonly id: number;
  readonly port: number;
  /** Null: every local address, or every one of the family. */
  readonly address: Uint8Array | null;
  readonly family: 4 | 6 | null;
  readonly backlog: number;
  readonly multipath: boolean;
  /** Give out Fast Open cookies and take data on SYNs that bring one (RFC 7413). */
  readonly fastOpen: boolean;
  /** Of the connections accepted here. */
  readonly settings: ConnectionSettings;
  /** Half-open connections. */
  pending: number;
}

export interface ListenOptions {
  port: number;
  address?: Uint8Array;
  /** With no address: connections of this family only. */
  family?: 4 | 6 | null;
  backlog?: number;
  multipath?: boolean;
  fastOpen?: boolean;
  settings?: ConnectionSettings;
}

export class ListenerTable {
  private readonly listeners: Listener[] = [];
  private nextId = 1;

  /** Throws {@link StackError} `ADDRESS_IN_USE`, `BAD_OPTION` or `UNKNOWN_CONGESTION`. */
  add(options: ListenOptions, multipath: boolean): Listener {
    checkPort(options.port);
    if (options.address !== undefined) checkAddress(options.address);
    const { backlog = DEFAULT_BACKLOG } = options;
    if (!Number.isInteger(backlog) || backlog < 0) throw new StackError('BAD_OPTION', `backlog is ${backlog}; expected a whole number of at least 0`);
    checkSettings(options.settings ?? {});
    const address = options.address ?? null;
    const family = address === null ? (options.family ?? null) : familyOf(address);
    const clash = this.listeners.find(
      (other) =>
        other.port === options.port &&
        (other.address === null || address === null || sameAddress(other.address, address)) &&
        (other.family === null || family === null || other.family === family),
    );
    if (clash !== undefined) throw new StackError('ADDRESS_IN_USE', `port ${options.port} is in use by listener ${clash.id}; expected a free port`);
    const listener: Listener = {
      id: this.nextId++,
      port: options.port,
      address,
      family,
      backlog,
      multipath: options.multipath ?? multipath,
      fastOpen: options.fastOpen ?? false,
      settings: options.settings ?? {},
      pending: 0,
    };
    this.listeners.push(listener);
    return listener;
  }

  /** Returns whether it was there. */
  remove(listener: Listener): boolean {
    const index = this.listeners.indexOf(listener);
    if (index >= 0) this.listeners.splice(index, 1);
    return index >= 0;
  }

  byId(id: number): Listener | null {
    return this.listeners.find((one) => one.id === id) ?? null;
  }

  /** Who takes a SYN to this address and port. */
  find(local: Uint8Array, port: number): Listener | null {
    const family = familyOf(local);
    return (
      this.listeners.find(
        (one) => one.port === port && (one.address === null || sameAddress(one.address, local)) && (one.family === null || one.family === family),
      ) ?? null
    );
  }
}

function familyOf(address: Uint8Array): 4 | 6 {
  return address.length === 4 ? 4 : 6;
}

/** Throws {@link StackError} `BAD_OPTION` for what is not a port. */
export function checkPort(port: number): void {
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw new StackError('BAD_OPTION', `port is ${port}; expected 1 to 65535`);
}

/** Throws {@link StackError} `BAD_OPTION` for what is not an address. */
export function checkAddress(address: Uint8Array): void {
  if (!(address instanceof Uint8Array) || (address.length !== 4 && address.length !== 16))
    throw new StackError('BAD_OPTION', `address is ${String(address)}; expected 4 or 16 bytes`);
}
