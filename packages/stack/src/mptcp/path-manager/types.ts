/**
 * The interface of a path manager: it hears what the kernel's netlink path manager hears, and gives the same commands
 * through {@link Connection}: `announce`, `withdraw` (remove), `join` (create), `dropSubflow` (destroy), `setBackup`
 * (set priority). All methods are optional; one that does nothing is a path manager too.
 */
import type { Connection } from '../connection.ts';
import type { Subflow } from '../subflow.ts';
import type { RemoteAddress } from '../address.ts';
import type { CloseReason } from '../../tcp/state.ts';

/** A local address that may be used for further subflows or announced; flags as in `ip mptcp endpoint`. */
export interface Endpoint {
  /** 1 to 255, unique on the host. */
  id: number;
  address: Uint8Array;
  /** Announce this port with the address; only with `signal`. */
  port: number | null;
  /** Open subflows from it to the peer's initial address. */
  subflow: boolean;
  /** Announce it. */
  signal: boolean;
  backup: boolean;
  /** Open subflows from it to every address of the peer. Not with `signal`. */
  fullmesh: boolean;
  /** Use it as source of the subflow that answers an announcement of the peer. */
  laminar: boolean;
  /** Came into being because a subflow uses the address. */
  implicit: boolean;
  /** Only through the interface of this name. */
  device: string | null;
}

export interface PathManager {
  readonly name: string;
  /** The handshake of the first subflow is done. Nothing may be joined yet. */
  onCreated?(connection: Connection, now: number): void;
  /** The connection may have further subflows now (a DSS option has arrived, RFC 8684 §3.1). */
  onEstablished?(connection: Connection, now: number): void;
  onClosed?(connection: Connection, now: number): void;
  /** The peer announced an address, HMAC verified. */
  onAnnounced?(connection: Connection, address: RemoteAddress, now: number): void;
  /** The peer withdrew an address. */
  onRemoved?(connection: Connection, addressId: number, now: number): void;
  onSubflowEstablished?(connection: Connection, subflow: Subflow, now: number): void;
  /** `transient` is the T flag of MP_TCPRST, true when the end was no reset. */
  onSubflowClosed?(connection: Connection, subflow: Subflow, reason: CloseReason, transient: boolean, now: number): void;
  /** The peer changed the priority of a subflow. */
  onSubflowPriority?(connection: Connection, subflow: Subflow, backup: boolean, now: number): void;
  onEndpointAdded?(connection: Connection, endpoint: Endpoint, now: number): void;
  /** Its subflows are closed and its address is withdrawn already. Null: the initial address. */
  onEndpointRemoved?(connection: Connection, endpoint: Endpoint | null, now: number): void;
  onEndpointChanged?(connection: Connection, endpoint: Endpoint, now: number): void;
  onLimitsChanged?(connection: Connection, now: number): void;
  /** Earliest time at which `onTimer` is wanted, 0 for never. */
  deadline?(): number;
  onTimer?(connection: Connection, now: number): void;
}

export type PathManagerFactory = () => PathManager;
