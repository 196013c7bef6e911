/** Routers and servers that are silent, stingy or lie: no false verdict, no hang. */
import { editSegments, Random } from '@subflow/emulator';
import { buildPacket, ICMP, ipHeader, parseAddress, PROTOCOL } from '@subflow/wire';
import { describe, expect, it } from 'vitest';
import { converse, findings, inVirtualTime, observePath, probeReport, ProbeWorld, WORLD_PORT } from '@subflow/probe';
import type { PathFacts, WorldOptions } from '@subflow/probe';
import { BOXES, campaignRun, EXPECTED, lineOf } from './campaign.ts';

const LIMIT = 400e6;

async function path(
  options: WorldOptions,
  change: (world: ProbeWorld) => void = () => undefined,
  echo = true,
): Promise<{ world: ProbeWorld; facts: PathFacts }> {
  const world = new ProbeWorld({ link: { delay: 1_500 }, ...options });
  change(world);
  const facts = await inVirtualTime(world.agenda, observePath(world.hub, { target: world.target, port: WORLD_PORT, ...(echo ? {} : { echo: false }) }), LIMIT);
  return { world, facts };
}

describe('routers that say little', () => {
  it('names the behaviour of every box when no router answers, and says that the place is unknown', { timeout: 120_000 }, async () => {
    for (const box of BOXES) {
      const run = await campaignRun(box, 1, { quote: 520, router: () => ({ silent: true }) });
      expect(run.named, lineOf(run)).toBe(true);
      expect(run.placed, lineOf(run)).toBe(true);
    }
  });

  it('narrows the place down to the silent hops between two that answer', async () => {
    const { facts } = await path({ seed: 3, boxes: [{ name: 'strip-syn', link: 2 }], router: (i) => ({ silent: i === 1 || i === 2 }) });
    expect(findings(facts)).toMatchObject([{ behaviour: 'strip-syn', from: 1, to: 4, certainty: 'proved' }]);
  });

  it('works with routers that send two errors a second', { timeout: 60_000 }, async () => {
    for (const box of ['strip-syn', 'nat', 'split-all', null] as const) {
      const run = await campaignRun(box, 2, { quote: 520, router: () => ({ rateLimit: 2 }) });
      expect(run.named && run.placed, lineOf(run)).toBe(true);
    }
  });

  it('shows labels of tunnels', async () => {
    const labels = [{ label: 16_004, trafficClass: 0, bottom: true, ttl: 3 }];
    const { facts } = await path({ seed: 1, router: (i) => (i === 2 ? { labels } : {}) });
    expect(findings(facts)).toEqual([]);
    const report = probeReport(facts.target, facts.port, null, facts, []);
    expect(report.path!.walks.find((one) => one.stage === 'syn')!.hops[2]!.routers[0]!.labels).toBe('16004');
  });
});

describe('routers that lie', () => {
  const liar = (quote: Uint8Array): Uint8Array => {
    const out = quote.slice();
    // The option gone, the DSCP another: as if a box had been there.
    out[1] = 0xb8;
    for (let i = 40; i < out.length; i++) out[i] = 1;
    return out;
  };

  it('does not believe a quote that hops behind it and the server contradict', async () => {
    for (const hop of [0, 2, 4]) {
      const { facts } = await path({ seed: hop + 1, router: (i) => (i === hop ? { tamper: liar } : {}) });
      expect(findings(facts)).toEqual([]);
    }
    const { facts } = await path({ seed: 9, router: (i) => (i === 1 ? { tamper: liar } : {}) });
    expect(probeReport(facts.target, facts.port, null, facts, []).path!.notes.join()).toContain('its quotes are not believed');
  });

  it('calls the word of the last router alone "cannot tell" when there is no echo server', async () => {
    const { facts } = await path({ seed: 4, router: (i) => (i === 4 ? { tamper: liar } : {}) }, undefined, false);
    expect(findings(facts).every((one) => one.certainty === 'cannot tell')).toBe(true);
  });

  it('survives quotes of other flows, of our flow with wrong numbers, and of nonsense', async () => {
    const forge = (world: ProbeWorld): void => {
      const attack = (now: number): void => {
        const other = buildPacket(ipHeader(world.client, world.target, PROTOCOL.tcp), {
          tcp: {
            sourcePort: 30_000 + (Math.floor(now) % 20_000),
            destinationPort: WORLD_PORT,
            seq: Math.floor(now) >>> 0,
            ack: 0,
            headerLength: 20,
            reserved: 0,
            flags: 2,
            window: 1,
            checksum: 0,
            urgent: 0,
            options: [],
          },
        });
        for (const quote of [other, other.slice(0, 28), new Uint8Array(60), other.slice(0, 21)]) {
          const icmp = { kind: 'error', version: 4, type: ICMP.timeExceeded, code: 0, checksum: 0, rest: 0, quote } as const;
          world.chain.links[0]!.backward.inject(buildPacket(ipHeader(parseAddress('203.0.113.77'), world.client, PROTOCOL.icmp), { icmp }), now);
        }
        if (now < 20e6) world.agenda.at(now + 700, attack);
      };
      world.agenda.at(1_000, attack);
    };
    const { facts } = await path({ seed: 5 }, forge);
    expect(findings(facts)).toEqual([]);
    const boxed = await path({ seed: 6, boxes: [{ name: 'strip-syn', link: 3 }] }, forge);
    expect(findings(boxed.facts)).toMatchObject([{ behaviour: 'strip-syn', from: 3, to: 4 }]);
  });
});

describe('without an echo server', () => {
  it('finds what answers and quotes show, and never calls a box by a name that is not its own', { timeout: 60_000 }, async () => {
    const shown: string[] = [];
    for (const box of BOXES) {
      const run = await campaignRun(box, 3, { quote: 520, echo: false });
      const names = run.findings.filter((one) => one.certainty !== 'cannot tell').map((one) => `${one.behaviour} ${one.direction}`);
      // A TTL that was set anew and a proxy look alike from one end.
      const allowed = box === 'rewrite-ttl' ? ['proxy forward'] : EXPECTED[box]!;
      expect(
        names.filter((name) => !allowed.includes(name)),
        lineOf(run),
      ).toEqual([]);
      if (names.length > 0) shown.push(box);
      if (names.length > 0 && box !== 'rewrite-ttl') expect(run.placed, lineOf(run)).toBe(true);
      // What was not seen is said.
      const report = probeReport(run.facts.target, run.facts.port, null, run.facts, []);
      if (names.length === 0) expect(report.verdict.join(' '), lineOf(run)).toMatch(/cannot be told|does not answer|cannot tell/);
    }
    expect(shown).toEqual(expect.arrayContaining(['strip-syn', 'drop-syn', 'drop-data', 'rewrite-dscp', 'clamp-mss', 'rewrite-sequence']));
  });
});

it('leaves other connections of the machine alone: what is not for it is neither answered nor reset', async () => {
  const stranger = (now: number, world: ProbeWorld): Uint8Array =>
    buildPacket(ipHeader(world.target, world.client, PROTOCOL.tcp), {
      tcp: {
        sourcePort: 22,
        destinationPort: 22_000,
        seq: now >>> 0,
        ack: 77,
        headerLength: 20,
        reserved: 0,
        flags: 0x18,
        window: 9,
        checksum: 0,
        urgent: 0,
        options: [],
      },
      payload: new Uint8Array(40),
    });
  const answers: Uint8Array[] = [];
  const { facts } = await path({ seed: 4 }, (world) => {
    const deliver = (now: number): void => {
      world.chain.client!(stranger(now, world), now);
      if (now < 3e6) world.agenda.at(now + 5_000, deliver);
    };
    world.agenda.at(1_000, deliver);
    world.hub.log = (direction, bytes) => {
      if (direction === 'out' && new DataView(bytes.buffer, bytes.byteOffset).getUint16(22) === 22) answers.push(bytes);
    };
  });
  expect(facts.echoServer && !facts.echoLost).toBe(true);
  expect(answers).toEqual([]);
});

describe('servers that are not what they seem', () => {
  it('says that a server without an echo server is only half seen', async () => {
    const { facts } = await path({ seed: 1 }, undefined, false);
    const report = probeReport(facts.target, facts.port, null, facts, []);
    expect(report.verdict.join(' ')).toContain('cannot be told');
  });

  it('ends, and says so, when nobody is there', async () => {
    const world = new ProbeWorld({ seed: 1, server: false, link: { delay: 1_500 } });
    const facts = await inVirtualTime(world.agenda, observePath(world.hub, { target: world.target, port: WORLD_PORT }), LIMIT);
    expect(facts.answers).toEqual({ plain: 'nothing', multipath: 'nothing' });
    expect(findings(facts)).toEqual([]);
    expect(probeReport(facts.target, facts.port, null, facts, []).verdict).toContain('The server does not answer.');
    const conversation = await inVirtualTime(world.agenda, converse(world.hub, { address: world.target, port: WORLD_PORT }), 2 * LIMIT);
    expect(conversation.kind).toBe('silent');
  });

  it('survives an echo server that answers anything at all', { timeout: 120_000 }, async () => {
    const random = new Random(5);
    const junk = (): unknown => {
      const choices: (() => unknown)[] = [
        () => null,
        () => random.integer(-5, 5),
        () => 'zz',
        () => '00ff',
        () => [],
        () => [junk()],
        () => ({ ok: true, flows: junk(), serial: junk(), you: junk(), server: '192.0.2.1' }),
        () => ({ ok: true, flows: [{ id: 1, remote: '192.0.2.10', remotePort: 7, irs: 3, packets: 9 }], serial: 0, you: '192.0.2.99', server: '192.0.2.1' }),
        () => ({ ok: true, packets: [{ index: 0, direction: 'in', at: 1, hex: '4500' }], more: true }),
        () => ({ ok: true, packets: [], more: true }),
        () => ({ ok: true, distance: random.integer(0, 300), hops: ['192.0.2.1', null] }),
        () => ({ ok: true, sent: ['45'], hops: [{ ttl: 900, answers: [{ from: '192.0.2.1', rtt: 1, sent: '45', quote: '', type: 1, code: 1 }] }] }),
        () => ({ ok: true, sent: [] }),
        () => ({ ok: false, code: 'X', message: 'no' }),
      ];
      return random.pick(choices)();
    };
    for (let seed = 1; seed <= 15; seed++) {
      const { facts } = await path({ seed, ...(seed % 3 === 0 ? { boxes: [{ name: 'strip-syn', link: 2 }] } : {}) }, (world) => {
        (world.server as unknown as { respond: () => Promise<unknown> }).respond = async () => junk();
      });
      const list = findings(facts);
      expect(probeReport(facts.target, facts.port, null, facts, []).verdict.length).toBeGreaterThan(0);
      // What the hops say is seen all the same.
      if (seed % 3 === 0) expect(facts.observations.find((one) => one.stage === 'syn')!.hops!.filter((hop) => hop.answers.length > 0)).toHaveLength(5);
      for (const one of list) expect(one.from).toBeLessThan(one.to);
    }
  });

  it('asks an echo server that says there is always more for a bounded number of packets', { timeout: 60_000 }, async () => {
    let asked = 0;
    const { facts } = await path({ seed: 3, boxes: [{ name: 'reset-data', link: 2 }] }, (world) => {
      const server = world.server as unknown as { respond: (request: { op: string }, asker: unknown) => Promise<unknown> };
      const honest = server.respond.bind(server);
      server.respond = async (request, asker) => {
        if (request.op !== 'packets') return honest(request, asker);
        asked++;
        return { ok: true, packets: Array.from({ length: 400 }, (_, i) => ({ index: i, direction: 'out', at: 1, hex: '4500' })), more: true };
      };
    });
    expect(asked).toBeLessThan(40);
    expect(facts.resetOnData).toBe(true);
    expect(findings(facts).map((one) => one.behaviour)).toContain('reset-data');
  });

  it('does not take a wrong HMAC for a join', async () => {
    const world = new ProbeWorld({ seed: 2, routers: 1 });
    world.chain.attach(
      editSegments('wrong HMAC', 'backward', ({ tcp }) => {
        const join = tcp.options.find((one) => one.kind === 'mptcp' && one.option.subtype === 'join-synack');
        if (join?.kind !== 'mptcp' || join.option.subtype !== 'join-synack') return false;
        join.option.hmac = join.option.hmac.map((byte) => byte ^ 0x0f);
        return true;
      }),
      0,
    );
    const result = await inVirtualTime(
      world.agenda,
      converse(world.hub, { address: world.target, port: WORLD_PORT, version: 1, steps: ['join', 'join-backup'] }),
      LIMIT,
    );
    expect(result.steps.filter((one) => one.id.startsWith('join')).map((one) => one.judgement)).toEqual(['new deviation', 'new deviation']);
  });

  it('expects the same of every step when a fifth of the packets is lost', { timeout: 120_000 }, async () => {
    for (const version of [1, 0] as const) {
      for (const seed of [1, 2, 3]) {
        const world = new ProbeWorld({ seed, routers: 3, link: { delay: 2_500, loss: 0.055, reorder: 0.05, reorderDelay: 4_000 } });
        const result = await inVirtualTime(world.agenda, converse(world.hub, { address: world.target, port: WORLD_PORT, version, closedPort: 1 }), LIMIT);
        expect(result.steps.filter((one) => one.judgement === 'new deviation').map((one) => `${one.id}: ${one.outcome}`)).toEqual([]);
      }
    }
  });
});

it('has an expectation for each box', () => {
  expect(Object.keys(EXPECTED).sort()).toEqual([...BOXES].sort());
});
