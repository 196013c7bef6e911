/** What both hosts of a random scenario are set to. The order of the draws is part of the scenario: a new setting is drawn from a fork of its own. */
import type { Random } from '@subflow/emulator';
import { COUPLED_CONTROLLERS, defaultPathManager, fullMesh, ndiffports, noPathManager, SCHEDULERS } from '@subflow/stack';
import type { MptcpConfig, TcpConfig, VersionNumber } from '@subflow/stack';

export const SECOND = 1_000_000;

const MANAGERS = { default: defaultPathManager, fullmesh: fullMesh, ndiffports: ndiffports(3), none: noPathManager };
const OFFERS: readonly (readonly VersionNumber[])[] = [[1], [1], [1, 0], [0]];
const ACCEPTS: readonly (readonly VersionNumber[])[] = [[1, 0], [1, 0], [1], [0]];

export interface Settings {
  paths: number;
  checksum: boolean;
  buffer: number;
  tcp: Partial<TcpConfig>;
  mptcp: Partial<MptcpConfig>;
  /** What the server has otherwise. */
  server: { tcp: Partial<TcpConfig>; mptcp: Partial<MptcpConfig> };
  /** Short description of what was drawn. */
  summary: string;
}

export function drawSettings(draw: Random): Settings {
  const paths = draw.integer(1, 4);
  const checksum = draw.chance(0.3);
  const { tcp, buffer } = drawTcp(draw);
  // Keepalives wake a connection that has nothing to say: without them a missing timer shows.
  if (draw.fork('keepalive').chance(1 / 3)) tcp.keepaliveIdle = 0;
  const schedulerName = draw.chance(0.4) ? 'lowest-rtt' : draw.pick(Object.keys(SCHEDULERS));
  const managerName = draw.chance(0.7) ? 'default' : draw.pick(Object.keys(MANAGERS));
  const coupled = draw.chance(0.6) ? 'none' : draw.pick(Object.keys(COUPLED_CONTROLLERS));
  const offers = draw.pick(OFFERS);
  const accepts = draw.pick(ACCEPTS);
  const mptcp: Partial<MptcpConfig> = {
    checksum,
    closeTimeout: 30 * SECOND,
    coupled,
    versions: offers,
    acceptVersions: accepts,
    scheduler: SCHEDULERS[schedulerName]!,
    pathManager: MANAGERS[managerName as keyof typeof MANAGERS],
    fastclose: draw.pick(['reset', 'ack'] as const),
    opportunisticRetransmission: draw.chance(0.7),
    penalisation: draw.chance(0.7),
    failTimeout: 20 * SECOND,
    synCookies: draw.chance(0.15) ? 'always' : 'when-full',
    pendingJoins: draw.chance(0.2) ? 0 : 4,
  };
  const server = {
    tcp: { sack: !draw.chance(0.15) },
    mptcp: { checksum: draw.chance(0.2), scheduler: SCHEDULERS[draw.chance(0.7) ? schedulerName : draw.pick(Object.keys(SCHEDULERS))]! },
  };
  const summary = `${schedulerName}, ${managerName}, ${String(tcp.congestion)}/${coupled}, offers ${offers.join('+')} accepts ${accepts.join('+')}`;
  return { paths, checksum, buffer, tcp, mptcp, server, summary };
}

function drawTcp(draw: Random): { tcp: Partial<TcpConfig>; buffer: number } {
  const small = draw.chance(0.2);
  const huge = draw.chance(0.1);
  const buffer = small ? draw.integer(2000, 20000) : huge ? 8_000_000 : draw.integer(20_000, 500_000);
  const tcp: Partial<TcpConfig> = {
    timeWait: 5 * SECOND,
    keepaliveIdle: 60 * SECOND,
    keepaliveInterval: 10 * SECOND,
    keepaliveProbes: 5,
    finWait2: 20 * SECOND,
    maxRto: 20 * SECOND,
    maxRetransmits: 10,
    receiveBuffer: buffer,
    maxReceiveBuffer: small ? buffer : Math.max(buffer, 4_000_000),
    sendBuffer: buffer,
    maxSendBuffer: Math.max(buffer, 1_000_000),
    timestamps: !draw.chance(0.1),
    sack: !draw.chance(0.15),
    windowScaling: !draw.chance(0.1),
    ecn: draw.chance(0.2),
    nagle: draw.chance(0.7),
    congestion: draw.pick(['cubic', 'cubic', 'newreno', 'bbr']),
  };
  return { tcp, buffer };
}
