/** The interface of a path manager: it hears what the kernel's netlink path manager hears, and gives the same commands. */
import type { Connection } from '../connection.ts';
import type { Subflow } from '../subflow.ts';
import type { RemoteAddress } from '../address.ts';
import type { CloseReason } from '../../tcp/state.ts';

/** A local address that may be used for further subflows or announced. */
export interface Endpoint {
  /** 1 to 255, unique on the host. */
  id: number;
  address: Uint8Array;
  port: number | null;
  /** Open subflows from it. */
  subflow: boolean;
  /** Announce it. */
  signal: boolean;
  backup: boolean;
}

export interface PathManager {
  readonly name: string;
  /** The connection may have further subflows now (a DSS option has arrived, RFC 8684 §3.1). */
  onEstablished(connection: Connection, now: number): void;
  /** The peer announced an address, HMAC verified. */
  onAnnounced(connection: Connection, address: RemoteAddress, now: number): void;
  onSubflowEstablished(connection: Connection, subflow: Subflow, now: number): void;
  /** `transient` is the T flag of MP_TCPRST, true when the end was no reset. */
  onSubflowClosed(connection: Connection, subflow: Subflow, reason: CloseReason, transient: boolean, now: number): void;
  /** Earliest time at which `onTimer` is wanted, 0 for never. */
  deadline(): number;
  onTimer(connection: Connection, now: number): void;
}

export type PathManagerFactory = () => PathManager;
