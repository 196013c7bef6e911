/**
 * What an unmodified kernel server needs to stand behind a balancer: the service's address, silence about it on the link, flag C,
 * an address or port of its own to announce, a smaller MSS for tunnels, and Beamer's shim. As a script, or done and taken back.
 */
import { formatAddress } from '@subflow/wire';
import type { XdpMode } from '@subflow/link';
import type { LbConfig, ServerConfig, ServiceConfig } from './config.ts';
import { DESIGN_LETTER, PlaneError } from './plan.ts';
import { SystemChanges } from './system-changes.ts';
import { Shim } from './xdp/shim.ts';

export interface ServerSetupOptions {
  config: LbConfig;
  /** Name of the server, in every service that has it. */
  server: string;
  /** Towards the balancer. */
  device: string;
  /** Addresses of the balancers: where tunnels may begin. */
  balancers: readonly string[];
  mode?: XdpMode;
  /** Of the link, octets: the MSS announced leaves room for the tunnel. */
  mtu?: number;
}

interface Step {
  does: string[];
  opposite: string[] | null;
}

/** Tunnel header and option, and what stands around a segment. */
const TUNNEL = { 4: 36, 6: 64 } as const;
const HEADERS = { 4: 40, 6: 60 } as const;

function servicesOf(config: LbConfig, name: string): { service: ServiceConfig; server: ServerConfig }[] {
  const found = config.services.flatMap((service) => service.servers.filter((one) => one.name === name).map((server) => ({ service, server })));
  const all = [...new Set(config.services.flatMap((one) => one.servers.map((each) => each.name)))];
  if (found.length === 0) throw new PlaneError('NO_ROUTE', `no server "${name}" in the configuration; expected ${all.join(', ')}`);
  return found;
}

function stepsOf(options: ServerSetupOptions): { steps: Step[]; sysctls: [string, string][]; shim: boolean; own: string[] } {
  const steps: Step[] = [];
  const sysctls: [string, string][] = [];
  const own = new Set<string>();
  let shim = false;
  for (const { service, server } of servicesOf(options.config, options.server)) {
    const letter = DESIGN_LETTER[service.design];
    const address = formatAddress(service.address);
    const v4 = service.address.length === 4;
    const family = v4 ? '-4' : '-6';
    own.add(formatAddress(server.address));
    if (service.forwarding !== 'nat') {
      const prefix = `${address}/${v4 ? 32 : 128}`;
      steps.push({ does: ['ip', family, 'address', 'replace', prefix, 'dev', 'lo'], opposite: ['ip', family, 'address', 'del', prefix, 'dev', 'lo'] });
      // The address is on every server: none may answer for it on the link.
      if (v4) sysctls.push(['net.ipv4.conf.all.arp_ignore', '1'], ['net.ipv4.conf.all.arp_announce', '2']);
    }
    if (service.forwarding === 'encapsulation') {
      shim = true;
      const inner = v4 ? 4 : 6;
      const mss = (options.mtu ?? 1500) - TUNNEL[server.address.length === 4 ? 4 : 6] - HEADERS[inner];
      steps.push({
        does: ['sh', '-c', `ip ${family} route change $(ip ${family} route show default | head -n 1) advmss ${mss}`],
        opposite: ['sh', '-c', `ip ${family} route change $(ip ${family} route show default | head -n 1 | sed 's/ advmss [0-9]*//')`],
      });
    }
    if (letter === 'e' || letter === 'f') {
      sysctls.push(['net.mptcp.allow_join_initial_addr_port', '0']);
      // With IPv6 an announced port does not fit beside timestamps (RFC 8684 §3.4.1: 30 octets and 12): the server's own address instead.
      const byPort = server.ownPort !== undefined && v4;
      const endpoint = byPort ? [address, 'signal', 'port', String(server.ownPort)] : [formatAddress(server.address), 'dev', options.device, 'signal'];
      steps.push({
        does: ['ip', 'mptcp', 'endpoint', 'add', ...endpoint],
        opposite: [
          'sh',
          '-c',
          `ip mptcp endpoint show | grep -F "${byPort ? address : formatAddress(server.address)} " | sed 's/.* id \\([0-9]*\\).*/\\1/' | xargs -r -n 1 ip mptcp endpoint delete id`,
        ],
      });
    }
  }
  return { steps, sysctls, shim, own: [...own] };
}

/** The same as a shell script; the shim needs `subflow lb server`. */
export function setupScript(options: ServerSetupOptions): string {
  const { steps, sysctls, shim } = stepsOf(options);
  const quoted = (words: readonly string[]): string =>
    words.map((word) => (/^[\w./:=-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`)).join(' ');
  const lines = [
    '#!/bin/sh',
    `# Server "${options.server}" behind balancer "${options.config.name}". Run as root; the opposite is at the end of each line.`,
    'set -e',
  ];
  for (const [key, value] of new Map(sysctls)) lines.push(`sysctl -w ${key}=${value}`);
  for (const { does, opposite } of steps) lines.push(`${quoted(does)}${opposite === null ? '' : `  # ${quoted(opposite)}`}`);
  if (shim) lines.push('# Packets come in IP-in-IP tunnels, which this kernel may not take apart: "subflow lb server" loads a program that does.');
  return `${lines.join('\n')}\n`;
}

/** The setup, done; `close` takes it back. */
export class ServerSetup {
  readonly shim: Shim | null;
  private readonly changes: SystemChanges;

  /** Throws {@link LinkError}, {@link PlaneError}. */
  constructor(options: ServerSetupOptions) {
    const { steps, sysctls, shim, own } = stepsOf(options);
    this.changes = new SystemChanges(`server-${options.config.name}-${options.server}`);
    try {
      for (const [key, value] of new Map(sysctls)) this.changes.sysctl(key, value);
      for (const { does, opposite } of steps) this.changes.run(does, opposite);
      this.shim = shim ? new Shim(options.device, own, options.balancers, options.mode) : null;
    } catch (error) {
      this.changes.takeBack();
      throw error;
    }
  }

  close(): void {
    this.shim?.close();
    this.changes.takeBack();
  }
}
