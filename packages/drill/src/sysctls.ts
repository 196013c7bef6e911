/** The kernel settings that a script may make: one row is one setting of the host under test. Values that it cannot have are refused. */
import type { Endpoint, MptcpConfig, TcpConfig } from '@subflow/stack';

/** What the host begins with. */
export interface Setup {
  tcp: Partial<TcpConfig>;
  mptcp: Partial<MptcpConfig>;
  endpoints: (Partial<Endpoint> & { address: Uint8Array })[];
  limits: { subflows?: number; addressesAccepted?: number };
  fastOpen: boolean;
}

interface Sysctl {
  expected: string;
  take(text: string, setup: Setup): boolean;
}

export function emptySetup(): Setup {
  // Window scale 8 as the public scripts expect, no endpoints, short TIME-WAIT.
  return { tcp: { maxReceiveBuffer: 8 << 20, timeWait: 1_000_000 }, mptcp: {}, endpoints: [], limits: {}, fastOpen: false };
}

const SECONDS = 1e6;

export const SYSCTLS: Readonly<Record<string, Sysctl>> = {
  'net.mptcp.enabled': toggle(({ mptcp }, on) => (mptcp.enabled = on)),
  'net.mptcp.checksum_enabled': toggle(({ mptcp }, on) => (mptcp.checksum = on)),
  'net.mptcp.allow_join_initial_addr_port': toggle(({ mptcp }, on) => (mptcp.denyJoinInitial = !on)),
  'net.mptcp.add_addr_timeout': number(0, 3600, ({ mptcp }, value) => (mptcp.addAddressTimeout = value * SECONDS)),
  'net.mptcp.close_timeout': number(0, 3600, ({ mptcp }, value) => (mptcp.closeTimeout = value * SECONDS)),
  'net.mptcp.syn_retrans_before_tcp_fallback': number(0, 128, ({ mptcp }, value) => (mptcp.capableSyns = value + 1)),
  'net.mptcp.blackhole_timeout': number(0, 86_400, ({ mptcp }, value) => (mptcp.blackHoleTimeout = value * SECONDS)),
  // The in-kernel path manager is what the host has.
  'net.mptcp.pm_type': number(0, 0, () => undefined),
  'net.mptcp.version': number(0, 1, ({ mptcp }, value) => {
    mptcp.versions = [value === 0 ? 0 : 1];
    mptcp.acceptVersions = [value === 0 ? 0 : 1];
  }),
  'net.ipv4.tcp_syncookies': number(0, 2, ({ mptcp }, value) => (mptcp.synCookies = (['never', 'when-full', 'always'] as const)[value]!)),
  'net.ipv4.tcp_timestamps': toggle(({ tcp }, on) => (tcp.timestamps = on)),
  'net.ipv4.tcp_sack': toggle(({ tcp }, on) => (tcp.sack = on)),
  'net.ipv4.tcp_window_scaling': toggle(({ tcp }, on) => (tcp.windowScaling = on)),
  // 2 is what the host does by itself: it answers who asks. It cannot refuse (0).
  'net.ipv4.tcp_ecn': number(1, 2, ({ tcp }, value) => (tcp.ecn = value === 1)),
  'net.ipv4.tcp_fastopen': number(0, 3, (setup, value) => (setup.fastOpen = (value & 2) !== 0)),
  'net.ipv4.tcp_congestion_control': {
    expected: 'reno, newreno, cubic or bbr',
    take: (text, { tcp }) => {
      tcp.congestion = text === 'reno' ? 'newreno' : text;
      return ['reno', 'newreno', 'cubic', 'bbr'].includes(text);
    },
  },
};

function number(low: number, high: number, take: (setup: Setup, value: number) => unknown): Sysctl {
  return {
    expected: low === high ? String(low) : `${low} to ${high}`,
    take: (text, setup) => {
      const value = Number(text);
      if (!/^\d+$/.test(text) || value < low || value > high) return false;
      take(setup, value);
      return true;
    },
  };
}

function toggle(take: (setup: Setup, on: boolean) => unknown): Sysctl {
  return number(0, 1, (setup, value) => take(setup, value === 1));
}
