/** Steps about joins, addresses, priority and closing (RFC 8684 §3.2, §3.3.8, §3.4, §3.5, §3.6). */
import { FLAG, formatAddress } from '@subflow/wire';
import type { AddAddr, IpAddress } from '@subflow/wire';
import { addAddressHmac } from '@subflow/stack';
import { mptcp, mptcpOption, refusal } from '../flow.ts';
import { u64 } from '../session.ts';
import { until } from '../walk.ts';
import { established, exchange, exchangeWith, joined, joinOutcome, opened, resetText } from './context.ts';
import type { Step, StepContext, StepResult } from './context.ts';

/** Subflows that are tried when looking for the limit. */
const MOST_JOINS = 12;

const step = (id: string, title: string, run: Step['run'], versions: Step['versions'] = [0, 1]): Step => ({ id, title, versions, run });

export const SIGNALS: readonly Step[] = [
  step('join', 'a second subflow, both HMACs right', async (context) => {
    const session = await established(context);
    const result = await joinOutcome(context, session);
    if (result.outcome === 'joined') {
      const flow = session.flows.at(-1)!;
      const answer = await exchange(context, session, {}, flow);
      result.outcome += answer.outcome === 'mptcp' || session.mapped > 0 ? '+data' : `+${answer.outcome}`;
    }
    session.close();
    return result;
  }),
  step('join-backup', 'a second subflow as backup', async (context) => {
    const session = await established(context);
    const result = await joinOutcome(context, session, { backup: true });
    session.close();
    return result;
  }),
  step('join-token', 'MP_JOIN with an unknown token', async (context) => {
    const session = await established(context);
    const result = await joinOutcome(context, session, { token: (session.token(session.serverKey!) ^ 0x5a5a5a5a) >>> 0 });
    session.close();
    return result;
  }),
  step('join-early', 'MP_JOIN before the third ACK', async (context) => {
    const session = await opened(context);
    const result = await joinOutcome(context, session);
    session.close();
    return result;
  }),
  step('join-before-data', 'MP_JOIN after the third ACK, before data', async (context) => {
    const session = await opened(context);
    session.confirm();
    await context.hub.sleep(Math.max(10_000, session.first.rtt));
    const result = await joinOutcome(context, session);
    session.close();
    return result;
  }),
  step('join-bad-hmac', 'third ACK of a join with a wrong HMAC', async (context) => {
    const session = await established(context);
    const result = await joinOutcome(context, session, { hmac: 'wrong' });
    session.close();
    return result;
  }),
  step('join-no-hmac', 'third ACK of a join without the option', async (context) => {
    const session = await established(context);
    const result = await joinOutcome(context, session, { hmac: 'none' });
    session.close();
    return result;
  }),
  step('join-limit', 'subflows until the server takes no more', async (context) => {
    const session = await established(context);
    let result: StepResult = { outcome: 'joined', details: [] };
    let count = 0;
    for (; count < MOST_JOINS && result.outcome === 'joined'; count++) result = await joinOutcome(context, session);
    session.close();
    return {
      outcome: result.outcome === 'joined' ? 'no-limit' : result.outcome,
      details: [`${result.outcome === 'joined' ? count : count - 1} further subflows`],
    };
  }),
  step('join-after-bare', 'a join after a third ACK without the option', async (context) => {
    const session = await opened(context);
    session.confirm([]);
    const result = await exchangeWith(context, session, []);
    const join = await joinOutcome(context, session);
    session.close();
    return { outcome: `${result.outcome}, ${join.outcome}`, details: join.details };
  }),
  step('join-closed-port', 'MP_JOIN to a port where nobody listens', async (context) => {
    if (context.closedPort === null) return { outcome: 'not-applicable', details: ['no closed port known'] };
    const session = await established(context);
    const result = await joinOutcome(context, session, { port: context.closedPort });
    session.close();
    return result;
  }),
  announcement('add-addr', 'ADD_ADDR with the right HMAC', { hmac: 'right', port: false }, [1]),
  announcement('add-addr-port', 'ADD_ADDR with a port and the right HMAC', { hmac: 'right', port: true }, [1]),
  announcement('add-addr-bad-hmac', 'ADD_ADDR with a wrong HMAC', { hmac: 'wrong', port: false }, [1]),
  announcement('add-addr-v0', 'ADD_ADDR in the form of version 0', { hmac: 'none', port: false }, [0, 1]),
  step('server-add-addr', 'addresses the server announces, and what it does without an echo', async (context) => {
    const session = await opened(context);
    const flow = session.first;
    const start = context.hub.now();
    session.confirm();
    await until(
      context.hub,
      Math.max(900_000, context.silence),
      () => flow.arrivals.filter(({ packet }) => mptcpOption(packet, 'add-addr') !== undefined).length >= 3,
    );
    const told = flow.arrivals.filter(({ packet }) => mptcpOption(packet, 'add-addr') !== undefined);
    session.close();
    if (told.length === 0) return { outcome: 'none', details: [] };
    const first = mptcpOption(told[0]!.packet, 'add-addr')!;
    const { hmac } = first;
    const right =
      hmac === null
        ? context.version === 0
        : sameBytes(hmac, addAddressHmac(u64(session.serverKey!), u64(session.clientKey), first.addressId, first.address, first.port ?? 0));
    return {
      outcome: `announced${right ? '' : '+bad-hmac'}${told.length > 1 ? '+repeated' : ''}`,
      details: [
        `${formatAddress(first.address)}${first.port === null ? '' : `:${first.port}`}, id ${first.addressId}, at ${told.map(({ at }) => `+${((at - start) / 1e6).toFixed(1)} s`).join(', ')}`,
      ],
    };
  }),
  step('remove-addr', 'REMOVE_ADDR of the second subflow', async (context) => {
    const session = await established(context);
    const join = await joined(context, session);
    const id = session.flows.indexOf(join.flow);
    const remove = mptcp({ subtype: 'remove-addr', flags: 0, addressIds: [id] });
    session.first.acknowledge([...session.ackOptions(), remove]);
    await until(context.hub, context.silence, () => join.flow.finReceived || join.flow.reset !== null);
    const parts = join.flow.reset !== null ? [resetText(join.flow.reset)] : [join.flow.finReceived ? 'fin' : 'silence'];
    const other = await exchange(context, session);
    session.close();
    return { outcome: `${parts.join('+')}, other ${other.outcome}`, details: [] };
  }),
  step('prio', 'MP_PRIO: the second subflow becomes a backup', async (context) => {
    const session = await established(context);
    const join = await joined(context, session);
    join.flow.acknowledge([...session.ackOptions(), mptcp({ subtype: 'prio', flags: 1, addressId: null })]);
    await context.hub.sleep(Math.max(20_000, join.flow.rtt));
    const before = join.flow.arrivals.filter(({ packet }) => packet.payload.length > 0).length;
    const result = await exchange(context, session);
    const used = join.flow.arrivals.filter(({ packet }) => packet.payload.length > 0).length > before;
    session.close();
    return { outcome: join.flow.reset !== null ? resetText(join.flow.reset) : `${result.outcome}${used ? '+backup-used' : ''}`, details: [] };
  }),
  fastclose('fastclose-ack', 'MP_FASTCLOSE on an ACK, the right key', FLAG.ack, true),
  fastclose('fastclose-rst', 'MP_FASTCLOSE on a RST, the right key', FLAG.rst | FLAG.ack, true),
  fastclose('fastclose-wrong', 'MP_FASTCLOSE with a wrong key', FLAG.ack, false),
  step(
    'tcprst',
    'a reset with MP_TCPRST of one subflow: the other goes on',
    async (context) => {
      const session = await established(context);
      const join = await joined(context, session);
      join.flow.close([mptcp({ subtype: 'tcprst', flags: 0, reason: 5 })]);
      await context.hub.sleep(Math.max(20_000, session.first.rtt));
      const result = await exchange(context, session);
      session.close();
      return result;
    },
    [1],
  ),
  step('unread-data', 'the application closes with data unread', async (context) => {
    const session = await established(context);
    const flow = session.first;
    const text = new TextEncoder().encode('CLOSE / HTTP/1.0\r\n\r\n');
    const more = new Uint8Array(400).fill(0x78);
    await session.send(text);
    // The application must have stopped reading before more comes.
    await context.hub.sleep(60_000);
    for (let i = 0; i < 3 && flow.reset === null; i++) {
      flow.hub.send(flow.build({ flags: FLAG.ack | FLAG.psh, options: [session.mapping(flow, more)], payload: more }));
      session.sent += more.length;
      flow.sndNxt = (flow.sndNxt + more.length) >>> 0;
    }
    await until(context.hub, context.silence, () => flow.reset !== null || session.dataFin || flow.finReceived);
    const outcome = flow.reset !== null ? resetText(flow.reset) : session.dataFin ? 'data-fin' : flow.finReceived ? 'fin' : 'kept-open';
    session.close();
    return { outcome, details: [] };
  }),
];

function announcement(id: string, title: string, form: { hmac: 'right' | 'wrong' | 'none'; port: boolean }, versions: Step['versions']): Step {
  return step(
    id,
    title,
    async (context) => {
      const session = await established(context);
      const flow = session.first;
      // An address of ours with a port of ours: if the server joins, it comes here.
      const listener = new Listening(context, context.second ?? flow.local, form.port ? null : flow.localPort);
      const port = form.port ? listener.port : null;
      const address = listener.address;
      let hmac: Uint8Array | null = addAddressHmac(u64(session.clientKey), u64(session.serverKey!), 5, address, port ?? 0);
      if (form.hmac === 'wrong') hmac = hmac.map((byte) => byte ^ 0xff);
      if (form.hmac === 'none') hmac = null;
      const option: AddAddr = {
        subtype: 'add-addr',
        version: form.hmac === 'none' ? 0 : 1,
        flags: form.hmac === 'none' ? (address.length === 4 ? 4 : 6) : 0,
        addressId: 5,
        address,
        port,
        hmac,
      };
      let echoed = false;
      const echo = await flow.ask(
        () => flow.build({ flags: FLAG.ack, options: [mptcp(option)] }),
        ({ packet }) => (mptcpOption(packet, 'add-addr')?.flags ?? 0) === 1 && mptcpOption(packet, 'add-addr')?.addressId === 5,
        { tries: 3 },
      );
      echoed = echo !== null;
      if (echoed) await until(context.hub, Math.min(context.silence, 600_000), () => listener.asked);
      const parts = [flow.reset !== null ? resetText(flow.reset) : echoed ? 'echo' : 'silence'];
      if (listener.asked) parts.push('joins');
      const details = listener.asked ? ['the server sent a SYN with MP_JOIN to the announced address'] : [];
      listener.close();
      session.close();
      return { outcome: parts.join('+'), details };
    },
    versions,
  );
}

/** An address and port of ours at which the server may knock; it is refused, so that it does not knock again. */
class Listening {
  readonly address: IpAddress;
  readonly port: number;
  asked = false;
  private readonly hub: StepContext['hub'];
  private readonly release: () => void;

  /** Without a port the server knocks at the port of the first subflow. */
  constructor({ hub }: StepContext, address: IpAddress, initial: number | null) {
    const reserved = hub.port.reserve(address);
    this.address = address;
    this.port = reserved.port;
    const unclaim = hub.expect(initial ?? reserved.port, (packet) => {
      const { tcp } = packet;
      if ((tcp.flags & (FLAG.syn | FLAG.ack)) !== FLAG.syn) return;
      if (mptcpOption(packet, 'join-syn') !== undefined) this.asked = true;
      hub.send(refusal(packet, 0, tcp.seq + 1));
    });
    this.release = () => {
      unclaim();
      reserved.release();
    };
    this.hub = hub;
  }

  close(): void {
    this.hub.linger(this.release);
  }
}

function fastclose(id: string, title: string, flags: number, right: boolean): Step {
  return step(id, title, async (context) => {
    const session = await established(context);
    const join = await joined(context, session);
    const key = right ? session.serverKey! : session.serverKey! ^ 0xffn;
    const option = mptcp({ subtype: 'fastclose', reserved: 0, receiverKey: u64(key) });
    const flow = session.first;
    const both = (): boolean => (flow.reset !== null || (flags & FLAG.rst) !== 0) && join.flow.reset !== null;
    for (let i = 0; i < (right ? 5 : 3) && !both(); i++) {
      flow.hub.send(flow.build({ flags, options: [option] }));
      // Resets are sent once and may be lost: whoever is gone answers an ACK by another.
      if (i > 0) for (const one of [flow, join.flow]) if (one.reset === null && right && !(one === flow && (flags & FLAG.rst) !== 0)) one.acknowledge();
      await until(context.hub, right ? Math.max(200_000, 3 * flow.rtt) : 100_000, both);
    }
    const parts: string[] = [];
    if ((flags & FLAG.rst) === 0) parts.push(flow.reset === null ? 'open' : resetText(flow.reset));
    parts.push(join.flow.reset === null ? 'other open' : `other ${resetText(join.flow.reset)}`);
    if (!right && flow.reset === null) parts.push((await exchange(context, session)).outcome);
    session.close();
    return { outcome: parts.join(', '), details: [] };
  });
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
