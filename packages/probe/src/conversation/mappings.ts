/** Steps about data sequence mappings (RFC 8684 §3.3, RFC 6824 §3.3). */
import { DSS_FLAG, FLAG } from '@subflow/wire';
import { mptcp, mptcpOption } from '../flow.ts';
import { until } from '../walk.ts';
import { established, exchange, exchangeWith, joined, joinOutcome, opened, reaction, resetText } from './context.ts';
import type { Step } from './context.ts';

const single = (id: string, title: string, run: Step['run'], versions: Step['versions'] = [0, 1]): Step => ({ id, title, versions, run });

export const MAPPINGS: readonly Step[] = [
  single('infinite-mapping', 'the infinite mapping (length 0), one subflow', async (context) => {
    const session = await established(context);
    const result = await exchange(context, session, { length: 0, checksum: 'none' });
    session.close();
    return result;
  }),
  single('infinite-mapping-two', 'the infinite mapping while there are two subflows', async (context) => {
    const session = await established(context);
    const join = await joined(context, session);
    const result = await exchange(context, session, { length: 0, checksum: 'none' }, join.flow);
    session.close();
    return result;
  }),
  single('plain-first', 'first data without a mapping', async (context) => {
    const session = await opened(context);
    session.confirm();
    const result = await exchangeWith(context, session, []);
    session.close();
    return result;
  }),
  single('plain-later', 'later data without a mapping', async (context) => {
    const session = await established(context);
    const result = await exchangeWith(context, session, []);
    session.close();
    return result;
  }),
  single('plain-two', 'data without a mapping on the second of two subflows', async (context) => {
    const session = await established(context);
    const join = await joined(context, session);
    const result = await exchangeWith(context, session, [], join.flow);
    session.close();
    return result;
  }),
  single('split-both', 'one mapping over two segments, DSS on both', async (context) => split(context, true)),
  single('split-first', 'one mapping over two segments, DSS on the first only', async (context) => split(context, false)),
  single('coalesced', 'two mappings coalesced into one segment, one DSS left', async (context) => {
    const session = await established(context);
    const { request } = context;
    const half = request.length >>> 1;
    const option = session.mapping(session.first, request.subarray(0, half));
    session.sent += request.length;
    const result = await reaction(context, session, session.first, () => session.first.deliver(request, [option]));
    session.close();
    return result;
  }),
  single('wrong-ssn', 'a mapping with a wrong subflow sequence number', async (context) => {
    const session = await established(context);
    const flow = session.first;
    const result = await exchange(context, session, { ssn: (flow.sndNxt - flow.iss + 5_000) >>> 0 });
    session.close();
    return result;
  }),
  single('dsn-hole', 'a hole in the data sequence space, filled later', async (context) => {
    const session = await established(context);
    const flow = session.first;
    const { request } = context;
    const half = request.length >>> 1;
    const at = session.sent;
    // On the subflow all is in order; at the data level the second half comes first.
    await flow.deliver(request.subarray(half), [session.mapping(flow, request.subarray(half), { at: at + half })]);
    await context.hub.sleep(Math.max(20_000, flow.rtt));
    const early = session.dataAcked > at;
    const result = await reaction(context, session, flow, () =>
      flow.deliver(request.subarray(0, half), [session.mapping(flow, request.subarray(0, half), { at })]),
    );
    session.close();
    return { outcome: `${early ? 'hole-acked' : 'hole-kept'}, ${result.outcome}`, details: result.details };
  }),
  single('dsn-outside', 'data far outside the receive window at the data level', async (context) => {
    const session = await established(context);
    const result = await exchange(context, session, { at: session.sent + 0x3fff_0000 });
    const then = session.first.reset === null ? (await exchange(context, session)).outcome : 'closed';
    session.close();
    return { outcome: `${result.outcome}, then ${then}`, details: result.details };
  }),
  single('dsn-duplicate', 'data that has been acknowledged already', async (context) => {
    const session = await established(context);
    const result = await exchange(context, session, { at: 0 });
    const then = session.first.reset === null ? (await exchange(context, session)).outcome : 'closed';
    session.close();
    return { outcome: `${result.outcome}, then ${then}`, details: result.details };
  }),
  single('no-data-ack', 'data of the server that we do not acknowledge at the data level', async (context) => {
    const session = await opened(context);
    session.confirm();
    session.acknowledges = false;
    await session.send(context.request, { dataAck: false });
    await until(context.hub, context.silence, () => session.mapped > 0);
    const once = session.mapped;
    await until(context.hub, Math.max(1_500_000, context.silence), () => session.mapped > once);
    const again = session.mapped > once;
    session.close();
    return { outcome: once === 0 ? 'undelivered' : again ? 'reinjected' : 'not-reinjected', details: [] };
  }),
  single('data-fin', 'DATA_FIN: acknowledged, answered by one', async (context) => {
    const session = await established(context);
    const flow = session.first;
    const fin = session.sent;
    session.sent++;
    const option = session.mapping(flow, new Uint8Array(0), { at: fin, fin: true });
    await flow.ask(
      () => flow.build({ flags: FLAG.ack, options: [option] }),
      () => session.dataAcked > fin || flow.reset !== null,
    );
    await until(context.hub, context.silence, () => session.dataFin || flow.reset !== null);
    const acked = session.dataAcked > fin;
    const parts = [acked ? 'acked' : 'not-acked'];
    if (flow.reset !== null) parts.push(resetText(flow.reset));
    else parts.push(session.dataFin ? 'answered' : 'open');
    // Its own DATA_FIN wants an acknowledgement too (RFC 8684 §3.3.3).
    flow.acknowledge();
    session.close();
    return { outcome: parts.join('+'), details: [] };
  }),
  single('too-long-mapping', 'a mapping longer than the payload, the rest never comes', async (context) => {
    const session = await established(context, { checksum: true });
    const before = session.dataAcked;
    const { request } = context;
    const option = session.mapping(session.first, request, { length: request.length + 100 });
    const acked = await session.first.deliver(request, [option]);
    await context.hub.sleep(Math.max(100_000, 2 * session.first.rtt));
    const reset = session.first.reset;
    session.close();
    return { outcome: reset !== null ? resetText(reset) : acked === null ? 'silence' : session.dataAcked > before ? 'data-acked' : 'undelivered', details: [] };
  }),
  single('join-after-fallback', 'a join after a fallback by plain data', async (context) => {
    const session = await opened(context);
    session.confirm();
    const result = await exchangeWith(context, session, []);
    const join = await joinOutcome(context, session);
    session.close();
    return { outcome: `${result.outcome}, ${join.outcome}`, details: join.details };
  }),
  single('join-after-infinite', 'a join after the infinite mapping', async (context) => {
    const session = await established(context);
    const result = await exchange(context, session, { length: 0, checksum: 'none' });
    const join = await joinOutcome(context, session);
    session.close();
    return { outcome: `${result.outcome}, ${join.outcome}`, details: join.details };
  }),
  single(
    'mp-fail',
    'MP_FAIL from us: MP_FAIL back, then the infinite mapping',
    async (context) => {
      const session = await established(context);
      const flow = session.first;
      const dsn = session.dsn(0, session.serverKey!);
      const fail = mptcp({ subtype: 'fail', reserved: 0, dsn: { high: Number(dsn >> 32n), low: Number(dsn & 0xffffffffn) } });
      const before = flow.arrivals.length;
      await flow.ask(
        () => flow.build({ flags: FLAG.ack, options: [fail] }),
        ({ packet }) => mptcpOption(packet, 'fail') !== undefined,
        { tries: 2 },
      );
      const back = flow.arrivals.slice(before).some(({ packet }) => mptcpOption(packet, 'fail') !== undefined);
      const at = flow.arrivals.length;
      const result = await exchange(context, session);
      const infinite = flow.arrivals.slice(at).some(({ packet }) => {
        const dss = mptcpOption(packet, 'dss');
        return dss !== undefined && (dss.flags & DSS_FLAG.mapping) !== 0 && dss.dataLength === 0;
      });
      session.close();
      return { outcome: `${back ? 'mp-fail+' : ''}${infinite ? 'infinite-mapping' : result.outcome}`, details: result.details };
    },
    [0, 1],
  ),
];

async function split(context: Parameters<Step['run']>[0], both: boolean): ReturnType<Step['run']> {
  const session = await established(context);
  const flow = session.first;
  const { request } = context;
  const half = request.length >>> 1;
  const option = session.mapping(flow, request);
  session.sent += request.length;
  const result = await reaction(context, session, flow, async () => {
    await flow.deliver(request.subarray(0, half), [option]);
    return flow.deliver(request.subarray(half), both ? [option] : session.ackOptions());
  });
  session.close();
  return result;
}
