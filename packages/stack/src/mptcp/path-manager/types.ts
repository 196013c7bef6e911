/**
 * The interface of a path manager: it sees what the kernel's netlink path manager sees, and gives the same commands
 * through {@link ManagedConnection}: `announce`, `withdraw` (remove), `join` (create), `dropSubflow` (destroy), `setBackup`
 * (set priority). All methods are optional; one that does nothing is a path manager too.
 */
import type { KeyMaterial } from '../keys.ts';
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

/** An address the peer announced. */
export interface RemoteAddress {
  id: number;
  address: Uint8Array;
  port: number | null;
}

/** A further subflow to open: from where to where, and under which address ids (RFC 8684 §3.2). */
export interface JoinRequest {
  local: Uint8Array;
  localId: number;
  remote: Uint8Array;
  remotePort: number;
  /** -1: the peer tells it in the SYN+ACK. */
  remoteId: number;
  /** Ask the peer to use it as backup; default false. */
  backup?: boolean;
  /** Only through the interface of this name; default any. */
  device?: string | null;
}

/** What a path manager sees of the host. */
export interface ManagedHost {
  readonly endpoints: readonly Endpoint[];
  readonly interfaces: readonly { readonly up: boolean; readonly addresses: readonly { readonly address: Uint8Array }[] }[];
  readonly mptcp: { readonly rejoinInterval: number; readonly rejoinMaxInterval: number };
  isBackup(address: Uint8Array | null): boolean;
  /** An address of ours from which `remote` is reached, or null. */
  sourceFor(remote: Uint8Array): Uint8Array | null;
  /** The id of an address of ours; one without endpoint gets an implicit one. */
  addressIdOf(address: Uint8Array): number;
}

/** What a path manager sees of a subflow. */
export interface ManagedSubflow {
  readonly id: number;
  /** Opened by us. */
  readonly active: boolean;
  /** Started with MP_JOIN. */
  readonly joining: boolean;
  readonly localId: number;
  readonly remoteId: number;
  readonly localBackup: boolean;
  readonly backup: boolean;
  readonly established: boolean;
  readonly wasEstablished: boolean;
  readonly tcb: { readonly local: Uint8Array; readonly localPort: number; readonly remote: Uint8Array; readonly remotePort: number };
}

/** What a path manager sees of a connection, and its commands. */
export interface ManagedConnection {
  readonly id: number;
  readonly host: ManagedHost;
  /** Opened by us. */
  readonly active: boolean;
  readonly open: boolean;
  /** Further subflows may be opened: a DSS option has arrived (RFC 8684 §3.1). */
  readonly confirmed: boolean;
  readonly local: KeyMaterial | null;
  readonly remote: KeyMaterial | null;
  /** Flag C of the peer: no joins to its initial address. */
  readonly peerDeniesJoin: boolean;
  readonly initialLocal: Uint8Array | null;
  readonly remoteAddress: Uint8Array;
  readonly remotePort: number;
  readonly remoteAddresses: readonly RemoteAddress[] | null;
  readonly subflows: readonly ManagedSubflow[];
  /** Opens a further subflow. Null when limits, state or routing do not allow it. */
  join(request: JoinRequest, now: number): ManagedSubflow | null;
  /** Announces a local address (RFC 8684 §3.4.1). */
  announce(addressId: number, address: Uint8Array, port: number | null, now: number): void;
  /** Withdraws address ids: one REMOVE_ADDR, and their subflows are closed (RFC 8684 §3.4.2). */
  withdraw(addressIds: readonly number[], now: number): void;
  /** Gives up one subflow with a reset. */
  dropSubflow(subflow: ManagedSubflow, now: number): void;
  /** Asks the peer to use a subflow as backup, or not (MP_PRIO, RFC 8684 §3.3.8). */
  setBackup(subflow: ManagedSubflow, backup: boolean, now: number): void;
  /** The id under which the peer knows a local address. */
  localIdOf(address: Uint8Array): number;
}

export interface PathManager {
  readonly name: string;
  /** The handshake of the first subflow is done. Nothing may be joined yet. */
  onCreated?(connection: ManagedConnection, now: number): void;
  /** The connection may have further subflows now (a DSS option has arrived, RFC 8684 §3.1). */
  onEstablished?(connection: ManagedConnection, now: number): void;
  onClosed?(connection: ManagedConnection, now: number): void;
  /** The peer announced an address, HMAC verified. */
  onAnnounced?(connection: ManagedConnection, address: RemoteAddress, now: number): void;
  /** The peer withdrew an address. */
  onRemoved?(connection: ManagedConnection, addressId: number, now: number): void;
  onSubflowEstablished?(connection: ManagedConnection, subflow: ManagedSubflow, now: number): void;
  /** `transient` is the T flag of MP_TCPRST, true when the end was no reset. */
  onSubflowClosed?(connection: ManagedConnection, subflow: ManagedSubflow, reason: CloseReason, transient: boolean, now: number): void;
  /** The peer changed the priority of a subflow. */
  onSubflowPriority?(connection: ManagedConnection, subflow: ManagedSubflow, backup: boolean, now: number): void;
  onEndpointAdded?(connection: ManagedConnection, endpoint: Endpoint, now: number): void;
  /** Its subflows are closed and its address is withdrawn already. Null: the initial address. */
  onEndpointRemoved?(connection: ManagedConnection, endpoint: Endpoint | null, now: number): void;
  onEndpointChanged?(connection: ManagedConnection, endpoint: Endpoint, now: number): void;
  /** A local address is gone with its interface: its subflows are closed and it is withdrawn already. */
  onAddressLost?(connection: ManagedConnection, address: Uint8Array, now: number): void;
  /** A local address is there, with its interface; it may have been lost before. */
  onAddressFound?(connection: ManagedConnection, address: Uint8Array, now: number): void;
  onLimitsChanged?(connection: ManagedConnection, now: number): void;
  /** Earliest time at which `onTimer` is wanted, 0 for never. */
  deadline?(): number;
  onTimer?(connection: ManagedConnection, now: number): void;
}

export type PathManagerFactory = () => PathManager;
