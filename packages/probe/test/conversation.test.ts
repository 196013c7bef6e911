/** The conversation with our own stack, with servers that have no Multipath TCP, and with published traces. */
import { Host } from '@subflow/stack';
import { FLAG } from '@subflow/wire';
import { EmulatedHost, reflectOptions } from '@subflow/emulator';
import { describe, expect, it } from 'vitest';
import {
  converse,
  differences,
  httpRequest,
  inVirtualTime,
  KNOWN,
  layersOf,
  mptcpHex,
  ProbeWorld,
  readTable,
  Session,
  STEPS,
  WORLD_PORT,
  seen,
} from '@subflow/probe';
import type { Conversation, ConversationOptions, WorldOptions } from '@subflow/probe';

const PATH = { routers: 3, link: { delay: 2_500 } } as const;

async function talk(world: ProbeWorld, options: Partial<ConversationOptions> = {}): Promise<Conversation> {
  return inVirtualTime(world.agenda, converse(world.hub, { address: world.target, port: WORLD_PORT, closedPort: 1, ...options }), 900e6);
}

describe('our own stack', () => {
  it.each([0, 1] as const)('conforms in version %i, in every step, over IPv4 and IPv6, within 5 s on a path of 20 ms', async (version) => {
    for (const family of [4, 6] as const) {
      const world = new ProbeWorld({ seed: 1, family, ...PATH });
      const result = await talk(world, { version });
      expect(result.kind).toBe('multipath');
      expect(result.version).toBe(version);
      const expected = STEPS.filter((step) => step.versions.includes(version) && step.patient !== true).map((step) => step.id);
      expect(result.steps.map((step) => step.id)).toEqual(expected);
      expect(result.steps.filter((step) => step.judgement !== 'conforms').map((step) => `${step.id}: ${step.outcome}`)).toEqual([]);
      expect(result.microseconds).toBeLessThan(5e6);
    }
  });

  it('says the same twice', async () => {
    const outcomes = async (): Promise<string[]> => (await talk(new ProbeWorld({ seed: 5, ...PATH }))).steps.map((step) => `${step.id}: ${step.outcome}`);
    expect(await outcomes()).toEqual(await outcomes());
  });

  it('finds version 0 out when the server has no other', async () => {
    const world = new ProbeWorld({ seed: 2, ...PATH, mptcp: { acceptVersions: [0] } });
    const result = await talk(world, { steps: ['data', 'join'] });
    expect(result.version).toBe(0);
    expect(result.steps.map((step) => step.outcome)).toEqual(['v0', 'mptcp', 'joined+data']);
  });

  it('shows checksums and flag C of the server', async () => {
    const world = new ProbeWorld({ seed: 3, ...PATH, mptcp: { checksum: true, denyJoinInitial: true } });
    const result = await talk(world, { steps: ['data', 'capable-data', 'flag-c', 'stray-checksum'] });
    expect(result.steps[0]!.details).toEqual(['SYN+ACK: version 1, flags 0xa1']);
    expect(Object.fromEntries(result.steps.map((step) => [step.id, step.outcome]))).toMatchObject({
      data: 'mptcp',
      'capable-data': 'mptcp',
      'stray-checksum': 'not-applicable',
    });
    expect(result.steps.find((step) => step.id === 'flag-c')!.judgement).toBe('conforms');
  });

  it('acknowledges every third ACK of a join: the fourth packet may have been lost', async () => {
    const world = new ProbeWorld({ seed: 6, ...PATH });
    await inVirtualTime(
      world.agenda,
      (async () => {
        const session = new Session(world.hub, { address: world.target, port: WORLD_PORT, version: 1 });
        await session.open();
        session.confirm();
        await session.send(httpRequest('x'));
        await world.hub.sleep(100_000);
        const join = await session.join();
        for (let i = 0; i < 3; i++) expect(await session.confirmJoin(join), `third ACK number ${i + 1}`).not.toBeNull();
        session.close();
      })(),
    );
  });

  it('closes what it opened in steps that could not go on', async () => {
    const world = new ProbeWorld({ seed: 8, ...PATH, mptcp: { maxSubflows: 0 } });
    const opened = new Set<number>();
    const reset = new Set<number>();
    world.hub.log = (direction, bytes) => {
      const { flags, sourcePort } = seen(bytes)!;
      if (direction === 'in') return;
      if ((flags & FLAG.syn) !== 0 && mptcpHex(bytes)[0]?.startsWith('01') === true) opened.add(sourcePort);
      if ((flags & FLAG.rst) !== 0) reset.add(sourcePort);
    };
    // They need a second subflow, and the server takes none.
    const result = await talk(world, { version: 1, steps: ['infinite-mapping-two', 'plain-two', 'remove-addr', 'prio'] });
    expect(result.steps.slice(1).map((step) => step.judgement)).toEqual(['not run', 'not run', 'not run', 'not run']);
    expect(opened.size).toBeGreaterThan(8);
    expect([...opened].filter((port) => !reset.has(port))).toEqual([]);
  });

  it('leaves no connection behind at the server', async () => {
    const world = new ProbeWorld({ seed: 4, ...PATH });
    await talk(world, { version: 1 });
    world.agenda.runUntil(world.agenda.now + 2e6);
    // The host of the echo server is not public: what it still sends would show.
    const late: string[] = [];
    world.serverHub.log = (direction, bytes, now) => late.push(`${direction} ${now} ${layersOf(bytes)}`);
    const before = world.serverHub.counters.sent;
    world.agenda.runUntil(world.agenda.now + 30e6);
    expect(late).toEqual([]);
    expect(world.serverHub.counters.sent).toBe(before);
  });
});

describe('servers without Multipath TCP', () => {
  const plain = (options: Partial<WorldOptions> = {}): ProbeWorld => {
    const world = new ProbeWorld({ seed: 7, ...PATH, ...options, server: false });
    let seed = 1;
    const node = new EmulatedHost('plain', new Host({ entropy: () => Math.imul(seed++, 0x9e3779b1) >>> 0, mptcp: { enabled: false } }), world.agenda);
    const through = node.host.addInterface({ name: 'plain', mtu: 1500, addresses: [{ address: world.target, bits: 0 }] });
    node.attach(through, (packet) => world.chain.fromServer(packet));
    node.host.listen({ port: WORLD_PORT });
    world.chain.server = (packet, now) => node.receive(through, packet, now);
    return world;
  };

  it('are told as such', async () => {
    const result = await talk(plain());
    expect(result.kind).toBe('plain');
    expect(result.steps.map((step) => [step.id, step.outcome])).toEqual([
      ['capable', 'plain'],
      ['reflection', 'left-alone'],
    ]);
  });

  it.each([0, 1] as const)('are unmasked when they reflect options, version %i', async (version) => {
    const world = plain();
    world.chain.attach(reflectOptions(), 3);
    const result = await talk(world, { version });
    expect(result.kind).toBe('reflects');
    expect(result.steps[0]!.outcome).toBe('reflected');
    expect(result.steps[0]!.judgement).toBe('new deviation');
  });
});

describe('the published conversation of version 0', () => {
  it('has the same option octets where keys and nonces determine them', async () => {
    const world = new ProbeWorld({ seed: 1, routers: 1, mptcp: { acceptVersions: [0], checksum: true } });
    // The published server's key, and the nonce of its SYN+ACK.
    const draws = [0x0c4d5dfc, 0x94d0a464, 0xa29163c5];
    world.serverHub.port.entropy = () => draws.shift() ?? 1;
    const wire: { direction: string; options: string[] }[] = [];
    world.hub.log = (direction, bytes) => wire.push({ direction, options: mptcpHex(bytes) });
    const request = httpRequest('blog.multipath-tcp.org');
    expect(request.length).toBe(72);
    await inVirtualTime(
      world.agenda,
      (async () => {
        const session = new Session(world.hub, { address: world.target, port: WORLD_PORT, version: 0 }, { key: 0x1000000000000000n, checksum: true });
        expect(await session.open({ checksum: true })).toBe(true);
        session.confirm();
        await session.send(request, { dataAck: false });
        await world.hub.sleep(50_000);
        expect(session.token(session.serverKey!)).toBe(0x3a03caf2);
        const join = await session.join({ addressId: 2, nonce: 0x10000000 });
        expect(join.verified).toBe(true);
        session.close();
      })(),
    );
    const sent = wire.filter((one) => one.direction === 'out').flatMap((one) => one.options);
    const received = wire.filter((one) => one.direction === 'in').flatMap((one) => one.options);
    // Option octets behind kind and length, as the traces have them.
    expect(sent[0]).toBe('00811000000000000000');
    expect(received[0]).toBe('00810c4d5dfc94d0a464');
    expect(sent[1]).toBe('008110000000000000000c4d5dfc94d0a464');
    expect(sent).toContain('2004fb4e435d0000000100483aca');
    // DATA_ACK of the 72 octets.
    expect(received.some((one) => one.endsWith('fb4e43a5') || one.includes('fb4e43a5'))).toBe(true);
    expect(sent).toContain('10023a03caf210000000');
    const joinAnswer = received.find((one) => one.startsWith('10') && one.length === 28)!;
    expect(joinAnswer.slice(4, 20)).toBe('56c7a377b2e33fda');
    expect(joinAnswer.slice(20)).toBe('a29163c5');
  });
});

describe('the tables', () => {
  it('name steps that there are, and outcomes that conform or are deviations', () => {
    for (const table of KNOWN)
      for (const id of Object.keys(table.outcomes))
        expect(
          STEPS.map((step) => step.id),
          `${table.name}: ${id}`,
        ).toContain(id);
  });

  it('can be extended: an outcome of a table is a known deviation', async () => {
    const table = readTable({ name: 'mine', version: 1, outcomes: { data: ['fallback'] } });
    const world = new ProbeWorld({ seed: 1, ...PATH, boxes: [{ name: 'strip-data-back', link: 1 }] });
    const result = await talk(world, { version: 1, steps: ['data'], tables: [table] });
    expect(result.steps.find((step) => step.id === 'data')).toMatchObject({ outcome: 'fallback', judgement: 'known deviation' });
    expect(result.steps.find((step) => step.id === 'data')!.known).toContainEqual({ name: 'mine', outcomes: ['fallback'], agrees: true });
  });

  it.each([
    [{ version: 1 }, /name is undefined/],
    [{ name: 'x', version: 7 }, /version 7/],
    [{ name: 'x', version: 1, outcomes: { data: 'mptcp' } }, /"data".*"mptcp"/],
  ])('refuse %j', (value, message) => {
    expect(() => readTable(value)).toThrow(message);
  });

  it('refuses an unknown step by name', async () => {
    const world = new ProbeWorld({ seed: 1, ...PATH });
    await expect(talk(world, { steps: ['nonsense'] })).rejects.toThrow(/no step "nonsense"; expected one of capable/);
  });
});

it('finds no differences between a packet and itself, and names those there are', () => {
  const world = new ProbeWorld({ seed: 1 });
  const session = new Session(world.hub, { address: world.target, port: 1, version: 1 });
  expect(session.token(0x0123456789abcdefn)).toBe(session.token(0x0123456789abcdefn));
  expect(differences(new Uint8Array(10), new Uint8Array(10))).toEqual([]);
});
