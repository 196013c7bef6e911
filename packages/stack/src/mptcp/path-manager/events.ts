/**
 * The path manager as a stream of events, for programs that decide themselves (as mptcpd does over netlink). Names and
 * fields are those of the kernel's MPTCP_EVENT_*; the commands are methods of {@link ManagedConnection}.
 */
import { formatAddress } from '@subflow/wire';
import type { ManagedConnection, ManagedSubflow, PathManager, PathManagerFactory, RemoteAddress } from './types.ts';
import type { CloseReason } from '../../tcp/state.ts';

interface SubflowFields {
  subflow: ManagedSubflow;
  localId: number;
  remoteId: number;
  local: string;
  localPort: number;
  remote: string;
  remotePort: number;
  backup: boolean;
}

export type PathManagerEvent = { token: number; connection: ManagedConnection; time: number } & (
  | { type: 'created'; serverSide: boolean }
  | { type: 'established'; serverSide: boolean }
  | { type: 'closed' }
  | { type: 'announced'; remoteId: number; remote: string; port: number | null }
  | { type: 'removed'; remoteId: number }
  | ({ type: 'subflow-established' } & SubflowFields)
  | ({ type: 'subflow-closed'; reason: CloseReason; transient: boolean } & SubflowFields)
  | ({ type: 'subflow-priority' } & SubflowFields)
);

/** Hands every event to `listener`, which may issue commands at once. */
export function eventPathManager(listener: (event: PathManagerEvent) => void): PathManagerFactory {
  return (): PathManager => {
    const base = (connection: ManagedConnection, now: number): { token: number; connection: ManagedConnection; time: number } => ({
      token: (connection.local?.token ?? 0) >>> 0,
      connection,
      time: now,
    });
    return {
      name: 'events',
      onCreated: (connection, now) => listener({ ...base(connection, now), type: 'created', serverSide: !connection.active }),
      onEstablished: (connection, now) => listener({ ...base(connection, now), type: 'established', serverSide: !connection.active }),
      onClosed: (connection, now) => listener({ ...base(connection, now), type: 'closed' }),
      onAnnounced: (connection, address: RemoteAddress, now) =>
        listener({ ...base(connection, now), type: 'announced', remoteId: address.id, remote: formatAddress(address.address), port: address.port }),
      onRemoved: (connection, addressId, now) => listener({ ...base(connection, now), type: 'removed', remoteId: addressId }),
      onSubflowEstablished: (connection, subflow, now) => listener({ ...base(connection, now), type: 'subflow-established', ...fields(subflow) }),
      onSubflowClosed: (connection, subflow, reason, transient, now) =>
        listener({ ...base(connection, now), type: 'subflow-closed', reason, transient, ...fields(subflow) }),
      onSubflowPriority: (connection, subflow, _backup, now) => listener({ ...base(connection, now), type: 'subflow-priority', ...fields(subflow) }),
    };
  };
}

function fields(subflow: ManagedSubflow): SubflowFields {
  const { tcb } = subflow;
  return {
    subflow,
    localId: subflow.localId,
    remoteId: subflow.remoteId,
    local: formatAddress(tcb.local),
    localPort: tcb.localPort,
    remote: formatAddress(tcb.remote),
    remotePort: tcb.remotePort,
    backup: subflow.backup,
  };
}
