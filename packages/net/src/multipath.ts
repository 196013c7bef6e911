/** Multipath TCP's side of a socket: the same facts, events and controls whatever the backend. */
import { EventEmitter } from 'node:events';
import type { CongestionFactory, SchedulerFactory, ServiceType } from '@subflow/stack';

/** One TCP connection of a Multipath TCP connection. Times in microseconds, sizes in bytes. */
export interface SubflowFacts {
  /** Unique within the connection. */
  id: number;
  localAddress: string;
  localPort: number;
  remoteAddress: string;
  remotePort: number;
  /** Interface it leaves through, when known. */
  interface: string | null;
  /** TCP state by its RFC 9293 name. */
  state: string;
  /** We or the peer asked to use it only when nothing else works; null when the backend cannot tell. */
  backup: boolean | null;
  srtt: number;
  rttvar: number;
  minRtt: number;
  rto: number;
  cwnd: number;
  ssthresh: number;
  inFlight: number;
  bytesSent: number;
  bytesAcknowledged: number;
  bytesReceived: number;
  bytesRetransmitted: number;
  /** Segments sent again. */
  retransmissions: number;
  congestion: string | null;
}

export interface MultipathInfo {
  backend: 'kernel' | 'stack';
  /** Whether Multipath TCP is in use now. */
  multipath: boolean;
  version: 0 | 1 | null;
  /** Null while Multipath TCP is in use; otherwise why not, in a word. */
  fallback: string | null;
  /** Unsigned; null when not known. */
  localToken: number | null;
  remoteToken: number | null;
  checksum: boolean;
  service: ServiceType | null;
  scheduler: string | null;
  subflows: SubflowFacts[];
  bytesReinjected: number;
  /** What the backend could not do, in sentences. */
  notes: string[];
}

/** Events of a connection. `established` comes with the connection; a listener that is added later does not hear it. */
export interface MultipathEvents {
  established: [info: { multipath: boolean }];
  fallback: [reason: string];
  'subflow-established': [subflow: SubflowChange];
  'subflow-closed': [subflow: SubflowChange & { reason: string }];
  'subflow-priority': [subflow: SubflowChange & { backup: boolean; byPeer: boolean }];
  'address-announced': [address: { addressId: number; address: string; port: number | null; byPeer: boolean }];
  'address-removed': [address: { addressId: number; byPeer: boolean }];
}

export interface SubflowChange {
  id: number;
  local: string;
  remote: string;
}

export interface AddressOptions {
  /** Announce it to the peer (ADD_ADDR). Default: true on accepted connections. */
  signal?: boolean;
  /** Open a subflow from it. Default: true on connections we opened. */
  subflow?: boolean;
  backup?: boolean;
  /** Port to announce with it. */
  port?: number;
}

export abstract class Multipath extends EventEmitter<MultipathEvents> {
  /** @internal The socket is connected: what could not be asked before can be now. */
  connected(): void {
    // Most backends hear of it themselves.
  }

  /** A snapshot; null when the socket is not connected. After the end: the last one. */
  abstract info(): MultipathInfo | null;
  /** Changes the service type of the open connection. */
  abstract setService(service: Exclude<ServiceType, 'none'>): void;
  /** Marks the subflows from a local address (or one subflow by id) as backup, or not (MP_PRIO). */
  abstract setBackup(which: string | number, backup: boolean): void;
  /** Makes a local address available to connections. */
  abstract addAddress(address: string, options?: AddressOptions): void;
  /** Withdraws a local address: its subflows are closed (REMOVE_ADDR). */
  abstract removeAddress(address: string): void;
  abstract setScheduler(scheduler: string | SchedulerFactory): void;
  /** For subflows to come. */
  abstract setCongestion(congestion: string | CongestionFactory): void;
}
