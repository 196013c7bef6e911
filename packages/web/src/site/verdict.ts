/** From what is known of a connection to a sentence for its owner: is it Multipath TCP, and if not, where was it lost? */
import type { SynFacts } from '@subflow/link';
import type { MultipathInfo } from '@subflow/net';

/** Where Multipath TCP was lost. */
export type LostAt = 'not-asked' | 'syn' | 'version' | 'handshake' | 'data' | 'server';

export interface Verdict {
  multipath: boolean;
  version: 0 | 1 | null;
  /** Null with Multipath TCP. */
  lostAt: LostAt | null;
  headline: string;
  explanation: string;
  subflows: { local: string; remote: string; backup: boolean; rttMilliseconds: number }[];
  /** What was in the SYN; null when it was not seen. */
  syn: SynFacts | null;
}

/** Version 1 puts 4 bytes of MP_CAPABLE into the SYN, version 0 puts 12; ordinary SYNs have no more than two NOPs in a row. */
const BLANKED = 4;

/** Reasons of our stack (docs/events.md) that lie after the handshake. */
const AFTER_HANDSHAKE = new Set(['no-dss-in-first-data', 'no-data-ack', 'dss-stripped', 'infinite-mapping', 'checksum-failure', 'mp-fail', 'checksum-refused']);

/** `info`: the connection of the request; `syn`: what its SYN had, null when it was not seen. */
export function verdictOf(info: MultipathInfo | null, syn: SynFacts | null): Verdict {
  const subflows = (info?.subflows ?? []).map((one) => ({
    local: withPort(one.localAddress, one.localPort),
    remote: withPort(one.remoteAddress, one.remotePort),
    backup: one.backup === true,
    rttMilliseconds: Math.round(one.srtt / 100) / 10,
  }));
  if (info?.multipath === true) {
    const count = subflows.length === 1 ? 'one subflow' : `${subflows.length} subflows`;
    return {
      multipath: true,
      version: info.version,
      lostAt: null,
      headline: 'Yes, you are using Multipath TCP.',
      explanation: `This request came over Multipath TCP version ${info.version} (${info.version === 0 ? 'RFC 6824' : 'RFC 8684'}), with ${count} at this moment.`,
      subflows,
      syn,
    };
  }
  const { lostAt, explanation } = lossOf(info, syn);
  return { multipath: false, version: null, lostAt, headline: 'No, you are not using Multipath TCP.', explanation, subflows, syn };
}

function lossOf(info: MultipathInfo | null, syn: SynFacts | null): { lostAt: LostAt; explanation: string } {
  const reason = info?.fallback ?? null;
  if (reason !== null && (reason.startsWith('no-kernel-support') || reason === 'disabled'))
    return { lostAt: 'server', explanation: 'This server itself has no Multipath TCP at present; nothing can be said of you or your path.' };
  // The kernel says "fallback" of connections that began as Multipath TCP; our stack says why.
  if (reason !== null && AFTER_HANDSHAKE.has(reason))
    return {
      lostAt: 'data',
      explanation: `The handshake was Multipath TCP, but the options on data disappeared or did not match afterwards (${reason}): a box on the path changes or removes them. The connection fell back to TCP.`,
    };
  if (reason === 'fallback')
    return {
      lostAt: 'data',
      explanation:
        'The connection began as Multipath TCP and fell back to TCP: options disappeared or did not match after the SYN, because a box on the path changes or removes them.',
    };
  if (reason === 'third-ack-without-option')
    return {
      lostAt: 'handshake',
      explanation:
        'Your SYN asked for Multipath TCP, but the end of the handshake came without the option: a box removes it from our SYN+ACK or from your ACK.',
    };
  if (syn === null)
    return {
      lostAt: 'not-asked',
      explanation:
        'The request came over plain TCP: the SYN had no Multipath TCP option when it arrived here. Either your system did not ask for it, or a box on the path removed it from the SYN.',
    };
  if (syn.capableVersion === 1 && syn.confirmed)
    return {
      lostAt: 'data',
      explanation:
        'The handshake was Multipath TCP to its end, but the options on data disappeared or did not match: a box on the path changes or removes them there. The connection fell back to TCP.',
    };
  if (syn.capableVersion === 1)
    return {
      lostAt: 'handshake',
      explanation:
        'Your SYN asked for Multipath TCP version 1, but the rest of the handshake came without the option: a box removes it from our SYN+ACK or from your ACK.',
    };
  if (syn.capableVersion !== null)
    return { lostAt: 'version', explanation: `Your SYN asked for Multipath TCP version ${syn.capableVersion}, which this server does not speak.` };
  if (syn.nops >= BLANKED)
    return {
      lostAt: 'syn',
      explanation: `The SYN had no Multipath TCP option when it arrived here, but ${syn.nops} empty places (NOP) in a row, as a box leaves them that blanks options it does not know. It was probably lost there.`,
    };
  return {
    lostAt: 'not-asked',
    explanation:
      'The SYN had no Multipath TCP option and no sign of one when it arrived here. Either your system did not ask for it (most do not), or a box on the path removed the option cleanly.',
  };
}

function withPort(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
