/** Floor 1: a host that neither reads a clock nor opens a socket. Pure. */
export * from './events.ts';
export { Host } from './host/host.ts';
export type { ConnectOptions } from './host/host.ts';
export type { Route } from './host/core.ts';
export type { Listener, ListenOptions } from './host/listeners.ts';
export { StackError } from './errors.ts';
export type { StackErrorCode } from './errors.ts';
export type { Ends } from './ends.ts';
export type { Entropy, HostOptions } from './host/config.ts';
export { Interface } from './interface.ts';
export type { InterfaceAddress, InterfaceConfig } from './interface.ts';
export { Connection } from './mptcp/connection.ts';
export { MODE, PHASE } from './mptcp/state.ts';
export type { Mode, Phase, SubflowState as Subflow } from './mptcp/state.ts';
export { tokenOfKey } from './mptcp/token-hash.ts';
export { stampTimestamp } from './tcp/timestamps.ts';
export { addAddressHmac, joinHmac, keyMaterial } from './mptcp/keys.ts';
export type { KeyMaterial } from './mptcp/keys.ts';
export { DEFAULT_MPTCP_CONFIG } from './mptcp/config.ts';
export type { Limits, MptcpConfig } from './mptcp/config.ts';
export { MPTCP_COUNTERS, UNUSED_COUNTERS } from './mptcp/counters.ts';
export type { MptcpCounter } from './mptcp/counters.ts';
export { VERSION_0, VERSION_1, versionOf } from './mptcp/version.ts';
export type { MptcpVersion, VersionNumber } from './mptcp/version.ts';
export { SCHEDULERS, SERVICE_TYPES, schedulerOf } from './mptcp/service-type.ts';
export type { ServiceType } from './mptcp/service-type.ts';
export { lowestRtt } from './mptcp/scheduler/lowest-rtt.ts';
export type { PathView, RoomOf, ScheduledConnection, ScheduledSubflow, Scheduler, SchedulerFactory, SchedulingRequest } from './mptcp/scheduler/types.ts';
export { defaultPathManager } from './mptcp/path-manager/default.ts';
export { fullMesh } from './mptcp/path-manager/fullmesh.ts';
export { ndiffports } from './mptcp/path-manager/ndiffports.ts';
export { noPathManager } from './mptcp/path-manager/none.ts';
export { eventPathManager } from './mptcp/path-manager/events.ts';
export type { PathManagerEvent } from './mptcp/path-manager/events.ts';
export type { ConnectionSettings } from './mptcp/settings.ts';
export { connectionInfo, subflowInfo } from './mptcp/info.ts';
export type { ConnectionInfo, SubflowInfo } from './mptcp/info.ts';
export { CONGESTION_CONTROLLERS, COUPLED_CONTROLLERS } from './mptcp/congestion/controllers.ts';
export type { CoupledFactory } from './mptcp/congestion/controllers.ts';
export type { CoupledGroup } from './mptcp/congestion/group.ts';
export type {
  Endpoint,
  JoinRequest,
  ManagedConnection,
  ManagedHost,
  ManagedSubflow,
  PathManager,
  PathManagerFactory,
  RemoteAddress,
} from './mptcp/path-manager/types.ts';
export type { CongestionControl, CongestionFactory, CongestionView, RateSample } from './tcp/congestion/types.ts';
export { DEFAULT_TCP_CONFIG } from './tcp/config.ts';
export type { TcpConfig } from './tcp/config.ts';
export { STATE, STATE_NAMES, CLOSE_REASON } from './tcp/state.ts';
export type { CloseReason } from './tcp/state.ts';
export { Tcb } from './tcp/tcb.ts';
export { TransmitSlot } from './tcp/transmit-slot.ts';
export { makeFastOpenCookie } from './tcp/fast-open.ts';
