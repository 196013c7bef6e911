/** Facts and controls of a kernel socket. What the kernel manages per namespace, not per connection, says so. */
import type { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { constants, networkInterfaces } from 'node:os';
import { ENDPOINT_FLAG, LinkError, MptcpNetlink, readMptcpInfo, readSubflows, readTcpInfo, subflowDiagnosis } from '@subflow/link';
import type { KernelEvent, KernelSubflow } from '@subflow/link';
import { inPrefix, sameAddress } from '@subflow/wire';
import type { CongestionFactory, SchedulerFactory, ServiceType } from '@subflow/stack';
import { endpointText, parseIp, requireIp } from '../addresses.ts';
import { checkService } from '../backend.ts';
import type { Alternative, MultipathSettings } from '../backend.ts';
import { NetError } from '../errors.ts';
import { Multipath } from '../multipath.ts';
import type { AddressOptions, MultipathInfo, SubflowFacts } from '../multipath.ts';
import type { AddressOut, TcpHandle } from '../node-internals.ts';
import { hearKernel } from './events.ts';
import { kernelState } from './handle.ts';
import { checkKernelCongestion, checkKernelScheduler } from './settings.ts';

/** Where the kernel's events are not to be had, subflows are looked at this often, milliseconds. */
const LOOK_INTERVAL = 200;

export class KernelMultipath extends Multipath {
  private handle!: TcpHandle;
  private service: ServiceType | null;
  private last: MultipathInfo | null = null;
  private stopHearing: (() => void) | null = null;
  private readonly notes: string[] = [];

  constructor(handle: TcpHandle, settings: MultipathSettings) {
    super();
    this.service = settings.service ?? null;
    if (this.service === 'interactive' || this.service === 'handover') {
      this.notes.push(`service type ${this.service}: the kernel has one scheduler for all connections; endpoints marked backup are what handover has there`);
    }
    (this as unknown as EventEmitter).on('newListener', () => this.hear());
    this.attach(handle);
  }

  /** Speaks of this handle from now on. */
  attach(handle: TcpHandle): void {
    this.handle = handle;
    // The descriptor is gone after the end: the last look is kept for who asks then.
    const close = handle.close.bind(handle);
    const reset = handle.reset.bind(handle);
    const ended = (): void => {
      if (this.handle === handle) this.ended();
    };
    Object.assign(handle, {
      close: (callback?: () => void) => {
        ended();
        close(callback);
      },
      reset: (callback?: () => void) => {
        ended();
        return reset(callback);
      },
    });
  }

  override connected(): void {
    // One name is our own: the listener that waits for listeners.
    if (this.eventNames().length > 1) this.hear();
  }

  info(): MultipathInfo | null {
    const { fd } = this.handle;
    const peer: AddressOut = {};
    if (fd < 0 || this.handle.getpeername(peer) !== 0) return this.last;
    const state = kernelState(this.handle);
    const mptcp = readMptcpInfo(fd);
    const multipath = mptcp !== null && !mptcp.fallback;
    const subflows = mptcp === null ? null : readSubflows(fd);
    const diagnoses = multipath ? (subflows ?? []).map((one) => subflowDiagnosis(one)) : [];
    // The kernel notes the peer's token on subflows that it joined only.
    const remoteToken = diagnoses.find((one) => one !== null && one.remoteToken !== 0)?.remoteToken ?? null;
    this.last = {
      backend: 'kernel',
      multipath,
      // The kernel speaks version 1 only.
      version: multipath ? 1 : null,
      fallback: multipath
        ? null
        : this.service === 'none'
          ? 'disabled'
          : state?.obstacle !== null && state !== null
            ? state.obstacle
            : mptcp === null
              ? 'peer-not-capable'
              : 'fallback',
      localToken: multipath ? mptcp.token : null,
      remoteToken,
      checksum: mptcp?.checksum ?? false,
      service: this.service,
      scheduler: multipath ? read('/proc/sys/net/mptcp/scheduler') : null,
      subflows: subflows !== null && subflows.length > 0 ? subflows.map(factsOf) : this.plain(fd),
      bytesReinjected: mptcp?.bytesRetransmitted ?? 0,
      notes: [...this.notes, ...(state?.notes ?? [])],
    };
    return this.last;
  }

  setService(service: Exclude<ServiceType, 'none'>): void {
    checkService(service);
    if ((service as string) === 'none')
      throw new NetError('NOT_SUPPORTED', 'an open connection cannot become plain TCP; expected handover, interactive or aggregate');
    if (service === 'interactive')
      throw new NetError('NOT_SUPPORTED', 'the kernel has one scheduler for all connections; expected the stack backend for interactive');
    // Handover in the kernel's terms: further paths are backups. Aggregate: they are not.
    this.service = service;
    const connection = this.require();
    const first = connection.subflows[0];
    withNetlink((netlink) => {
      for (const endpoint of netlink.endpoints()) {
        const initial = first !== undefined && sameAddress(endpoint.address, requireIp(first.localAddress));
        if ((endpoint.flags & ENDPOINT_FLAG.subflow) !== 0 && !initial) netlink.setEndpointBackup(endpoint, service === 'handover');
      }
    });
  }

  setBackup(which: string | number, backup: boolean): void {
    const connection = this.require();
    const address = typeof which === 'string' ? which : connection.subflows.find((one) => one.id === which)?.localAddress;
    if (address === undefined) throw new NetError('NO_SUCH_SUBFLOW', `no subflow ${which}; see info().subflows`);
    const bytes = requireIp(address);
    withNetlink((netlink) => {
      const endpoint = netlink.endpoints().find((one) => sameAddress(one.address, bytes));
      if (endpoint === undefined)
        throw new NetError('NO_SUCH_ADDRESS', `${address} is no endpoint of the kernel's path manager; expected one of \`ip mptcp endpoint\``);
      netlink.setEndpointBackup(endpoint, backup);
    });
  }

  addAddress(address: string, options: AddressOptions = {}): void {
    const bytes = requireIp(address);
    const flags =
      ((options.signal ?? false) ? ENDPOINT_FLAG.signal : 0) |
      ((options.subflow ?? !(options.signal ?? false)) ? ENDPOINT_FLAG.subflow : 0) |
      ((options.backup ?? false) ? ENDPOINT_FLAG.backup : 0);
    withNetlink((netlink) => netlink.addEndpoint(bytes, flags, options.port === undefined ? {} : { port: options.port }));
  }

  removeAddress(address: string): void {
    const bytes = requireIp(address);
    withNetlink((netlink) => {
      const endpoint = netlink.endpoints().find((one) => sameAddress(one.address, bytes));
      if (endpoint !== undefined) {
        netlink.removeEndpoint(endpoint.id);
        return;
      }
      const initial = this.require().subflows.some((one) => sameAddress(requireIp(one.localAddress), bytes));
      if (!initial) throw new NetError('NO_SUCH_ADDRESS', `${address} is neither an endpoint of the kernel's path manager nor in use by this connection`);
      netlink.removeEndpoint(0, bytes);
    });
  }

  setScheduler(scheduler: string | SchedulerFactory): void {
    checkKernelScheduler(scheduler);
  }

  setCongestion(congestion: string | CongestionFactory): void {
    if (typeof congestion === 'string') checkKernelCongestion(congestion);
    throw new NetError('NOT_SUPPORTED', 'the kernel takes a congestion controller before the connection is made; expected the option congestion of connect');
  }

  private require(): MultipathInfo {
    const info = this.info();
    if (info === null || this.handle.fd < 0) throw new NetError('NOT_CONNECTED', 'the socket is not connected; wait for its event connect');
    return info;
  }

  /** Plain TCP: the one connection there is. */
  private plain(fd: number): SubflowFacts[] {
    const local: AddressOut = {};
    const remote: AddressOut = {};
    this.handle.getsockname(local);
    this.handle.getpeername(remote);
    const tcp = readTcpInfo(fd);
    if (tcp === null || local.address === undefined || remote.address === undefined) return [];
    return [factsOf({ id: 0, local: local.address, localPort: local.port ?? 0, remote: remote.address, remotePort: remote.port ?? 0, tcp })];
  }

  private ended(): void {
    this.info();
    this.stopHearing?.();
    this.stopHearing = null;
  }

  private hear(): void {
    if (this.stopHearing !== null) return;
    const token = readMptcpInfo(this.handle.fd)?.token;
    if (token === undefined) {
      // Not connected yet, or plain TCP: a later listener tries again.
      return;
    }
    try {
      this.stopHearing = hearKernel(token, (event) => this.tell(event));
    } catch (error) {
      if (!(error instanceof LinkError)) throw error;
      this.notes.push(`events: ${error.message}; subflows are looked at every ${LOOK_INTERVAL} ms instead`);
      this.stopHearing = this.look();
    }
  }

  private tell(event: KernelEvent): void {
    const change = {
      id: this.idOf(event),
      local: endpointText(event.local ?? '', event.localPort ?? 0),
      remote: endpointText(event.remote ?? '', event.remotePort ?? 0),
    };
    switch (event.type) {
      case 'subflow-established':
        this.emit('subflow-established', change);
        return;
      case 'subflow-closed':
        this.emit('subflow-closed', { ...change, reason: event.error === null || event.error === 0 ? 'normal' : `errno ${event.error}` });
        return;
      case 'subflow-priority':
        this.emit('subflow-priority', { ...change, backup: event.backup, byPeer: true });
        return;
      case 'announced':
        this.emit('address-announced', { addressId: event.remoteId ?? 0, address: event.remote ?? '', port: event.remotePort, byPeer: true });
        return;
      case 'removed':
        this.emit('address-removed', { addressId: event.remoteId ?? 0, byPeer: true });
        return;
      default:
    }
  }

  private idOf(event: KernelEvent): number {
    return (
      this.info()?.subflows.find((one) => one.localPort === event.localPort && one.remotePort === event.remotePort && one.localAddress === event.local)?.id ??
      -1
    );
  }

  private look(): () => void {
    let known = new Map((this.info()?.subflows ?? []).map((one) => [keyOf(one), one]));
    const timer = setInterval(() => {
      const now = new Map((this.info()?.subflows ?? []).map((one) => [keyOf(one), one]));
      for (const [key, one] of now) if (!known.has(key)) this.emit('subflow-established', changeOf(one));
      for (const [key, one] of known) if (!now.has(key)) this.emit('subflow-closed', { ...changeOf(one), reason: 'unknown' });
      known = now;
    }, LOOK_INTERVAL);
    timer.unref();
    return () => clearInterval(timer);
  }
}

function keyOf(subflow: SubflowFacts): string {
  return `${subflow.localAddress}/${subflow.localPort}/${subflow.remoteAddress}/${subflow.remotePort}`;
}

function changeOf(subflow: SubflowFacts): { id: number; local: string; remote: string } {
  return {
    id: subflow.id,
    local: endpointText(subflow.localAddress, subflow.localPort),
    remote: endpointText(subflow.remoteAddress, subflow.remotePort),
  };
}

function factsOf(subflow: KernelSubflow): SubflowFacts {
  const { tcp } = subflow;
  const diagnosis = subflowDiagnosis(subflow);
  return {
    id: subflow.id,
    localAddress: subflow.local,
    localPort: subflow.localPort,
    remoteAddress: subflow.remote,
    remotePort: subflow.remotePort,
    interface: interfaceOf(subflow.local),
    state: tcp.state,
    backup: diagnosis === null ? null : diagnosis.backupLocal || diagnosis.backupRemote,
    srtt: tcp.srtt,
    rttvar: tcp.rttvar,
    minRtt: tcp.minRtt,
    rto: tcp.rto,
    cwnd: tcp.cwnd,
    ssthresh: tcp.ssthresh,
    inFlight: tcp.unacked * tcp.mss,
    bytesSent: tcp.bytesSent,
    bytesAcknowledged: tcp.bytesAcknowledged,
    bytesReceived: tcp.bytesReceived,
    bytesRetransmitted: tcp.bytesRetransmitted,
    retransmissions: tcp.retransmissions,
    congestion: diagnosis?.congestion ?? null,
  };
}

function interfaceOf(address: string): string | null {
  const bare = address.replace(/^::ffff:/, '');
  for (const [name, addresses] of Object.entries(networkInterfaces())) if (addresses?.some((one) => one.address === bare) === true) return name;
  return null;
}

/** Further addresses of the peer, found by name: the kernel takes them only where userspace manages its paths. Null, or why not. */
export function offerToKernel(fd: number, alternatives: readonly Alternative[]): string | null {
  const chosen = read('/proc/sys/net/mptcp/path_manager') ?? (read('/proc/sys/net/mptcp/pm_type') === '1' ? 'userspace' : 'kernel');
  if (chosen !== 'userspace')
    return `other addresses of the peer (${alternatives.map((one) => one.address).join(', ')}) are left unused: the kernel's own path manager opens subflows only to announced ones (net.mptcp.path_manager=userspace lets us)`;
  const token = readMptcpInfo(fd)?.token;
  if (token === undefined) return 'other addresses of the peer are left unused: the connection is plain TCP';
  try {
    withNetlink((netlink) => {
      let id = 1;
      for (const { address, port } of alternatives) {
        const remote = parseIp(address);
        const local = remote === null ? null : sourceFor(remote);
        if (remote !== null && local !== null) netlink.createSubflow(token, local, id++, remote, port);
      }
    });
    return null;
  } catch (error) {
    return (error as { errno?: number }).errno === constants.errno.ENOTCONN
      ? NOT_YET
      : `other addresses of the peer are left unused: ${(error as Error).message}`;
  }
}

/** The connection may have no further subflows before the peer has acknowledged data (RFC 8684 §3.1). */
export const NOT_YET = 'other addresses of the peer wait until the connection is fully established';

/** An address of ours to reach a peer from: of the same network where there is one, else the first that goes out. */
function sourceFor(remote: Uint8Array): Uint8Array | null {
  const family = remote.length === 4 ? 'IPv4' : 'IPv6';
  const own = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter((one) => !one.internal && one.family === family && !one.address.startsWith('fe80'));
  const near = own.find((one) => one.cidr !== null && inPrefix(remote, parseIp(one.address)!, Number(one.cidr.split('/')[1])));
  const chosen = near ?? own[0];
  return chosen === undefined ? null : parseIp(chosen.address);
}

function withNetlink<T>(use: (netlink: MptcpNetlink) => T): T {
  const netlink = new MptcpNetlink();
  try {
    return use(netlink);
  } catch (error) {
    if (error instanceof LinkError && error.code === 'NO_PRIVILEGE')
      throw new NetError('NO_PERMISSION', `${error.message}; expected CAP_NET_ADMIN for the kernel's path manager`, { cause: error });
    throw error;
  } finally {
    netlink.close();
  }
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}
