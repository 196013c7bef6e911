/** Steps about DSS checksums (RFC 8684 §3.3.1, §3.7; RFC 6824 §3.3.1, §3.6). */
import { mptcp, mptcpOption } from '../flow.ts';
import type { Session } from '../session.ts';
import { until } from '../walk.ts';
import { established, exchange, exchangeWith, joined, joinOutcome, opened, reaction, resetText } from './context.ts';
import type { Step, StepContext, StepResult } from './context.ts';
import { joined as concat } from '../port-host.ts';
import { checksumOf } from './handshake.ts';

const asked = { checksum: true } as const;

const first = (id: string, title: string, options: { checksum?: boolean }, map: Parameters<typeof exchange>[2], versions: Step['versions'] = [0, 1]): Step => ({
  id,
  title,
  versions,
  run: async (context) => {
    const session = await opened(context, options);
    session.confirm();
    const result = await exchange(context, session, map);
    session.close();
    return result;
  },
});

const afterWrong = (id: string, title: string, next: (context: StepContext, session: Session) => Promise<StepResult>, patient = false): Step => ({
  id,
  title,
  versions: [1],
  ...(patient ? { patient } : {}),
  run: async (context) => {
    const session = await established(context, asked);
    const wrong = await exchange(context, session, { checksum: 'wrong' });
    if (session.first.reset !== null) {
      session.close();
      return wrong;
    }
    const then = await next(context, session);
    session.close();
    return { outcome: `${wrong.outcome}, then ${then.outcome}`, details: [...wrong.details, ...then.details] };
  },
});

export const CHECKSUMS: readonly Step[] = [
  {
    id: 'checksum-asked',
    title: 'we set flag A: both directions carry checksums',
    versions: [0, 1],
    run: async (context) => {
      const session = await opened(context, asked);
      session.confirm();
      const result = await exchange(context, session);
      const mappings = session.first.arrivals
        .map(({ packet }) => mptcpOption(packet, 'dss'))
        .filter((one) => one !== undefined && one.dsn !== null && one.dataLength > 0);
      const with_ = mappings.length > 0 && mappings.every((one) => one!.checksum !== null);
      session.close();
      return {
        outcome: `${result.outcome}+${with_ ? 'checksums' : 'no-checksums'}`,
        details: [`SYN+ACK flags 0x${session.capable!.flags.toString(16).padStart(2, '0')}`],
      };
    },
  },
  first('no-checksum-first', 'checksums agreed, none in the first mapping', asked, { checksum: 'none' }),
  {
    id: 'no-checksum-later',
    title: 'checksums agreed, none in a later mapping',
    versions: [0, 1],
    run: async (context) => {
      const session = await established(context, asked);
      const result = await exchange(context, session, { checksum: 'none' });
      session.close();
      return result;
    },
  },
  {
    id: 'stray-checksum',
    title: 'a checksum that was not agreed on',
    versions: [0, 1],
    run: async (context) => {
      const session = await opened(context);
      session.confirm();
      const agreed = session.checksum;
      const result = await exchange(context, session, { checksum: 'right' });
      session.close();
      return agreed ? { outcome: 'not-applicable', details: ['this server asks for checksums itself'] } : result;
    },
  },
  first('bad-checksum-first', 'a wrong checksum in the first mapping', asked, { checksum: 'wrong' }),
  {
    id: 'bad-checksum-capable',
    title: 'a wrong checksum in MP_CAPABLE with data',
    versions: [1],
    run: async (context) => {
      const session = await opened(context, asked);
      session.confirm();
      const { request } = context;
      session.sent = request.length;
      const result = await exchangeWith(context, session, [
        mptcp(session.capableAck({ dataLength: request.length, checksum: checksumOf(session, request) ^ 0x5555 })),
      ]);
      session.close();
      return result;
    },
  },
  {
    id: 'bad-checksum-later',
    title: 'a wrong checksum in a later mapping',
    versions: [0, 1],
    run: async (context) => {
      const session = await established(context, asked);
      const result = await exchange(context, session, { checksum: 'wrong' });
      session.close();
      return result;
    },
  },
  afterWrong('bad-checksum-then-good', 'after a wrong checksum: good data', (context, session) => exchange(context, session)),
  afterWrong('bad-checksum-then-plain', 'after a wrong checksum: plain data', (context, session) => exchangeWith(context, session, [])),
  afterWrong('bad-checksum-then-infinite', 'after a wrong checksum: the infinite mapping', (context, session) =>
    exchange(context, session, { length: 0, checksum: 'none' }),
  ),
  afterWrong(
    'bad-checksum-then-silence',
    'after a wrong checksum: nothing for two minutes',
    async (context, session) => {
      const start = context.hub.now();
      await until(context.hub, 130_000_000, () => session.first.reset !== null);
      const { reset } = session.first;
      return { outcome: reset === null ? 'silence' : resetText(reset), details: [`${((context.hub.now() - start) / 1e6).toFixed(0)} s`] };
    },
    true,
  ),
  {
    id: 'bad-checksum-two',
    title: 'a wrong checksum while there are two subflows',
    versions: [0, 1],
    run: async (context) => {
      const session = await established(context, asked);
      const join = await joined(context, session);
      const result = await exchange(context, session, { checksum: 'wrong' }, join.flow);
      const fail = join.flow.reset === null ? undefined : mptcpOption(join.flow.reset.packet, 'fail');
      const other = await exchange(context, session, { at: session.sent - (join.flow.reset === null ? 0 : context.request.length) });
      session.close();
      return {
        outcome: `${result.outcome.includes('mp-fail') || fail === undefined ? '' : 'mp-fail+'}${result.outcome}, other ${other.outcome}`,
        details: result.details,
      };
    },
  },
  {
    id: 'long-payload',
    title: 'octets inserted into the payload: longer than its mapping, with checksums',
    versions: [0, 1],
    run: async (context) => {
      const session = await established(context, asked);
      const { request } = context;
      const option = session.mapping(session.first, request);
      session.sent += request.length;
      // As a gateway inserts them: in the middle of a header's value.
      const at = request.length - 5;
      const longer = concat([request.subarray(0, at), Uint8Array.of(0x2d, 0x2d, 0x2d, 0x2d), request.subarray(at)]);
      const result = await reaction(context, session, session.first, () => session.first.deliver(longer, [option]));
      session.close();
      return result;
    },
  },
  {
    id: 'bad-checksum-join',
    title: 'a join after a wrong checksum in the first mapping',
    versions: [0],
    run: async (context) => {
      const session = await opened(context, asked);
      session.confirm();
      const result = await exchange(context, session, { checksum: 'wrong' });
      const join = await joinOutcome(context, session);
      session.close();
      return { outcome: `${result.outcome}, ${join.outcome}`, details: result.details };
    },
  },
];
