/** Why a packet goes where it goes: the steps of its design, with the state that the data plane has now. */
import { Balancer, BeamerCore, DROP_NAMES, hashFlow, hashSource, idOfTimestamp, idOfToken, joinToken } from '@subflow/balancer';
import { buildPacket, FLAG, formatAddress, ipDestination, ipHeader, packetPorts, parseAddress, PROTOCOL } from '@subflow/wire';
import type { TcpHeader, TcpOption } from '@subflow/wire';
import { coreOf, DESIGN_LETTER } from '../plan.ts';
import type { DataPlane, ServicePlan } from '../plan.ts';
import { ChangeError } from './state.ts';

export interface Explanation {
  service: string | null;
  /** Name of the server; null: it goes nowhere. */
  server: string | null;
  /** Where the server sends it on when it does not know the connection (Beamer). */
  previous: string | null;
  reason: string | null;
  steps: string[];
}

const FORM = 'expected hexadecimal octets of an IP packet, or ADDRESS:PORT > ADDRESS:PORT [syn|ack|fin|rst] [token=HEX] [tsecr=NUMBER]';

/** The octets of a packet that somebody wrote down. Throws {@link ChangeError} `BAD_CHANGE`. */
export function packetOf(text: string): Uint8Array {
  const compact = text.replaceAll(/\s/g, '');
  if (/^[0-9a-f]{40,}$/i.test(compact) && compact.length % 2 === 0) return new Uint8Array(Buffer.from(compact, 'hex'));
  const match = /^\s*(\S+):(\d+)\s*>\s*(\S+):(\d+)(.*)$/.exec(text);
  const bad = (): never => {
    throw new ChangeError('BAD_CHANGE', `"${text}" is no packet; ${FORM}`);
  };
  if (match === null) return bad();
  const [, from, fromPort, to, toPort, rest] = match as unknown as [string, string, string, string, string, string];
  let flags = 0;
  const options: TcpOption[] = [];
  for (const word of rest.trim().split(/\s+/).filter(Boolean)) {
    const [key, value] = word.split('=') as [string, string | undefined];
    const flag = { syn: FLAG.syn, ack: FLAG.ack, fin: FLAG.fin | FLAG.ack, rst: FLAG.rst }[key];
    if (flag !== undefined && value === undefined) flags |= flag;
    else if (key === 'tsecr' && value !== undefined && /^\d+$/.test(value)) options.push({ kind: 'timestamps', value: 1, echo: Number(value) >>> 0 });
    else if (key === 'token' && value !== undefined && /^(0x)?[0-9a-f]{1,8}$/i.test(value))
      options.push({ kind: 'mptcp', option: { subtype: 'join-syn', flags: 0, addressId: 1, token: Number.parseInt(value, 16), nonce: 0 } });
    else return bad();
  }
  const addresses = [from, to].map((one) => {
    try {
      return parseAddress(one.replace(/^\[(.*)\]$/, '$1'));
    } catch {
      return bad();
    }
  }) as [Uint8Array, Uint8Array];
  if (addresses[0].length !== addresses[1].length || Number(fromPort) > 65_535 || Number(toPort) > 65_535) return bad();
  const tcp: TcpHeader = {
    sourcePort: Number(fromPort),
    destinationPort: Number(toPort),
    seq: 1,
    ack: 0,
    headerLength: 0,
    reserved: 0,
    flags: flags === 0 ? FLAG.ack : flags,
    window: 65_535,
    checksum: 0,
    urgent: 0,
    options,
  };
  return buildPacket(ipHeader(addresses[0], addresses[1], PROTOCOL.tcp), { tcp });
}

/** Looks, and changes nothing. */
export function explain(packet: Uint8Array, plans: readonly ServicePlan[], plane: DataPlane, now: number): Explanation {
  const steps: string[] = [];
  const destination = ipDestination(packet);
  const port = packetPorts(packet)?.destination ?? -1;
  const plan = plans.find(
    (one) =>
      destination !== null &&
      formatAddress(one.address) === formatAddress(destination) &&
      (one.port === port || [...one.details.values()].some((each) => each.ownPort === port)),
  );
  if (plan === undefined)
    return {
      service: null,
      server: null,
      previous: null,
      reason: null,
      steps: [`${destination === null ? 'no IP packet' : `${formatAddress(destination)} port ${port}`}: no service of ours, left to the system`],
    };
  steps.push(`service "${plan.name}": design ${DESIGN_LETTER[plan.design]}, ${plan.design}; generation ${plan.servers.generation}`);
  const core = coreOf(plan, now, null, 1024);
  const balancer = new Balancer(core);
  let decision = balancer.handle(new DataView(packet.buffer, packet.byteOffset, packet.length), packet, 0, packet.length, now);
  const { segment } = balancer;
  const nameOf = (id: number): string => plan.servers.server(id)?.name ?? `server ${id}`;
  const opening = (segment.flags & (FLAG.syn | FLAG.ack)) === FLAG.syn;
  const letter = DESIGN_LETTER[plan.design];
  const joined = joinToken(segment);
  const token = joined < 0 ? null : joined;
  if (letter === 'a' || letter === 'd') {
    const known = plane.lookup?.(plan, segment, token) ?? null;
    if (known !== null) {
      steps.push(`${known.from}: ${nameOf(known.server)}`);
      decision = known.server;
    } else {
      steps.push(
        letter === 'd' && opening && token !== null
          ? `token 0x${token.toString(16).padStart(8, '0')} has not been learnt`
          : 'no entry for these addresses and ports',
      );
    }
  }
  if (letter === 'c') {
    if (opening && token !== null) steps.push(`token 0x${token.toString(16).padStart(8, '0')} names server ${idOfToken(token)}`);
    else if (segment.hasTimestamps && segment.tsEcr !== 0) steps.push(`echoed timestamp ${segment.tsEcr >>> 0} names server ${idOfTimestamp(segment.tsEcr)}`);
  }
  if (core instanceof BeamerCore) {
    if (port >= 1024) steps.push(`port ${port} is a server's own`);
    else {
      const hash = hashSource(segment, plan.seed);
      steps.push(`hash 0x${hash.toString(16)} of client address and port, bucket ${hash % core.table.current.length}`);
    }
  } else if (decision > 0 && !steps.some((step) => step.includes('names server') || step.includes('entry:'))) {
    steps.push(`hash 0x${hashFlow(segment, plan.seed).toString(16)} of the 4-tuple`);
  }
  const previous = core instanceof BeamerCore && core.previous !== 0 ? nameOf(core.previous) : null;
  if (decision <= 0) return { service: plan.name, server: null, previous, reason: DROP_NAMES[decision] ?? 'malformed', steps };
  steps.push(`to ${nameOf(decision)}${previous === null ? '' : `, which sends it on to ${previous} unless it knows the connection`}`);
  return { service: plan.name, server: nameOf(decision), previous, reason: null, steps };
}
