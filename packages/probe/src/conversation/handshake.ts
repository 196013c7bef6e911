/** Steps about MP_CAPABLE: versions, flags, keys, the third ACK (RFC 8684 §3.1, RFC 6824 §3.1). */
import { CAPABLE_FLAG } from '@subflow/wire';
import type { MpCapable, TcpOption } from '@subflow/wire';
import { mptcp, mptcpOption } from '../flow.ts';
import { Session, u64 } from '../session.ts';
import { established, exchange, exchangeWith, joinOutcome, opened, targetOf } from './context.ts';
import type { Step, StepContext, StepResult } from './context.ts';

/** A SYN with options of our choice; what the SYN+ACK says. */
async function synAnswer(context: StepContext, options: readonly TcpOption[]): Promise<StepResult> {
  const session = new Session(context.hub, targetOf(context));
  await session.open({ capable: options });
  const { synAck, first } = session;
  let outcome = first.reset === null ? 'silence' : 'refused';
  const details: string[] = [];
  if (synAck !== null) {
    const capable = mptcpOption(synAck.packet, 'capable');
    outcome = capable === undefined ? 'plain' : capable.senderKey === null || echoes(capable, options) ? 'reflected' : `v${capable.version}`;
    if (capable !== undefined) details.push(`flags 0x${capable.flags.toString(16).padStart(2, '0')}`);
    first.acknowledge([]);
  }
  session.close();
  return { outcome, details };
}

function echoes(capable: MpCapable, options: readonly TcpOption[]): boolean {
  return options.some(
    (one) =>
      one.kind === 'mptcp' &&
      one.option.subtype === 'capable' &&
      one.option.senderKey !== null &&
      one.option.senderKey.high === capable.senderKey?.high &&
      one.option.senderKey.low === capable.senderKey.low,
  );
}

const capable = (version: number, key: boolean, flags: number = CAPABLE_FLAG.sha256): TcpOption =>
  mptcp({ subtype: 'capable', version, flags, senderKey: key ? u64(0x1122334455667788n) : null, receiverKey: null, dataLength: null, checksum: null });

const syn = (id: string, title: string, options: () => readonly TcpOption[]): Step => ({
  id,
  title,
  versions: [1],
  run: (context) => synAnswer(context, options()),
});

/** Third ACK of our own making, then a request with a mapping. */
const third = (id: string, title: string, make: (session: Session) => readonly TcpOption[], versions: Step['versions'] = [0, 1]): Step => ({
  id,
  title,
  versions,
  run: async (context) => {
    const session = await opened(context);
    session.confirm(make(session));
    const result = await exchange(context, session);
    session.close();
    return result;
  },
});

export const HANDSHAKE: readonly Step[] = [
  {
    id: 'capable',
    title: 'MP_CAPABLE in the SYN, a key in the answer',
    versions: [0, 1],
    run: async (context) => {
      const session = new Session(context.hub, targetOf(context), context.key === undefined ? {} : { key: context.key });
      const good = await session.open();
      const answer = session.capable;
      const details = answer === null ? [] : [`SYN+ACK: version ${answer.version}, flags 0x${answer.flags.toString(16).padStart(2, '0')}`];
      const own = answer?.senderKey ?? null;
      const mirror = answer !== null && (own === null || (own.high === u64(session.clientKey).high && own.low === u64(session.clientKey).low));
      const outcome = mirror
        ? 'reflected'
        : answer !== null
          ? `v${answer.version}`
          : session.synAck !== null
            ? 'plain'
            : session.first.reset === null
              ? 'silence'
              : 'refused';
      if (good) session.confirm();
      session.close();
      return { outcome, details };
    },
  },
  {
    id: 'data',
    title: 'a request with a DSS mapping, answered with mappings',
    versions: [0, 1],
    run: async (context) => {
      const session = await opened(context);
      session.confirm();
      const result = await exchange(context, session);
      session.close();
      return result;
    },
  },
  {
    id: 'capable-data',
    title: 'first data with MP_CAPABLE and its length instead of a DSS',
    versions: [1],
    run: async (context) => {
      const session = await opened(context);
      session.confirm();
      const { request } = context;
      const checksum = session.checksum ? checksumOf(session, request) : null;
      session.sent = request.length;
      const result = await exchangeWith(context, session, [mptcp(session.capableAck({ dataLength: request.length, checksum }))]);
      session.close();
      return result;
    },
  },
  width('dsn4', 'a data sequence number of four octets: the width of the DATA_ACK', false),
  width('dsn8', 'a data sequence number of eight octets: the width of the DATA_ACK', true),
  {
    ...third('wrong-key', 'third ACK echoes a wrong receiver key', (session) => [
      mptcp(session.capableAck({ receiverKey: u64(session.serverKey! ^ 0xffffn) })),
    ]),
    run: async (context) => {
      const session = await opened(context);
      session.confirm([mptcp(session.capableAck({ receiverKey: u64(session.serverKey! ^ 0xffffn) }))]);
      const result = await exchange(context, session);
      if (result.outcome === 'mptcp') {
        const join = await joinOutcome(context, session);
        result.outcome += `+${join.outcome}`;
      }
      session.close();
      return result;
    },
  },
  third(
    'wrong-sender-key',
    'third ACK with another sender key than the one whose IDSN is used',
    (session) => [mptcp(session.capableAck({ senderKey: u64(session.clientKey ^ 0xffffn) }))],
    [1],
  ),
  third('bare-third-ack', 'third ACK without the option', () => []),
  third('short-third-ack', 'third ACK with MP_CAPABLE of length 12', (session) => [mptcp(session.capableAck({ receiverKey: null }))], [1]),
  third('third-ack-version-0', 'third ACK with MP_CAPABLE of version 0', (session) => [mptcp(session.capableAck({ version: 0 }))], [1]),
  syn('syn-v0', 'SYN with MP_CAPABLE of version 0', () => [capable(0, true)]),
  syn('syn-v0-short', 'SYN with MP_CAPABLE of version 0 without a key', () => [capable(0, false)]),
  syn('syn-v1-long', 'SYN with MP_CAPABLE of version 1 with a key', () => [capable(1, true)]),
  syn('syn-v2', 'SYN with MP_CAPABLE of version 2', () => [capable(2, false)]),
  syn('syn-flags-00', 'SYN with flags 0x00: no crypto', () => [capable(1, false, 0)]),
  syn('syn-flags-41', 'SYN with flag B, extensibility', () => [capable(1, false, CAPABLE_FLAG.extensibility | CAPABLE_FLAG.sha256)]),
  syn('syn-flags-1f', 'SYN with every crypto bit', () => [capable(1, false, 0x1f)]),
  syn('syn-both', 'versions 0 and 1 in one SYN', () => [capable(0, true), capable(1, false)]),
  syn('syn-capable-join', 'MP_CAPABLE and MP_JOIN in one SYN', () => [
    capable(1, false),
    mptcp({ subtype: 'join-syn', flags: 0, addressId: 1, token: 0x01020304, nonce: 0x05060708 }),
  ]),
  {
    id: 'reflection',
    title: 'unknown options: sent back, or left alone',
    versions: [0, 1],
    run: async (context) => {
      const session = new Session(context.hub, targetOf(context));
      const unknown: TcpOption = { kind: 'unknown', code: 253, data: Uint8Array.of(0x5b, 0xf1) };
      await session.open({ capable: [unknown] });
      const { synAck } = session;
      const outcome =
        synAck === null ? 'silence' : synAck.packet.tcp.options.some((one) => one.kind === 'unknown' && one.code === 253) ? 'reflected' : 'left-alone';
      if (synAck !== null) session.first.acknowledge([]);
      session.close();
      return { outcome, details: [] };
    },
  },
  {
    id: 'flag-c',
    title: 'flag C of the server, and a join to its initial address',
    versions: [1],
    run: async (context) => {
      const session = await established(context);
      const denied = (session.capable!.flags & CAPABLE_FLAG.noJoin) !== 0;
      const join = await joinOutcome(context, session);
      session.close();
      return { outcome: `${denied ? 'flag-c' : 'no-flag-c'}+${join.outcome}`, details: join.details };
    },
  },
];

/** The checksum of MP_CAPABLE with data (RFC 8684 §3.1): that of a mapping from the first octet, subflow sequence number 1. */
export function checksumOf(session: Session, payload: Uint8Array): number {
  const option = session.mapping(session.first, payload, { at: 0, checksum: 'right', ssn: 1 });
  return option.kind === 'mptcp' && option.option.subtype === 'dss' ? (option.option.checksum ?? 0) : 0;
}

function width(id: string, title: string, wide: boolean): Step {
  return {
    id,
    title,
    versions: [0, 1],
    run: async (context) => {
      const session = await opened(context);
      session.confirm();
      session.ackWidths.length = 0;
      const result = await exchange(context, session, { wide });
      const first = session.ackWidths[0];
      session.close();
      return { outcome: result.outcome === 'mptcp' ? `ack${first ?? 0}` : result.outcome, details: result.details };
    },
  };
}
