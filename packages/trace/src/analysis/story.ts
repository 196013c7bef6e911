/** Events in words. */
import type { TraceEvent } from './events.ts';
import type { ConnectionReport } from './report.ts';

/** RFC 8684 §3.6. */
const RESET_REASONS = [
  'no reason given',
  'a Multipath TCP error',
  'lack of resources',
  'administratively prohibited',
  'too much outstanding data',
  'unacceptable performance',
  'middlebox interference',
] as const;

const FALLBACKS: Record<string, string> = {
  'peer-not-capable': 'the SYN+ACK came back without MP_CAPABLE: the other end, or a box on the way, does not do Multipath TCP',
  'syn-timeout': 'the SYN with MP_CAPABLE was not answered and was sent again without it',
  'third-ack-without-option': 'the third ACK and the first data came without MP_CAPABLE: a box on the way takes the option off',
  'no-dss-in-first-data': 'the first data came without DSS',
  'infinite-mapping': 'an infinite mapping was sent: from there on it is plain TCP on one subflow',
};

/** A sentence about an event of a connection. */
export function sentence(event: TraceEvent, connection: ConnectionReport): string {
  const who = event.by === 0 ? 'the client' : 'the server';
  const Who = event.by === 0 ? 'The client' : 'The server';
  const other = event.by === 0 ? 'the server' : 'the client';
  const path = (number: number): string => (number <= 0 ? 'an unknown subflow' : `subflow ${number}`);
  switch (event.type) {
    case 'subflow-created':
      if (!event.join)
        return event.version === null
          ? `The capture begins in the middle of a Multipath TCP connection between ${event.source} and ${event.destination}.`
          : `${Who} opens a connection from ${event.source} to ${event.destination} and offers Multipath TCP version ${event.version}.`;
      return `${Who} joins ${path(event.subflow)} from ${event.source} to ${event.destination} (address identifier ${event.addressId}), ${event.backup ? 'as a backup' : 'with the backup flag off'}.`;
    case 'subflow-established':
      return `${capital(path(event.subflow))} is established, ${ms(event.rtt)} after its SYN.`;
    case 'connection-established':
      return `Both ends speak Multipath TCP version ${event.version}, ${event.checksum ? 'with' : 'without'} DSS checksums.`;
    case 'connection-fallback':
      return `The connection falls back to TCP: ${FALLBACKS[event.reason] ?? event.reason}.`;
    case 'subflow-priority':
      return `${Who} asks that ${path(event.subflow)} be ${event.backup ? 'a backup' : 'used regularly'} (MP_PRIO).`;
    case 'address-announced':
      return `${Who} announces the address ${event.address}${event.port === null ? '' : `, port ${event.port},`} with identifier ${event.addressId}${event.authentic === false ? ', with a wrong HMAC' : ''}.`;
    case 'address-echoed':
      return `${Who} confirms the announcement of address ${event.addressId}.`;
    case 'address-removed':
      return `${Who} takes back address ${event.addressIds.join(', ')} (REMOVE_ADDR).`;
    case 'mp-fail':
      return `${Who} reports a failed checksum (MP_FAIL)${event.position === null ? '' : ` at byte ${bytes(event.position)}`}.`;
    case 'fast-close':
      return `${Who} closes the whole connection at once (MP_FASTCLOSE).`;
    case 'data-fin':
      return `${Who} has sent everything: DATA_FIN after ${size(event.position - 1)}.`;
    case 'subflow-end':
      return `${Who} ends ${path(event.subflow)} (FIN).`;
    case 'subflow-reset': {
      const why = event.explained ? `: ${RESET_REASONS[event.reason ?? 0] ?? `reason ${event.reason}`}${event.transient ? ', transient' : ''}` : '';
      return `${Who} resets ${path(event.subflow)} (RST)${event.zeroWindow ? ' with a zero window' : ''}${why}.`;
    }
    case 'zero-window':
      return `${Who} closes its window on ${path(event.subflow)} (zero window): ${other} must stop sending there.`;
    case 'window-opened':
      return `${Who} opens its window on ${path(event.subflow)} again after ${ms(event.after)}.`;
    case 'traffic-moved':
      return `From here on what ${who} sends goes on ${path(event.to)}, no longer on ${path(event.from)}.`;
    case 'gap':
      return event.from === event.to
        ? `Nothing of ${who}'s data got through for ${ms(event.end - event.start)} on ${path(event.to)} (last before: packet ${event.lastPacket}).`
        : `Handover: ${ms(event.end - event.start)} without progress of ${who}'s data, between packet ${event.lastPacket} on ${path(event.from)} and packet ${event.packet} on ${path(event.to)}.`;
    case 'reinjection':
      return `${size(event.bytes)} that ${path(event.from)} had carried ${event.from === event.to ? 'were mapped and sent again on it' : `were reinjected on ${path(event.to)}`} within ${ms(event.end - event.start)} (packets ${event.packet} to ${event.lastPacket})${event.wasted > 0 ? `; ${size(event.wasted)} of them had arrived already` : event.useful > 0 ? '; the copies were the ones that arrived' : ''}.`;
    case 'blocked':
      return `Out-of-order queue for ${ms(event.end - event.start)} (${event.filledBy < 0 ? `from packet ${event.packet} on` : `packets ${event.packet} to ${event.lastPacket}`}), up to ${size(event.queue)}: what came on ${path(event.waiting)} waited behind a hole that began at bytes ${bytes(event.holeStart)} to ${bytes(event.holeEnd - 1)}; ${event.filledBy < 0 ? 'how it was filled is not in the capture' : `it was filled by ${fillers(event)}, the last on ${path(event.filledBy)}`}.`;
    case 'hmac-wrong':
      return `The HMAC of ${event.option} from ${who} is wrong.`;
    case 'key-wrong':
      return `MP_CAPABLE of ${who} carries the key 0x${event.found} where 0x${event.expected} was negotiated.`;
    case 'token-unknown':
      return `The token 0x${event.token.toString(16).padStart(8, '0')} belongs to a handshake that is not in the capture.`;
    case 'checksum-failure':
      return `The DSS checksum of the mapping at byte ${bytes(event.position)} on ${path(event.subflow)} is wrong: a box on the way changed the data.`;
    case 'mapping-missing':
      return `${capital(path(event.subflow))} carries ${size(event.length)} that no mapping covers.`;
    case 'translated':
      return `The same handshake is seen again from ${event.source} to ${event.destination}: addresses are translated between the two.`;
    case 'syn-retransmitted':
      return `The SYN of ${path(event.subflow)} went out ${event.count + 1} times.`;
    case 'connection-closed':
      return `End, ${seconds(event.time - connection.start)} after the first packet.`;
  }
}

function fillers(event: { originals: number; retransmissions: number; reinjections: number }): string {
  const parts = [
    [event.originals, 'late original'],
    [event.retransmissions, 'retransmission'],
    [event.reinjections, 'reinjection'],
  ] as const;
  return parts
    .filter(([count]) => count > 0)
    .map(([count, what]) => `${count} ${what}${count === 1 ? '' : 's'}`)
    .join(', ');
}

export interface Verdict {
  severity: 'note' | 'warning' | 'error';
  text: string;
}

/** What stands out in a connection as a whole: nothing when all is well. */
export function verdicts(report: ConnectionReport): Verdict[] {
  const out: Verdict[] = [];
  const say = (severity: Verdict['severity'], text: string): void => void out.push({ severity, text });
  if (report.fallback !== null)
    say('warning', `fell back to TCP: ${FALLBACKS[report.fallback.reason] ?? report.fallback.reason} (packet ${report.fallback.packet})`);
  if (!report.established && report.fallback === null) say('warning', 'the handshake was never completed');
  for (const one of report.subflows) {
    if (one.hmac === 'wrong') say('error', `subflow ${one.number}: wrong HMAC in MP_JOIN`);
    if (one.kind === 'join' && !one.established) say('warning', `subflow ${one.number} was tried and never established`);
    const carried = one.sent[0].dataBytes + one.sent[1].dataBytes;
    const backup = one.backup[0] || one.backup[1];
    if (one.established && carried === 0 && report.subflows.length > 1) say('note', `subflow ${one.number} carried no data${backup ? ' (a backup)' : ''}`);
    one.sent.forEach((half, by) => {
      const who = by === 0 ? 'client' : 'server';
      const again = half.retransmittedBytes / Math.max(1, half.bytes);
      if (half.bytes > 20_000 && again > 0.05) say('warning', `subflow ${one.number}: ${percent(again)} of what the ${who} sent was sent again`);
      if (half.retransmittedPackets > 10 && half.spurious > half.retransmittedPackets * 0.2)
        say('warning', `subflow ${one.number}: ${half.spurious} of the ${who}'s ${half.retransmittedPackets} retransmissions were unnecessary`);
      if (half.zeroTime > 0.1 * (one.end - one.start)) say('warning', `subflow ${one.number}: the ${who}'s window was closed for ${seconds(half.zeroTime)}`);
      if (half.checksumFailures > 0) say('error', `subflow ${one.number}: ${half.checksumFailures} wrong DSS checksums from the ${who}`);
      if (half.unseenBytes > 0) say('note', `subflow ${one.number}: ${size(half.unseenBytes)} from the ${who} were acknowledged but are not in the capture`);
    });
  }
  report.directions.forEach((one, by) => {
    const who = by === 0 ? 'client' : 'server';
    if (one.reinjected.wasted > Math.max(100_000, one.bytes * 0.05))
      say('warning', `${size(one.reinjected.wasted)} of the ${who}'s data were reinjected in vain`);
    const share = one.queue.blockedTime / Math.max(1, report.end - report.start);
    if (share > 0.1) say('warning', `head-of-line blocking of the ${who}'s data for ${percent(share)} of the time, up to ${size(one.queue.max)} waiting`);
    if (one.unseenBytes > 0) say('note', `${size(one.unseenBytes)} of the ${who}'s data were acknowledged but are not in the capture`);
    if (one.longestGap > 200_000) say('warning', `the ${who}'s data made no progress for up to ${seconds(one.longestGap)}`);
    if (report.fallback === null && one.unmappedBytes > 0) say('warning', `${size(one.unmappedBytes)} of the ${who}'s data have no mapping`);
  });
  return out;
}

export function size(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} GB`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(2)} MB`;
  if (count >= 1e4) return `${(count / 1e3).toFixed(0)} kB`;
  if (count >= 1e3) return `${(count / 1e3).toFixed(1)} kB`;
  return count === 1 ? '1 byte' : `${count} bytes`;
}

export function ms(micros: number): string {
  return micros >= 1e6 ? seconds(micros) : micros >= 1e4 ? `${(micros / 1e3).toFixed(0)} ms` : `${(micros / 1e3).toFixed(1)} ms`;
}

export function seconds(micros: number): string {
  return `${(micros / 1e6).toFixed(3)} s`;
}

function percent(part: number): string {
  return `${(part * 100).toFixed(part < 0.1 ? 1 : 0)} %`;
}

function bytes(position: number): string {
  return position.toLocaleString('en');
}

function capital(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1);
}
