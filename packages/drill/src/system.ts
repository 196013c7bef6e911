/** Shell commands of a script (`sysctl`, `ip mptcp`) as settings of the host under test; nothing is ever executed. */
import type { Endpoint, MptcpConfig, TcpConfig } from '@subflow/stack';
import { ScriptError } from './script.ts';

export interface Setup {
  tcp: Partial<TcpConfig>;
  mptcp: Partial<MptcpConfig>;
  endpoints: (Partial<Endpoint> & { address: Uint8Array })[];
  limits: { subflows?: number; addressesAccepted?: number };
  fastOpen: boolean;
}

export function emptySetup(): Setup {
  // Window scale 8 as the public scripts expect, no endpoints, short TIME-WAIT.
  return { tcp: { maxReceiveBuffer: 8 << 20, timeWait: 1_000_000 }, mptcp: {}, endpoints: [], limits: {}, fastOpen: false };
}

/** Takes one line over. A limit or endpoint given once the host exists is a change at run time: the caller applies it. */
export function takeCommand(command: string, line: number, setup: Setup, resolve: (name: string) => Uint8Array): void {
  for (const raw of command.split(/\n|;|&&/)) {
    const text = raw.replace(/[`"']/g, '').trim();
    if (text === '' || /defaults\.sh|set_sysctls|^sleep|^true$|^echo|^set\b/.test(text)) continue;
    const words = text.replace(/^sysctl\s+(-[qw]+\s+)*/, 'sysctl ').split(/\s+/);
    if (words[0] === 'sysctl') {
      for (const assignment of text.replace(/^sysctl\s+(-[qw]+\s+)*/, '').match(/[\w.]+\s*=\s*\S+/g) ?? []) takeSysctl(assignment, line, setup);
    } else if (words[0] === 'ip' && words.includes('mptcp')) {
      takeIpMptcp(words.slice(words.indexOf('mptcp') + 1), line, setup, resolve);
    } else {
      throw new ScriptError('SCRIPT_UNSUPPORTED', line, `command "${text}"; expected sysctl or ip mptcp`);
    }
  }
}

function takeSysctl(assignment: string, line: number, setup: Setup): void {
  const [name, text] = assignment.split('=').map((part) => part.trim()) as [string, string];
  const value = Number(text);
  const { tcp, mptcp } = setup;
  switch (name) {
    case 'net.mptcp.enabled':
      mptcp.enabled = value !== 0;
      return;
    case 'net.mptcp.checksum_enabled':
      mptcp.checksum = value !== 0;
      return;
    case 'net.mptcp.allow_join_initial_addr_port':
      mptcp.denyJoinInitial = value === 0;
      return;
    case 'net.mptcp.add_addr_timeout':
      mptcp.addAddressTimeout = value * 1e6;
      return;
    case 'net.mptcp.close_timeout':
      mptcp.closeTimeout = value * 1e6;
      return;
    case 'net.mptcp.syn_retrans_before_tcp_fallback':
      mptcp.capableSyns = value + 1;
      return;
    case 'net.mptcp.blackhole_timeout':
      mptcp.blackHoleTimeout = value * 1e6;
      return;
    case 'net.mptcp.stale_loss_cnt':
    case 'net.mptcp.pm_type':
      return;
    case 'net.mptcp.version':
      mptcp.versions = [value === 0 ? 0 : 1];
      mptcp.acceptVersions = [value === 0 ? 0 : 1];
      return;
    case 'net.ipv4.tcp_syncookies':
      mptcp.synCookies = value === 2 ? 'always' : value === 1 ? 'when-full' : 'never';
      return;
    case 'net.ipv4.tcp_timestamps':
      tcp.timestamps = value !== 0;
      return;
    case 'net.ipv4.tcp_sack':
      tcp.sack = value !== 0;
      return;
    case 'net.ipv4.tcp_window_scaling':
      tcp.windowScaling = value !== 0;
      return;
    case 'net.ipv4.tcp_ecn':
      tcp.ecn = value === 1;
      return;
    case 'net.ipv4.tcp_fastopen':
      setup.fastOpen = (value & 2) !== 0;
      return;
    case 'net.ipv4.tcp_congestion_control':
      tcp.congestion = text === 'reno' ? 'newreno' : text;
      return;
    default:
      throw new ScriptError('SCRIPT_UNSUPPORTED', line, `sysctl ${name}`);
  }
}

function takeIpMptcp(words: string[], line: number, setup: Setup, resolve: (name: string) => Uint8Array): void {
  const after = (word: string): string | undefined => (words.includes(word) ? words[words.indexOf(word) + 1] : undefined);
  if (words[0] === 'limits') {
    const subflows = after('subflow') ?? after('subflows');
    const accepted = after('add_addr_accepted');
    if (subflows !== undefined) setup.limits.subflows = Number(subflows);
    if (accepted !== undefined) setup.limits.addressesAccepted = Number(accepted);
    return;
  }
  if (words[0] === 'endpoint' && words[1] === 'flush') {
    setup.endpoints.length = 0;
    return;
  }
  if (words[0] === 'endpoint' && words[1] === 'add') {
    const port = after('port');
    const id = after('id');
    setup.endpoints.push({
      address: resolve(words[2]!),
      ...(id === undefined ? {} : { id: Number(id) }),
      port: port === undefined ? null : Number(port),
      subflow: words.includes('subflow'),
      signal: words.includes('signal'),
      backup: words.includes('backup'),
      fullmesh: words.includes('fullmesh'),
      laminar: words.includes('laminar'),
    });
    return;
  }
  throw new ScriptError('SCRIPT_UNSUPPORTED', line, `ip mptcp ${words.join(' ')}`);
}
