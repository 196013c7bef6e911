/** Facts and controls of a connection of our stack. */
import type { CongestionFactory, Connection, ConnectionInfo, SchedulerFactory, ServiceType, StackEvent, SubflowInfo } from '@subflow/stack';
import { sameAddress } from '@subflow/wire';
import { requireIp } from '../addresses.ts';
import { checkService } from '../backend.ts';
import { NetError } from '../errors.ts';
import { Multipath } from '../multipath.ts';
import type { AddressOptions, MultipathInfo, SubflowFacts } from '../multipath.ts';
import type { StackHandle } from './handle.ts';
import { checkSettings, schedulerFactory } from './settings.ts';

export class StackMultipath extends Multipath {
  private handle!: StackHandle;

  constructor(handle: StackHandle) {
    super();
    this.attach(handle);
  }

  /** Speaks of this handle from now on. */
  attach(handle: StackHandle): void {
    this.handle = handle;
    handle.listener = (event) => this.tell(event);
  }

  info(): MultipathInfo | null {
    const info = this.handle.info();
    return info === null ? null : factsOf(info);
  }

  setService(service: Exclude<ServiceType, 'none'>): void {
    checkService(service);
    if ((service as string) === 'none')
      throw new NetError('NOT_SUPPORTED', 'an open connection cannot become plain TCP; expected handover, interactive or aggregate');
    this.open().configure({ service }, this.handle.backend.now());
    this.handle.backend.kick();
  }

  setBackup(which: string | number, backup: boolean): void {
    const connection = this.open();
    const ids = typeof which === 'number' ? [which] : this.handle.subflowsFrom(requireIp(which));
    const subflows = connection.subflows.filter((subflow) => ids.includes(subflow.id));
    if (subflows.length === 0) throw new NetError('NO_SUCH_SUBFLOW', `no subflow ${typeof which === 'number' ? which : `from ${which}`}; see info().subflows`);
    for (const subflow of subflows) connection.setBackup(subflow, backup, this.handle.backend.now());
    this.handle.backend.kick();
  }

  addAddress(address: string, options: AddressOptions = {}): void {
    const connection = this.open();
    const { backend } = this.handle;
    const bytes = requireIp(address);
    if (!backend.host.hasAddress(bytes)) throw new NetError('BAD_ADDRESS', `${address} is on no interface of this stack; expected one of its addresses`);
    const signal = options.signal ?? !connection.active;
    backend.host.addEndpoint(
      {
        address: bytes,
        signal,
        subflow: options.subflow ?? connection.active,
        backup: options.backup ?? false,
        port: signal ? (options.port ?? null) : null,
      },
      backend.now(),
    );
    backend.kick();
  }

  removeAddress(address: string): void {
    const connection = this.open();
    const { backend } = this.handle;
    const bytes = requireIp(address);
    const endpoint = backend.host.endpoints.find((one) => sameAddress(one.address, bytes));
    const used = connection.subflows.some((subflow) => sameAddress(subflow.tcb.local, bytes));
    if (endpoint === undefined && !used) throw new NetError('NO_SUCH_ADDRESS', `${address} is neither an endpoint nor in use by this connection`);
    if (endpoint !== undefined) backend.host.removeEndpoint(endpoint.id, backend.now());
    else connection.removeAddress(bytes, backend.now());
    backend.kick();
  }

  setScheduler(scheduler: string | SchedulerFactory): void {
    this.open().configure({ scheduler: schedulerFactory(scheduler) }, this.handle.backend.now());
    this.handle.backend.kick();
  }

  setCongestion(congestion: string | CongestionFactory): void {
    checkSettings({ congestion });
    this.open().configure({ congestion }, this.handle.backend.now());
  }

  private open(): Connection {
    const { connection } = this.handle;
    if (connection === null || connection.closed) throw new NetError('NOT_CONNECTED', 'the socket is not connected; wait for its event connect');
    return connection;
  }

  private tell(event: StackEvent): void {
    switch (event.type) {
      case 'connection-established':
        this.emit('established', { multipath: event.multipath });
        return;
      case 'connection-fallback':
        this.emit('fallback', event.reason);
        return;
      case 'subflow-established': {
        const change = this.change(event.subflow);
        if (change !== null) this.emit('subflow-established', change);
        return;
      }
      case 'subflow-closed':
        this.emit('subflow-closed', { ...(this.change(event.subflow) ?? { id: event.subflow, local: '', remote: '' }), reason: event.reason });
        return;
      case 'subflow-priority': {
        const change = this.change(event.subflow);
        if (change !== null) this.emit('subflow-priority', { ...change, backup: event.backup, byPeer: event.byPeer });
        return;
      }
      case 'address-announced':
        this.emit('address-announced', { addressId: event.addressId, address: event.address, port: event.port, byPeer: event.byPeer });
        return;
      case 'address-removed':
        this.emit('address-removed', { addressId: event.addressId, byPeer: event.byPeer });
        return;
      default:
    }
  }

  private change(id: number): { id: number; local: string; remote: string } | null {
    const found = this.handle.info()?.subflowInfo.find((one) => one.id === id);
    return found === undefined ? null : { id, local: found.local, remote: found.remote };
  }
}

export function factsOf(info: ConnectionInfo): MultipathInfo {
  return {
    backend: 'stack',
    multipath: info.multipath && info.fallback === null,
    version: info.version,
    fallback: info.fallback,
    localToken: info.multipath ? info.localToken : null,
    remoteToken: info.multipath ? info.remoteToken : null,
    checksum: info.checksum,
    service: info.service as ServiceType | null,
    scheduler: info.scheduler,
    subflows: info.subflowInfo.map(subflowFacts),
    bytesReinjected: info.bytesReinjected,
    notes: [],
  };
}

function subflowFacts(subflow: SubflowInfo): SubflowFacts {
  const local = split(subflow.local);
  const remote = split(subflow.remote);
  return {
    id: subflow.id,
    localAddress: local.address,
    localPort: local.port,
    remoteAddress: remote.address,
    remotePort: remote.port,
    interface: subflow.interface,
    state: subflow.state,
    backup: subflow.localBackup || subflow.remoteBackup,
    srtt: subflow.srtt,
    rttvar: subflow.rttvar,
    minRtt: subflow.minRtt,
    rto: subflow.rto,
    cwnd: subflow.cwnd,
    ssthresh: subflow.ssthresh,
    inFlight: subflow.inFlight,
    bytesSent: subflow.bytesSent,
    bytesAcknowledged: subflow.bytesAcknowledged,
    bytesReceived: subflow.bytesReceived,
    bytesRetransmitted: subflow.bytesRetransmitted,
    retransmissions: subflow.retransmissions,
    congestion: subflow.congestion,
  };
}

function split(endpoint: string): { address: string; port: number } {
  const at = endpoint.lastIndexOf(':');
  return { address: endpoint.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(endpoint.slice(at + 1)) };
}
